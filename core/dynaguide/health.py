"""Can this dynamics model steer? Measured on data that it has not seen, before any rollout.

Each question has numbers, a threshold and a verdict. The thresholds lie well inside what a model that steered measured: error with true actions .12,
negated .98, copying the current frame 1.34; AUROC of outcomes .996 on clean chunks, .97 at noise step 20, .86 at 50.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynaguide.chunks import Batch, ChunkDataset
from dynaguide.encoders.base import resized
from dynaguide.errors import UserError
from dynaguide.noising import ChunkNoise
from dynaguide.outcome_training import DynamicsObjective
from dynaguide.outcomes import Dynamics
from dynaguide.scores import OutcomeScore
from dynaguide.types import to_float_image

Verdict = Literal["yes", "no", "unknown"]
Variant = Callable[[Tensor], Tensor]  # of the action chunks
NOISE_STEPS = (0, 20, 50, 80)
GRADIENT_STEPS = (0, 10, 20, 40, 60, 80, 95)
PARTS = 5  # of an episode, for the error as it goes on
AT_ONCE = 32  # windows a forward pass
SMALL_STEP = 1e-3
NEGATED_AT_LEAST = 2.0  # times the error with the true actions
COPY_AT_LEAST = 2.0
AUROC_AT_LEAST = {0: 0.9, 20: 0.85}
RISES_AT_LEAST = 0.95
EPISODES_AT_LEAST = 5  # with and without the behaviour: an AUROC of fewer says nothing


@dataclass(frozen=True)
class Answer:
    """One question's verdict, and what it rests on."""

    question: str
    verdict: Verdict
    because: str
    numbers: dict[str, Any] = field(default_factory=dict)


class Health(NamedTuple):
    """All answers; the model can steer if every question that decides it is answered yes."""

    answers: list[Answer]

    @property
    def can_steer(self) -> bool:
        deciding = [answer for answer in self.answers if answer.question in DECIDING]
        return all(answer.verdict == "yes" for answer in deciding)

    def to_dict(self) -> dict[str, Any]:
        return {"can_steer": self.can_steer, "questions": {answer.question: asdict(answer) for answer in self.answers}}


LISTENS, PREDICTS, IMPROVES = "listens to the action", "predicts better than the current frame", "predicts better as the episode goes on"
RECONSTRUCTS, SEPARATES_TRUE = "draws what it predicts", "true outcomes separate the behaviour"
SEPARATES, SEPARATES_NOISY, RISES = (
    "predicted outcomes separate the behaviour",
    "also from noisy chunks",
    "small steps along the gradient raise the score",
)
DECIDING = (LISTENS, PREDICTS, SEPARATES_TRUE, SEPARATES, SEPARATES_NOISY, RISES)


class Examined(NamedTuple):
    """What is measured on: windows at random, each episode's first window, and what the episodes show."""

    data: ChunkDataset
    windows: NDArray[np.int64]
    first: NDArray[np.int64]
    behaviors: list[str]  # of each episode


def auroc(wanted: NDArray[Any], others: NDArray[Any]) -> float:
    """The chance that a wanted one scores higher than another; nan without either."""
    if not len(wanted) or not len(others):
        return float("nan")
    return float((wanted[:, None] > others).mean() + 0.5 * (wanted[:, None] == others).mean())


def health(dynamics: Dynamics, examined: Examined, score: OutcomeScore, key: str, *, seed: int = 0) -> Health:
    """All questions. score: of outcomes; its conditions show the behaviour `key`, and come from episodes that are not examined"""
    if key not in examined.behaviors:
        raise UserError(f"no examined episode shows {key!r} (they show: {', '.join(sorted(set(examined.behaviors)))})")
    torch.manual_seed(seed)
    patient = _Patient(dynamics, examined, score)
    return Health([*patient.errors(), patient.over_the_episode(), patient.drawing(), *patient.separation(key), patient.gradient()])


