"""The seam through which every method steers a frozen diffusion policy, and the only reverse-diffusion loop in the repository."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from dynaguide.errors import UserError
from dynaguide.guidance import Guidance, Refiner, no_guidance, untouched
from dynaguide.selectors import first
from dynaguide.types import (
    ActionChunk,
    BoundGuidance,
    BoundPolicy,
    ChunkFunction,
    Denoiser,
    Denoising,
    GuidedStep,
    NoiseSource,
    Observation,
    Selector,
    batch_size,
    identity,
)


def gaussian(obs: Observation, shape: tuple[int, int, int], rngs: list[torch.Generator]) -> ActionChunk:
    """Standard normal noise, each row drawn alone from its episode's generator, so that a row never depends on its neighbours."""
    device = next(iter(obs.values())).device
    return torch.stack([torch.randn(shape[1:], generator=rng).to(device) for rng in rngs])


@dataclass(frozen=True)
class Steering:
    """How a frozen policy is steered; the default leaves it alone.

    noise              where the reverse process starts
    guidance           g in eps - sqrt(1 - alpha_bar_k) g, at every step (Eq. 3)
    refine             what happens to finished candidates (direct optimisation)
    select             which of the finished candidates is executed
    candidates         chunks drawn for each observation
    repeats            M of Algorithm 1, --ss: how often each step is run
    renoise            whether a repeat first goes back to the step's own noise level (ITPS); False runs the step again from
                       where it arrived, as the published code does
    consistent_clamp   recompute the noise from the clamped clean estimate, so that clamping never turns guidance around;
                       False is the published loop
    """

    noise: NoiseSource = gaussian
    guidance: Guidance = no_guidance
    refine: Refiner = untouched
    select: Selector = first
    candidates: int = 1
    repeats: int = 1
    renoise: bool = False
    consistent_clamp: bool = True

    def __post_init__(self) -> None:
        for name in ("candidates", "repeats"):
            if getattr(self, name) < 1:
                raise UserError(f"steering needs {name} >= 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class OtherSteps:
    """A policy with another number of denoising steps."""

    policy: Denoiser
    inference_steps: int

    @property
    def action_shape(self) -> tuple[int, int]:
        return self.policy.action_shape

    @property
    def scheduler(self) -> Any:
        return self.policy.scheduler

    def given(self, obs: Observation) -> BoundPolicy:
        return self.policy.given(obs)


def with_steps(policy: Denoiser, steps: int | None) -> Denoiser:
    """The policy, denoising in `steps` steps; None leaves it its own."""
    if steps is None:
        return policy
    trained = policy.scheduler.config.num_train_timesteps
    if not 1 <= steps <= trained:
        raise UserError(f"--inference_steps must lie between 1 and the {trained} steps that the policy was trained with, not {steps}")
    return OtherSteps(policy, steps)


def ready(scheduler: Any, inference_steps: int) -> Any:
    """The scheduler, set to its inference steps; refused by name when the loop's mathematics does not hold for it."""
    name = type(scheduler).__name__
    if not isinstance(scheduler, DDIMScheduler | DDPMScheduler):
        raise UserError(f"cannot steer through {name}: use DDIMScheduler or DDPMScheduler (others keep state between steps)")
    predicts = scheduler.config.prediction_type
    if predicts != "epsilon":
        raise UserError(f"cannot steer through a {name} that predicts {predicts!r}: guidance needs one that predicts the noise ('epsilon')")
    scheduler.set_timesteps(inference_steps)
    return scheduler


def moment(
    scheduler: Any, timestep: int | Tensor, noisy: ActionChunk, noise: ActionChunk, steps_left: int = 1, to_actions: ChunkFunction = identity
) -> Denoising:
    """Where the reverse process stands; the clean estimate (a^k - sqrt(1 - alpha_bar_k) eps) / sqrt(alpha_bar_k) is clamped if the scheduler does."""
    alpha_bar = scheduler.alphas_cumprod[timestep].to(noisy)
    noise_std = (1 - alpha_bar).sqrt()
    clean = (noisy - noise_std * noise) / alpha_bar.sqrt()
    if scheduler.config.clip_sample:
        limit = scheduler.config.clip_sample_range
        clean = clean.clamp(-limit, limit)
    return Denoising(noisy, clean, noise_std, noise, int(timestep), steps_left, to_actions)


def denoise(policy: Denoiser, obs: Observation, steering: Steering, rngs: list[torch.Generator]) -> Iterator[GuidedStep]:
    """Algorithm 1 with all of its slots: yields every step of the reverse process, the last one ending in the finished chunks.

    `rngs` holds one generator for each row of `obs`. Nothing carries an autograd graph from one step to the next.
    """
    if len(rngs) != batch_size(obs):
        raise UserError(f"steering needs one random generator a row of the observation: {len(rngs)} for {batch_size(obs)} rows")
    rngs = [rng for rng in rngs for _ in range(steering.candidates)]
    scheduler = ready(policy.scheduler, policy.inference_steps)
    with torch.no_grad():
        reverse = _Reverse(scheduler, steering, rngs, policy.given(obs), steering.guidance.given(obs))
        chunk = steering.noise(obs, (len(rngs), *policy.action_shape), rngs)
    timesteps = scheduler.timesteps.tolist()
    for index, timestep in enumerate(timesteps):
        for repeat in range(steering.repeats):
            step, clean = reverse.step(chunk, timestep, len(timesteps) - index)
            yield step
            again = steering.renoise and repeat < steering.repeats - 1
            chunk = reverse.back_to(timestep, clean, obs) if again else step.denoised


class _Reverse(NamedTuple):
    """The reverse process of one batch: a policy and a guidance that have seen their observation."""

    scheduler: Any
    steering: Steering
    rngs: list[torch.Generator]
    policy: BoundPolicy
    guide: BoundGuidance

    @torch.no_grad()
    def step(self, chunk: ActionChunk, timestep: int, steps_left: int) -> tuple[GuidedStep, ActionChunk]:
        """a^k -> a^(k-1), and the clean estimate that the step went by."""
        noise = self.policy.predict_noise(chunk, timestep)
        at = moment(self.scheduler, timestep, chunk, noise, steps_left, self.policy.to_actions)
        guidance = self.guide(at)
        clamp = {"use_clipped_model_output": self.steering.consistent_clamp} if isinstance(self.scheduler, DDIMScheduler) else {}
        made = self.scheduler.step(noise - at.noise_std * guidance, timestep, chunk, generator=self.rngs, **clamp)
        return GuidedStep(at, guidance, made.prev_sample), made.pred_original_sample

    @torch.no_grad()
    def back_to(self, timestep: int, clean: ActionChunk, obs: Observation) -> ActionChunk:
        """The clean estimate under fresh noise of step k."""
        fresh = gaussian(obs, (clean.shape[0], clean.shape[1], clean.shape[2]), self.rngs)
        return self.scheduler.add_noise(clean, fresh, torch.full((len(clean),), timestep, device=clean.device))


def sample_actions(
    policy: Denoiser,
    obs: Observation,
    steering: Steering,
    rngs: list[torch.Generator],
    on_step: Callable[[GuidedStep], None] | None = None,
) -> ActionChunk:
    """One finished action chunk, in the environment's units, for each row of `obs`; `on_step` sees every step on the way."""
    for step in denoise(policy, obs, steering, rngs):
        if on_step is not None:
            on_step(step)
    to_actions = step.at.to_actions
    actions = to_actions(steering.refine.given(obs, to_actions)(step.denoised))
    if steering.candidates == 1:
        return actions
    return chosen(actions.unflatten(0, (len(rngs), steering.candidates)), steering.select, obs)


@torch.no_grad()
def chosen(candidates: Tensor, select: Selector, obs: Observation) -> ActionChunk:
    """The candidate that the selector names, for each row. candidates: (batch, candidate, horizon, action)"""
    index = select.given(obs)(candidates)
    return candidates[torch.arange(len(candidates), device=candidates.device), index]
