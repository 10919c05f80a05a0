"""A denoiser for an agent in the plane, small enough to learn on a laptop: it finds places in the picture, and looks at each of them.

`SceneEncoder` sums up the picture, the agent's place and its velocity; from the picture alone it predicts where things are, and training says where
they are.
`SceneDenoiser` is a residual MLP over the flattened chunk. "Which of these am I going to" is what a denoiser needs to know here and what a plain MLP
finds slowly, so one small network, shared by all places, glances at each of them.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dynaguide.errors import UserError
from dynaguide.types import ActionChunk, Observation, to_float_image
from dynaguide_robomimic.config import PolicyConfig
from dynaguide_robomimic.networks import SinusoidalEmbedding, camera

STEP_EMBEDDING = 64
CHUNK_END = 4  # actions that tell where a chunk ends
OFFSET_SCALE = 2.0  # places are spread over [-1, 1]


class SceneCondition(NamedTuple):
    """What the denoiser is told, as one tensor so that it is repeated like any condition: code, offsets of the places, velocity."""

    code: Float[Tensor, "batch code"]
    offsets: Float[Tensor, "batch places 2"]  # from the agent, times OFFSET_SCALE
    velocity: Float[Tensor, "batch 2"]

    def joined(self) -> Float[Tensor, "batch condition"]:
        return torch.cat([self.code, self.offsets.flatten(1), self.velocity], dim=-1)

    @staticmethod
    def split(joined: Float[Tensor, "batch condition"], code: int) -> "SceneCondition":
        return SceneCondition(joined[:, :code], joined[:, code:-2].unflatten(-1, (-1, 2)), joined[:, -2:])


class SceneEncoder(nn.Module):
    """The current pictures and the low-dimensional observations of the last two frames -> (condition, predicted places)."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], places: int, config: PolicyConfig) -> None:
        super().__init__()
        settings, rgb = config.algo.scene_mlp, config.observation.encoder.rgb
        self.agent, self.velocity_scale = str(config.algo.action_frame.relative_to), settings.velocity_scale
        self.pictures = [key for key, shape in shapes.items() if len(shape) == 3]
        self.numbers = [key for key, shape in shapes.items() if len(shape) == 1]
        if shapes[self.agent] != (2,) or places < 2 or places % 2:
            raise UserError(
                f"algo.scene_mlp is for an agent in the plane: {self.agent} must hold 2 numbers, not {shapes[self.agent][0]}, "
                f"and {settings.places} two for each place, not {places}"
            )
        self.obs_nets = nn.ModuleDict({key: nn.Sequential(*camera(key, shapes[key], rgb.core_kwargs, None)) for key in self.pictures})
        seen = 2 * rgb.core_kwargs.pool_kwargs.num_kp * len(self.pictures)
        self.places = nn.Linear(seen, places)
        inputs = seen + sum(shapes[key][0] for key in self.numbers) + 2 + places
        self.code = nn.Sequential(nn.Linear(inputs, settings.code), nn.Mish(), nn.Linear(settings.code, settings.code))
        self.features = settings.code + places + 2

    def forward(self, obs: Observation) -> tuple[Float[Tensor, "batch condition"], Float[Tensor, "batch places"]]:
        agent = obs[self.agent]
        velocity = (agent[:, -1] - agent[:, -2]) * self.velocity_scale
        seen = torch.cat([self.obs_nets[key](to_float_image(obs[key][:, -1])).flatten(1) for key in self.pictures], dim=-1)
        places = self.places(seen)
        offsets = (places.unflatten(-1, (-1, 2)) - agent[:, None, -1]) * OFFSET_SCALE
        numbers = [obs[key][:, -1] for key in self.numbers]
        code = self.code(torch.cat([seen, *numbers, velocity, offsets.flatten(1)], dim=-1))
        return SceneCondition(code, offsets, velocity).joined(), places