class _Patient:
    def __init__(self, dynamics: Dynamics, examined: Examined, score: OutcomeScore) -> None:
        self.dynamics, self.examined, self.score = dynamics, examined, score
        self.tokens = DynamicsObjective(dynamics).eval().tokens
        self.noise = ChunkNoise(share=1.0, relative_to=None, scale=1.0)

    def errors(self) -> list[Answer]:
        """Squared errors of the prediction with the true actions, and with others in their place."""
        variants: dict[str, Variant] = {
            "true": lambda actions: actions,
            "jiggled": lambda actions: actions + 0.05 * torch.randn_like(actions),
            "negated": lambda actions: -actions,
            "shuffled": lambda actions: actions.roll(1, 0),  # the windows come in random order
            "noise": torch.randn_like,
        }
        found = {name: self._error(variant) for name, variant in variants.items()}
        found["copy of the current frame"] = self._error(None)
        found |= {f"noised to step {step}": self._error(self._noised(step)) for step in NOISE_STEPS[1:]}
        negated, copy = found["negated"] / found["true"], found["copy of the current frame"] / found["true"]
        return [
            _at_least(LISTENS, negated, NEGATED_AT_LEAST, "negating the actions multiplies the error by", found),
            _at_least(PREDICTS, copy, COPY_AT_LEAST, "copying the current frame multiplies the error by", found),
        ]

    def over_the_episode(self) -> Answer:
        """The error by how much of the episode has passed."""
        data, windows = self.examined.data, self.examined.windows
        passed = data.step(windows) / (data.step(windows) + data.steps_left(windows))
        per_window = torch.cat([self._window_errors(batch, batch.actions) for batch in self._batches(windows)]).numpy()
        part = np.minimum((passed * PARTS).astype(int), PARTS - 1)
        errors = {f"{100 * i // PARTS}-{100 * (i + 1) // PARTS} %": float(per_window[part == i].mean()) for i in range(PARTS) if (part == i).any()}
        ends = list(errors.values())
        if len(ends) < 2:
            return Answer(IMPROVES, "unknown", "the episodes are too short to say", errors)
        better = ends[-1] < ends[0]
        return Answer(IMPROVES, "yes" if better else "no", f"the error is {ends[0]:.3g} at the start and {ends[-1]:.3g} at the end", errors)

    def drawing(self) -> Answer:
        """The decoder's error on true outcomes, against that of the mean picture."""
        cameras = self.dynamics.config.cameras
        if self.dynamics.decoder is None:
            return Answer(RECONSTRUCTS, "unknown", "it was trained without a picture decoder")
        batch = next(self._batches(self.examined.windows))
        if cameras[0] not in batch.outcome:
            return Answer(RECONSTRUCTS, "unknown", "the pictures were not read")
        drawn = self.dynamics.pictures(self.tokens(batch.outcome))[:, 0]
        true = resized(to_float_image(batch.outcome[cameras[0]][:, -1]), drawn.shape[-1])
        error, blank = float((drawn - true).square().mean()), float((true.mean(0) - true).square().mean())
        numbers = {"decoded": error, "mean picture": blank}
        return Answer(RECONSTRUCTS, "yes" if error < blank else "no", f"squared error {error:.2g}, of the mean picture {blank:.2g}", numbers)

    def separation(self, key: str) -> list[Answer]:
        """Whether the score tells the behaviour's outcomes from the others': true ones, and those predicted from each episode's first window."""
        behaviors = np.array(self.examined.behaviors)
        true = self._scores(None)
        predicted = {step: self._scores(step) for step in NOISE_STEPS}
        areas = {step: auroc(scores[behaviors == key], scores[behaviors != key]) for step, scores in predicted.items()}
        noisy = {f"AUROC at noise step {step}": value for step, value in areas.items()}
        counts = (int((behaviors == key).sum()), int((behaviors != key).sum()))
        if min(counts) < EPISODES_AT_LEAST:
            because = f"{counts[0]} episodes show {key} and {counts[1]} do not: at least {EPISODES_AT_LEAST} of each are asked"
            return [Answer(question, "unknown", because) for question in (SEPARATES_TRUE, SEPARATES, SEPARATES_NOISY)]
        words, area = f"AUROC of {key} against the rest", auroc(true[behaviors == key], true[behaviors != key])
        return [
            _at_least(SEPARATES_TRUE, area, AUROC_AT_LEAST[0], words, _by_behavior(true, behaviors, key)),
            _at_least(SEPARATES, areas[0], AUROC_AT_LEAST[0], words, _by_behavior(predicted[0], behaviors, key)),
            _at_least(SEPARATES_NOISY, areas[20], AUROC_AT_LEAST[20], "AUROC at noise step 20", noisy),
        ]

    def gradient(self) -> Answer:
        """Its norm by noise level, and how often a small step along it raises the score."""
        windows = self.examined.first[:AT_ONCE]
        norms, rises = {}, []
        for step in GRADIENT_STEPS:
            batch = self._on_device(self.examined.data.batch(windows))
            score = self._bound(batch)
            chunk = self._noised(step)(batch.actions).requires_grad_()
            before = score(chunk)
            (gradient,) = torch.autograd.grad(before.sum(), chunk)
            norm = gradient.flatten(1).norm(dim=1)
            norms[f"step {step}"] = float(norm.median())
            with torch.no_grad():
                after = score(chunk + SMALL_STEP * gradient / norm.clamp_min(1e-9)[:, None, None])
            rises.append(((after >= before) & (norm > 0)).float().mean().item())
        share = float(np.mean(rises))
        return _at_least(RISES, share, RISES_AT_LEAST, "share of small steps that raise it", {"median gradient norm": norms})

    def _error(self, variant: Variant | None) -> float:
        errors = [self._window_errors(batch, variant and variant(batch.actions)) for batch in self._batches(self.examined.windows)]
        return float(torch.cat(errors).mean())

    @torch.no_grad()
    def _window_errors(self, batch: Batch, actions: Tensor | None) -> Tensor:
        now, after = self.tokens(batch.obs), self.tokens(batch.outcome)
        predicted = now if actions is None else self._predict(batch, now)(actions)
        return (predicted - after).square().mean((1, 2)).cpu()

    @torch.no_grad()
    def _scores(self, step: int | None) -> NDArray[Any]:
        """Of each episode's outcome: the true one, or the one predicted from its first window noised to `step`."""
        found = []
        for batch in self._batches(self.examined.first):
            outcome = self.tokens(batch.outcome)
            if step is not None:
                outcome = self._predict(batch, self.tokens(batch.obs))(self._noised(step)(batch.actions))
            found.append(self.score(outcome).cpu())
        return torch.cat(found).numpy()

    def _bound(self, batch: Batch) -> Callable[[Tensor], Tensor]:
        predict = self._predict(batch, self.tokens(batch.obs))
        return lambda actions: self.score(predict(actions))

    def _predict(self, batch: Batch, now: Tensor) -> Callable[[Tensor], Tensor]:
        key = self.dynamics.config.proprio_key
        return self.dynamics.model.given(now, batch.obs[key][:, -1] if key else None)

    def _noised(self, step: int) -> Variant:
        def noised(actions: Tensor) -> Tensor:
            levels = torch.full((len(actions),), step)
            return self.noise.at_steps(actions, {}, levels) if step else actions.clone()

        return noised

    def _batches(self, windows: NDArray[np.int64]) -> Iterator[Batch]:
        """A few windows at a time: what is examined never lies in memory at once."""
        parts = (windows[start : start + AT_ONCE] for start in range(0, len(windows), AT_ONCE))
        return (self._on_device(self.examined.data.batch(part)) for part in parts)

    def _on_device(self, batch: Batch) -> Batch:
        return batch.to(next(self.dynamics.model.parameters()).device)


