"""Selectors: which of several finished chunks is executed."""

from collections.abc import Callable

import torch
from torch import Tensor

from dynaguide.errors import UserError
from dynaguide.types import ActionChunk, BoundSelector, Observation, Score, Selector

first = Selector(lambda obs: lambda candidates: torch.zeros(len(candidates), dtype=torch.long, device=candidates.device))


def best_of(score: Score | Callable[[Observation, ActionChunk], Tensor]) -> Selector:
    """The candidate with the highest score (GPC-Rank): the same score that a guidance climbs."""
    scored = Score.of(score)

    def given(obs: Observation) -> BoundSelector:
        bound = scored.given(obs)
        return lambda candidates: argmax_of(bound(candidates.flatten(0, 1)), candidates)

    return Selector(given)


def argmax_of(values: Tensor, candidates: Tensor) -> Tensor:
    """values: one for each chunk; candidates: (batch, candidate, horizon, action) -> (batch,)"""
    if values.shape != (candidates.shape[0] * candidates.shape[1],):
        raise UserError(f"a score must return one number a chunk, shape ({candidates.shape[0] * candidates.shape[1]},), not {tuple(values.shape)}")
    if not torch.isfinite(values).all():
        raise UserError("the score of a finished chunk is not finite")
    return values.unflatten(0, candidates.shape[:2]).argmax(1)
