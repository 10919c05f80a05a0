"""A policy small enough to write down, on real diffusers schedulers."""

from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from dynaguide import BoundPolicy, Observation
from dynaguide.types import repeat_rows

GOAL = torch.tensor([0.8, -0.5])


def ddim(**changes: Any) -> DDIMScheduler:
    settings = {"num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2", "clip_sample": True, "set_alpha_to_one": True, "steps_offset": 0}
    return DDIMScheduler(**{**settings, **changes})


@dataclass
class ToyPolicy:
    """Pulls each chunk towards a point that the observation names; its noise prediction is rough, so that clamping happens."""

    scheduler: Any = field(default_factory=ddim)
    inference_steps: int = 10
    action_shape: tuple[int, int] = (4, 2)
    encoded: int = 0

    def given(self, obs: Observation) -> BoundPolicy:
        self.encoded += 1
        centre = obs["proprio"][:, -1, None, :2]

        def predict(noisy: Tensor, timestep: int) -> Tensor:
            alpha_bar = self.scheduler.alphas_cumprod[timestep]
            target = alpha_bar.sqrt() * repeat_rows(centre, len(noisy))
            return 0.9 * (noisy - target) / (1 - alpha_bar).sqrt() + 0.1 * torch.sin(3 * noisy)

        return BoundPolicy(predict)


def toy_obs(batch: int = 3) -> Observation:
    return {"proprio": torch.linspace(-0.6, 0.6, batch * 3).reshape(batch, 1, 3)}


def closeness(obs: Observation, actions: Tensor) -> Tensor:
    """A score: minus the squared distance to GOAL, moved a little by the observation."""
    return -(actions - GOAL - 0.1 * obs["proprio"][:, -1:, :2]).square().sum((1, 2))
