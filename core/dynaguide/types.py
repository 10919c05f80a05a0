"""The vocabulary that every part of the method shares.

An observation is a dictionary of tensors whose first two axes are (batch, frames); images are (batch, frames, channel, height, width), float in
[0, 1] or uint8 in [0, 255]. An action chunk is (batch, horizon, action). Functions that are *bound* to an observation (`x.given(obs)`) accept any
whole number of chunks for each of its rows, those of one row next to each other: that is how several candidates share one encoded observation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dynaguide.errors import UserError

Observation = dict[str, Tensor]
ActionChunk = Float[Tensor, "batch horizon action"]
ChunkFunction = Callable[[ActionChunk], ActionChunk]
NoisePredictor = Callable[[ActionChunk, int], ActionChunk]
BoundScore = Callable[[ActionChunk], Float[Tensor, " batch"]]


def identity(chunk: ActionChunk) -> ActionChunk:
    """The chunk that is denoised already is in the environment's units."""
    return chunk


class BoundPolicy(NamedTuple):
    """A frozen policy that has seen its observation: eps(a^k, k), and the map from what it denoises to actions."""

    predict_noise: NoisePredictor
    to_actions: ChunkFunction = identity


@runtime_checkable
class Denoiser(Protocol):
    """A frozen diffusion policy, seen only through its noise prediction and its diffusers scheduler."""

    @property
    def action_shape(self) -> tuple[int, int]: ...
    @property
    def scheduler(self) -> Any: ...
    @property
    def inference_steps(self) -> int: ...
    def given(self, obs: Observation) -> BoundPolicy: ...


class Denoising(NamedTuple):
    """One moment of the reverse process, as a guidance sees it."""

    noisy: ActionChunk
    clean_estimate: ActionChunk  # as the scheduler clamps it
    noise_std: Float[Tensor, ""]  # sqrt(1 - alpha_bar_k)
    noise: ActionChunk  # the policy's own prediction
    timestep: int  # k
    steps_left: int  # denoising steps from here to the end, this one included
    to_actions: ChunkFunction = identity


class GuidedStep(NamedTuple):
    """A `Denoising`, what the guidance said, and where the step went."""

    at: Denoising
    guidance: ActionChunk
    denoised: ActionChunk


BoundGuidance = Callable[[Denoising], ActionChunk]


@dataclass(frozen=True)
class Score:
    """How much an action chunk is wanted: `score.given(obs)(actions)` is one number a chunk, higher is better."""

    given: Callable[[Observation], BoundScore]

    @staticmethod
    def of(function: "Score | Callable[[Observation, ActionChunk], Tensor]") -> "Score":
        """A plain function of (observation, chunk) as a score; it sees one row of observation for each chunk."""
        if isinstance(function, Score):
            return function
        return Score(lambda obs: lambda actions: function(rows_for(obs, len(actions)), actions))


NoiseSource = Callable[[Observation, tuple[int, int, int], list[torch.Generator]], ActionChunk]
BoundSelector = Callable[[Float[Tensor, "batch candidate horizon action"]], Int[Tensor, " batch"]]


@dataclass(frozen=True)
class Selector:
    """Which of an episode's finished candidates is executed: `selector.given(obs)(candidates)` is an index a row."""

    given: Callable[[Observation], BoundSelector]


def batch_size(obs: Observation) -> int:
    """The number of rows that all entries of an observation share."""
    sizes = {key: len(value) for key, value in obs.items()}
    if len(set(sizes.values())) != 1:
        raise UserError(f"the entries of an observation disagree about the batch: {sizes}")
    return next(iter(sizes.values()))


def repeat_rows(tensor: Tensor, rows: int) -> Tensor:
    """`tensor` with each row repeated so that there are `rows` of them, copies next to each other."""
    return tensor if len(tensor) == rows else tensor.repeat_interleave(rows // len(tensor), 0)


def rows_for(obs: Observation, rows: int) -> Observation:
    """The observation with each row repeated for its candidates."""
    return {key: repeat_rows(value, rows) for key, value in obs.items()}


def to_float_image(image: Tensor) -> Tensor:
    """uint8 in [0, 255] becomes float in [0, 1]; float images pass."""
    return image.float() / 255 if image.dtype == torch.uint8 else image
