"""Scores: how much an action chunk is wanted. A guidance climbs a score, a selector ranks by it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from dynaguide.classifier import EndStateClassifier, checked_weights
from dynaguide.dynamics import Tokens
from dynaguide.errors import UserError, unknown_name
from dynaguide.outcomes import Dynamics
from dynaguide.types import ActionChunk, BoundScore, Observation, Score

AWAY = ("log_p", "log_not_p")
Distance = Literal["euclidean", "squared", "weighted"]
OutcomeScore = Callable[[Tokens], Float[Tensor, " batch"]]
_SOFTNESS = 0.5  # added to the standard deviation of a number of a token: what varies less than this counts about equally


@dataclass(frozen=True)
class Conditions:
    """Pictures of wanted and of unwanted outcomes, as tokens; any number of each, not none of both."""

    positive: Float[Tensor, "wanted token width"] | None = None
    negative: Float[Tensor, "unwanted token width"] | None = None

    def __post_init__(self) -> None:
        if self.positive is None and self.negative is None:
            raise UserError("a goal score needs pictures of wanted or of unwanted outcomes: there are neither")
        for name, tokens in (("wanted", self.positive), ("unwanted", self.negative)):
            if tokens is not None and len(tokens) == 0:
                raise UserError(f"the set of pictures of {name} outcomes is empty")


def goal_score(
    dynamics: Dynamics, conditions: Conditions, sigma: float, *, distance: Distance = "euclidean", cameras: Sequence[str] | None = None
) -> Score:
    """d = log sum_i exp(-|g_i+ - z| / sigma) - log sum_j exp(-|g_j- - z| / sigma), z the predicted outcome (Eq. 2).

    sigma      how sharply the nearest conditions count, --alpha
    distance   Euclidean as the paper found best; squared as it derives it; weighted: Euclidean, and what a set's pictures agree on counts most
               (for pictures that show one part as wanted and everything else as it happens to be)
    cameras    whose pictures are compared; None: all
    """
    compare = score_of_outcomes(dynamics, conditions, sigma, distance=distance, cameras=cameras)

    def given(obs: Observation) -> BoundScore:
        predict = dynamics.given(obs)
        return lambda actions: compare(predict(actions))

    return Score(given)


def score_of_outcomes(
    dynamics: Dynamics, conditions: Conditions, sigma: float, *, distance: Distance = "euclidean", cameras: Sequence[str] | None = None
) -> OutcomeScore:
    """`goal_score` as a function of the outcome: of one that the dynamics model predicts, or of a true one's tokens."""
    metric = outcome_metric(_seen_by(conditions, dynamics, cameras), sigma, distance=distance)
    shape = (dynamics.config.image_tokens, dynamics.config.features)
    for tokens in (conditions.positive, conditions.negative):
        if tokens is not None and tuple(tokens.shape[1:]) != shape:
            raise UserError(f"the conditions' tokens have the shape {tuple(tokens.shape[1:])}, the dynamics model predicts {shape}")
    return lambda outcome: metric(_tokens_of(outcome, dynamics, cameras))


def _seen_by(conditions: Conditions, dynamics: Dynamics, cameras: Sequence[str] | None) -> Conditions:
    for camera in cameras or ():
        if camera not in dynamics.config.cameras:
            raise unknown_name("camera to compare by", camera, list(dynamics.config.cameras))
    sets = (conditions.positive, conditions.negative)
    return Conditions(*(None if tokens is None else _tokens_of(tokens, dynamics, cameras) for tokens in sets))


def _tokens_of(outcomes: Tokens, dynamics: Dynamics, cameras: Sequence[str] | None) -> Float[Tensor, "batch compared width"]:
    """Those of some cameras; an outcome has as many of each, in the cameras' order."""
    if not cameras:
        return outcomes
    parts = outcomes.chunk(len(dynamics.config.cameras), 1)
    return torch.cat([parts[dynamics.config.cameras.index(camera)] for camera in cameras], 1)


def outcome_metric(conditions: Conditions, sigma: float, *, distance: Distance = "euclidean") -> OutcomeScore:
    """Eq. 2 as a function of an outcome's tokens, all of which are compared."""
    if not 0 < sigma < float("inf"):
        raise UserError(f"sigma (--alpha) must be positive, not {sigma}")
    if distance not in get_args(Distance):
        raise unknown_name("distance", distance, list(get_args(Distance)))
    signed = [(sign, _Near(tokens, distance)) for sign, tokens in ((1.0, conditions.positive), (-1.0, conditions.negative)) if tokens is not None]

    def metric(outcome: Tokens) -> Tensor:
        return torch.stack([sign * torch.logsumexp(-near.distances(outcome) / sigma, dim=1) for sign, near in signed]).sum(0)

    return metric


