"""Noised action chunks in training: a model that scores chunks half-way through the denoising has to have seen such chunks."""

from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from jaxtyping import Int
from torch import Tensor

from dynaguide.errors import UserError
from dynaguide.types import ActionChunk, Observation, repeat_rows


@dataclass(frozen=True)
class ChunkNoise:
    """How chunks are noised in training: as the policy's own are, in the frame in which the policy denoises.

    share         of the chunks that are noised at all
    mean_step     of the geometric distribution of noise levels
    relative_to   the noise is added to (action - obs[relative_to] at the current frame) * scale; null: to the actions
    """

    share: float = 0.0
    mean_step: float = 20.0
    relative_to: str | None = "agent_pos"
    scale: float = 1.4
    num_train_timesteps: int = 100
    beta_schedule: str = "squaredcos_cap_v2"

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and self.mean_step >= 1 and self.scale > 0):
            raise UserError(f"noised chunks need a share in [0, 1], a mean step >= 1 and a scale > 0, not {self}")

    def at_random(self, actions: ActionChunk, obs: Observation) -> ActionChunk:
        """The chunks, a `share` of them at a noise level at random."""
        steps = torch.distributions.Geometric(1 / self.mean_step).sample((len(actions),)).long().clamp(max=self.num_train_timesteps - 1)
        noisy = self.at_steps(actions, obs, steps.to(actions.device))
        chosen = torch.rand(len(actions), device=actions.device) < self.share
        return torch.where(chosen[:, None, None], noisy, actions)

    def at_steps(self, actions: ActionChunk, obs: Observation, steps: Int[Tensor, " batch"]) -> ActionChunk:
        """The chunks at the noise levels `steps`, in the environment's units."""
        origin = repeat_rows(obs[self.relative_to][:, -1:], len(actions)) if self.relative_to else torch.zeros_like(actions[:, :1])
        schedule = DDIMScheduler(num_train_timesteps=self.num_train_timesteps, beta_schedule=self.beta_schedule)
        noisy = schedule.add_noise((actions - origin) * self.scale, torch.randn_like(actions), steps)
        return noisy / self.scale + origin
