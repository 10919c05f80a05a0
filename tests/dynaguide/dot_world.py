"""A world whose dynamics are known: a soft dot that actions push, drawn as a picture. And a policy for it that pushes to a corner, by chance."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from toy import ddim

from dynaguide import BoundPolicy, Observation
from dynaguide.chunks import Windows
from dynaguide.episodes import EpisodeWriter
from dynaguide.steering import Steering, sample_actions
from dynaguide.types import repeat_rows

SIZE = 32  # pixels a side
WIDTH = 0.5  # of the dot, of half the picture
HORIZON = 8
SPEED = 0.12  # of the half picture, for an action of 1
WINDOWS = Windows(history=1, horizon=HORIZON, offset=0, outcome="chunk")
CORNERS = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
PUSH = 0.7  # how hard the policy pushes along x and y
SPREAD = 0.12  # and how unevenly


def draw(places: Tensor) -> Tensor:
    """places: (..., 2), x and y in [-1, 1] -> uint8 (..., 3, SIZE, SIZE)"""
    axis = torch.linspace(-1.4, 1.4, SIZE)
    dx, dy = axis[None, :] - places[..., 0, None, None], axis[:, None] - places[..., 1, None, None]
    dot = torch.exp(-(dx.square() + dy.square()) / (2 * WIDTH**2))
    return (torch.stack([dot, 0.5 * dot, 0.2 + 0.2 * (1 - dot)], dim=-3) * 255).to(torch.uint8)


def moved(places: Tensor, actions: Tensor) -> Tensor:
    """Where the dot is after a chunk. places: (batch, 2), actions: (batch, horizon, 2)"""
    return places + SPEED * actions.sum(1)


def starts(count: int, seed: int) -> Tensor:
    return 0.6 * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) - 0.3


def observation(places: Tensor) -> Observation:
    return {"camera": draw(places)[:, None], "place": places[:, None]}


def write(path: Path, episodes: int, seed: int) -> Path:
    """Episodes of 2 x HORIZON frames in which the dot is pushed anywhere; the picture is all there is to see of it."""
    rng = np.random.default_rng(seed)
    with EpisodeWriter(path, {"env_name": "Dot", "type": 0, "env_kwargs": {}}) as writer:
        for start in starts(episodes, seed).numpy():
            heading, push = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.2, 1.0, 2)
            direction = np.stack([push * np.cos(heading), push * np.sin(heading)], axis=1).repeat(HORIZON, 0)
            actions = (direction + rng.normal(0, 0.15, direction.shape)).clip(-1, 1)
            places = start + SPEED * np.concatenate([np.zeros((1, 2)), actions[:-1].cumsum(0)])
            pictures = draw(torch.from_numpy(places)).movedim(-3, -1).numpy()
            writer.add(actions.astype(np.float32), {"camera": pictures, "place": places.astype(np.float32)})
    return path


def write_rollouts(path: Path, episodes: int, seed: int) -> Path:
    """Episodes of the unsteered policy, one chunk each, labelled with the corner that they end in."""
    places = starts(episodes, seed)
    rngs = [torch.Generator().manual_seed(seed * 10_000 + i) for i in range(episodes)]
    chunks = sample_actions(CornerPolicy(), observation(places), Steering(), rngs).clamp(-1, 1)
    with EpisodeWriter(path, {"env_name": "Dot", "type": 0, "env_kwargs": {}}) as writer:
        for place, chunk, corner in zip(places, chunks, corner_reached(moved(places, chunks)).tolist(), strict=True):
            actions = torch.cat([chunk, torch.zeros(1, 2)])
            way = place + SPEED * torch.cat([torch.zeros(1, 2), chunk.cumsum(0)])
            writer.add(actions.numpy(), {"camera": draw(way).movedim(-3, -1).numpy(), "place": way.numpy()}, behavior=f"corner_{corner}")
    return path


@dataclass
class CornerPolicy:
    """The exact denoiser of an even mixture of four pushes: what a perfectly trained diffusion policy would predict."""

    scheduler: Any = field(default_factory=ddim)
    inference_steps: int = 10
    action_shape: tuple[int, int] = (HORIZON, 2)

    def given(self, obs: Observation) -> BoundPolicy:
        towards = (PUSH * CORNERS)[:, None].expand(-1, HORIZON, -1).flatten(1)  # (4, horizon x 2)

        def predict(noisy: Tensor, timestep: int) -> Tensor:
            alpha_bar = self.scheduler.alphas_cumprod[timestep].to(noisy)
            variance = alpha_bar * SPREAD**2 + 1 - alpha_bar
            away = noisy.flatten(1)[:, None] - alpha_bar.sqrt() * towards.to(noisy)  # (B, 4, horizon x 2)
            share = torch.softmax(-away.square().sum(-1) / (2 * variance), dim=1)
            expected = (share[..., None] * away).sum(1) / variance
            return ((1 - alpha_bar).sqrt() * expected).unflatten(1, self.action_shape)

        return BoundPolicy(predict)


def corner_reached(places: Tensor) -> Tensor:
    """The number of the corner whose quarter of the picture the dot is in, -1 near the middle. (batch,)"""
    nearest = torch.cdist(places, CORNERS).argmin(1)
    return torch.where(places.abs().min(1).values > 0.15, nearest, -1)


def rows(obs: Observation, count: int) -> Observation:
    return {key: repeat_rows(value, count) for key, value in obs.items()}