class _Near:
    """Distances to a set of conditions, as one product of matrices; centred on the set first, which costs no precision where it counts."""

    def __init__(self, conditions: Tokens, distance: Distance) -> None:
        flat = conditions.flatten(1)
        self._centre = flat.mean(0)
        self._weights = _agreement(flat) if distance == "weighted" else torch.ones_like(self._centre)
        self._conditions = (flat - self._centre) * self._weights
        self._norms = self._conditions.square().sum(1)
        self._distance = distance

    def distances(self, outcome: Tokens) -> Float[Tensor, "batch condition"]:
        z = (outcome.flatten(1).to(self._centre.dtype) - self._centre) * self._weights
        squared = (z.square().sum(1, keepdim=True) - 2 * z @ self._conditions.T + self._norms).clamp_min(1e-6)
        return squared if self._distance == "squared" else squared.sqrt()


def _agreement(flat: Float[Tensor, "condition number"]) -> Float[Tensor, " number"]:
    """How much each number of an outcome counts: the less, the more it varies within the set. Their mean square is 1."""
    weights = 1 / (flat.std(0, correction=0) + _SOFTNESS)
    return weights / weights.square().mean().sqrt()


Positions = Callable[[Observation, ActionChunk], Float[Tensor, "batch step coordinate"]]


def position_score(positions: Positions, target: Sequence[float]) -> Score:
    """Position guidance (ITPS): minus the mean distance between a place and where the chunk leads. positions: obs, chunk -> a path"""
    if not target or not all(map(_finite, target)):
        raise UserError(f"position guidance needs a target of finite coordinates, not {list(target)}")

    def score(obs: Observation, actions: ActionChunk) -> Tensor:
        path = positions(obs, actions)
        if path.shape[-1] != len(target):
            raise UserError(f"the target has {len(target)} coordinates, the positions have {path.shape[-1]}")
        return -torch.linalg.vector_norm(path - torch.tensor(target, dtype=path.dtype, device=path.device), dim=-1).mean(1)

    return Score.of(score)


def displaced(key: str, step_size: float, *, first: int = 1) -> Positions:
    """The path of something whose position is the first numbers of obs[key], moved by the first numbers of every action from `first` on."""

    def positions(obs: Observation, actions: ActionChunk) -> Tensor:
        start = obs[key][:, -1:, :3]
        return start + step_size * actions[:, first:, :3].cumsum(1)

    return positions


def _finite(number: float) -> bool:
    return abs(number) < float("inf")


def class_score(classifier: EndStateClassifier, weights: Sequence[float], *, away: str = "log_p") -> Score:
    """sum_i w_i log p_i of an end-state classifier (appendix A.1).

    weights   one for each of `classifier.classes`: (0, 1, 0, 0) wants the second class, (-1, 0, 0, 0) anything but the first
    away      what a negative weight means. log_p: -|w| log p, as published, which rises without bound; log_not_p: |w| log(1 - p), whose gradient
              ends where the class has become unlikely
    """
    if away not in AWAY:
        raise unknown_name("meaning of a negative weight", away, list(AWAY))
    given_weights = checked_weights(classifier.classes, weights)

    def given(obs: Observation) -> BoundScore:
        if classifier.image_key not in obs:
            raise UserError(f"the classifier needs the observation {classifier.image_key!r} (given: {', '.join(obs)})")
        embedding = classifier.embed(obs[classifier.image_key][:, -1])

        def score(actions: ActionChunk) -> Tensor:
            log_p = classifier.log_probabilities(embedding, actions)
            wanted = torch.tensor(given_weights, dtype=log_p.dtype, device=log_p.device)
            if away == "log_p":
                return log_p @ wanted
            return log_p @ wanted.clamp(min=0) + _log_not(log_p) @ (-wanted).clamp(min=0)

        return score

    return Score(given)


def _log_not(log_p: Tensor) -> Tensor:
    """log(1 - p) of each class, as the log of what the others sum to: exact where p is close to 1. (B, classes) -> (B, classes)"""
    itself = torch.eye(log_p.shape[-1], dtype=torch.bool, device=log_p.device)
    return torch.logsumexp(log_p[:, None].masked_fill(itself, float("-inf")), dim=-1)