def _by_behavior(scores: NDArray[Any], behaviors: NDArray[Any], key: str) -> dict[str, Any]:
    """The scores of each behaviour's outcomes, and how well `key` is told from each of the others."""
    by_name = {name: scores[behaviors == name] for name in sorted(set(behaviors.tolist()))}
    against = {name: auroc(by_name[key], others) for name, others in by_name.items() if name != key}
    return {"scores": {name: values.tolist() for name, values in by_name.items()}, "AUROC against": against}


def _at_least(question: str, value: float, threshold: float, words: str, numbers: dict[str, Any]) -> Answer:
    if not np.isfinite(value):
        return Answer(question, "unknown", f"{words} could not be measured", numbers)
    verdict: Verdict = "yes" if value >= threshold else "no"
    return Answer(question, verdict, f"{words} {value:.3g} (at least {threshold} is asked)", {**numbers, "value": value, "threshold": threshold})


def examined(data: ChunkDataset, behaviors: list[str], *, max_windows: int, seed: int = 0) -> Examined:
    """Windows at random, and every episode's first."""
    rng = np.random.default_rng(seed)
    count = len(data.episode_of)
    windows = rng.permutation(count)[:max_windows]
    return Examined(data, windows, np.unique(data.first).astype(np.int64), behaviors)