class Glance(nn.Module):
    """One network for all places: how each lies to the agent, its velocity and the noisy chunk's end; pooled by what it finds worth looking at."""

    def __init__(self, chunk: int, width: int, outputs: int, scale: float) -> None:
        super().__init__()
        self.scale, self.features = scale, outputs + 4
        self.of_chunk = nn.Linear(chunk + STEP_EMBEDDING, width)
        self.of_place = nn.Linear(12, width)
        self.look = nn.Sequential(nn.Mish(), nn.Linear(width, width), nn.Mish(), nn.Linear(width, outputs + 2))

    def forward(self, noisy: ActionChunk, step: Float[Tensor, "batch embedding"], condition: SceneCondition) -> Float[Tensor, "batch feature"]:
        places = condition.offsets
        chunk = self.of_chunk(torch.cat([noisy.flatten(1), step], dim=-1))
        seen = self.look(self.of_place(self._relations(noisy, condition)) + chunk[:, None])  # (B, places, outputs + 2)
        attention = functional.softmax(3 * seen[..., :2], dim=1)
        pooled = (attention[..., :1] * seen[..., 2:]).sum(1)
        return torch.cat([pooled, (attention[..., :1] * places).sum(1), (attention[..., 1:] * places).sum(1)], dim=-1)

    def _relations(self, noisy: ActionChunk, condition: SceneCondition) -> Float[Tensor, "batch places 12"]:
        """Offset, direction, distance; how far ahead and beside the place lies, seen along the velocity and along the chunk's end; the way left."""
        places = condition.offsets
        velocity = condition.velocity[:, None].expand_as(places)
        end = (noisy[:, -CHUNK_END:].mean(1) * (OFFSET_SCALE / self.scale))[:, None].expand_as(places)
        distance = places.norm(dim=-1, keepdim=True) + 1e-3
        direction = places / distance
        along = [_dot(direction, velocity), _cross(direction, velocity), _dot(direction, end), _cross(direction, end)]
        return torch.cat([places, direction, distance, *along, places - end, velocity.norm(dim=-1, keepdim=True)], dim=-1)


class SceneDenoiser(nn.Module):
    """Residual MLP over the flattened chunk, scaled and shifted in each block as the condition says (FiLM)."""

    def __init__(self, horizon: int, config: PolicyConfig) -> None:
        super().__init__()
        settings, chunk = config.algo.scene_mlp, 2 * horizon
        self.code, width, condition = settings.code, settings.width, settings.code + 2 * STEP_EMBEDDING
        self.step = SinusoidalEmbedding(STEP_EMBEDDING)
        self.step_code = nn.Sequential(nn.Linear(STEP_EMBEDDING, 128), nn.Mish(), nn.Linear(128, 2 * STEP_EMBEDDING))
        self.glance = Glance(chunk, 128, 64, config.algo.action_frame.scale)
        self.enter = nn.Linear(chunk + self.glance.features, width)
        self.films = nn.ModuleList([nn.Linear(condition, 2 * width) for _ in range(settings.blocks)])
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 2 * width), nn.Mish(), nn.Linear(2 * width, width)) for _ in range(settings.blocks)]
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.leave = nn.Linear(width, chunk)

    def forward(self, noisy: ActionChunk, step: Float[Tensor, " batch"], condition: Float[Tensor, "batch condition"]) -> ActionChunk:
        told, step = SceneCondition.split(condition, self.code), self.step(step)
        film = functional.mish(torch.cat([told.code, self.step_code(step)], dim=-1))
        hidden = self.enter(torch.cat([noisy.flatten(1), self.glance(noisy, step, told)], dim=-1))
        for modulate, block in zip(self.films, self.blocks, strict=True):
            scale, shift = modulate(film).chunk(2, dim=-1)
            hidden = hidden + block(self.norm(hidden) * (1 + scale) + shift)
        return self.leave(hidden).view_as(noisy)


def _dot(one: Tensor, two: Tensor) -> Tensor:
    return (one * two).sum(-1, keepdim=True)


def _cross(one: Tensor, two: Tensor) -> Tensor:
    return one[..., :1] * two[..., 1:] - one[..., 1:] * two[..., :1]
