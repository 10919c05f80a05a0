"""Scores: how much an action chunk is wanted. A guidance climbs a score, a selector ranks by it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dynaguide.classifier import EndStateClassifier, checked_weights
from dynaguide.errors import UserError, unknown_name
from dynaguide.types import ActionChunk, BoundScore, Observation, Score

AWAY = ("log_p", "log_not_p")


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
