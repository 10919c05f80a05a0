"""Guidances: what is subtracted from the predicted noise. They add, and each can be held to some of the steps or capped."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dynaguide.errors import UserError
from dynaguide.types import ActionChunk, BoundGuidance, BoundScore, ChunkFunction, Denoising, Observation, Score, identity

Differentiate = Literal["noisy", "clean_estimate"]


@dataclass(frozen=True)
class Guidance:
    """`guidance.given(obs)(at)` is a direction in chunk space; the loop subtracts it, times sqrt(1 - alpha_bar_k), from the predicted noise.

    `ascend(reach, 1.5).last(6) + ascend(stay_clear, 0.5).capped(1.0)` is a guidance too.
    """

    given: Callable[[Observation], BoundGuidance]

    def __add__(self, other: "Guidance") -> "Guidance":
        def given(obs: Observation) -> BoundGuidance:
            one, two = self.given(obs), other.given(obs)
            return lambda at: one(at) + two(at)

        return Guidance(given)

    def last(self, steps: int) -> "Guidance":
        """Only in the last `steps` denoising steps."""
        return self._where(lambda steps_left: steps_left <= steps)

    def before_last(self, steps: int) -> "Guidance":
        """In all but the last `steps` denoising steps: it decides what is done, and the policy alone how exactly."""
        return self._where(lambda steps_left: steps_left > steps)

    def _where(self, holds: Callable[[int], bool]) -> "Guidance":
        def given(obs: Observation) -> BoundGuidance:
            inner = self.given(obs)
            return lambda at: inner(at) if holds(at.steps_left) else torch.zeros_like(at.noisy)

        return Guidance(given)

    def capped(self, ratio: float) -> "Guidance":
        """Shrunk, row by row, so that sqrt(1 - alpha_bar_k) |g| <= ratio |eps|."""
        if ratio <= 0:
            raise UserError(f"a guidance cap must be positive, not {ratio}")

        def given(obs: Observation) -> BoundGuidance:
            inner = self.given(obs)
            return lambda at: shrink_to(inner(at), ratio * row_norm(at.noise) / at.noise_std)

        return Guidance(given)


no_guidance = Guidance(lambda obs: lambda at: torch.zeros_like(at.noisy))


def row_norm(chunk: ActionChunk) -> Tensor:
    """(batch, horizon, action) -> (batch, 1, 1)"""
    return torch.linalg.vector_norm(chunk, dim=(1, 2), keepdim=True)


def shrink_to(chunk: ActionChunk, limit: Tensor) -> ActionChunk:
    """Rows longer than `limit` are scaled down to it."""
    return chunk * (limit / row_norm(chunk).clamp_min(1e-12)).clamp(max=1)


def ascend(score: Score | Callable[[Observation, ActionChunk], Tensor], scale: float, *, on: Differentiate = "noisy") -> Guidance:
    """s grad_a d: climbs a score, differentiated at the noisy chunk or at its clean estimate. The policy itself is never differentiated."""
    if on not in ("noisy", "clean_estimate"):
        raise UserError(f"ascend differentiates on 'noisy' or 'clean_estimate', not {on!r}")
    scored = Score.of(score)

    def given(obs: Observation) -> BoundGuidance:
        if scale == 0:
            return lambda at: torch.zeros_like(at.noisy)
        bound = scored.given(obs)
        return lambda at: scale * score_gradient(bound, at, on)

    return Guidance(given)


def score_gradient(score: BoundScore, at: Denoising, on: Differentiate) -> ActionChunk:
    """The gradient of a bound score, row by row, with its shape and its finiteness checked."""
    with torch.enable_grad():
        chunk = (at.noisy if on == "noisy" else at.clean_estimate).detach().requires_grad_()
        values = score(at.to_actions(chunk))
        if values.shape != chunk.shape[:1]:
            raise UserError(f"a score must return one number a chunk, shape {tuple(chunk.shape[:1])}, not {tuple(values.shape)}")
        if not values.requires_grad:
            raise UserError("a score must be differentiable in the actions: its result does not depend on them")
        (gradient,) = torch.autograd.grad(values.sum(), chunk)
    if not torch.isfinite(gradient).all():
        rows = (~torch.isfinite(gradient)).flatten(1).any(1).nonzero().flatten().tolist()
        raise UserError(f"the score's gradient is not finite at denoising step {at.timestep} (rows {rows} of {len(gradient)})")
    return gradient


@dataclass(frozen=True)
class Refiner:
    """What happens to finished chunks before one is chosen: `refiner.given(obs, to_actions)(chunk)`, both as the policy denoises them."""

    given: Callable[[Observation, ChunkFunction], ChunkFunction]


untouched = Refiner(lambda obs, to_actions: identity)


def optimise(
    score: Score | Callable[[Observation, ActionChunk], Tensor], *, steps: int = 25, step_size: float = 0.005, limit: float = 1.0
) -> Refiner:
    """Direct optimisation of the finished chunk (GPC-OPT): gradient ascent on the score, kept within +-limit. The policy has no say in it."""
    if steps < 0 or not step_size > 0:
        raise UserError(f"direct optimisation needs steps >= 0 and a positive step size, not {steps} and {step_size}")
    scored = Score.of(score)

    def given(obs: Observation, to_actions: ChunkFunction) -> ChunkFunction:
        bound = scored.given(obs)

        def climb(chunk: ActionChunk) -> ActionChunk:
            for _ in range(steps):
                at = Denoising(chunk, chunk, torch.zeros(()), torch.zeros_like(chunk), 0, 0, to_actions)
                chunk = (chunk + step_size * score_gradient(bound, at, "noisy")).clamp(-limit, limit)
            return chunk

        return climb

    return Refiner(given)
