"""Training windows: a history of frames, the action chunk, and the observation that came of it.

Every frame of every episode is one window. Indexing takes constant time: all episodes lie in one long array, and padding is a clamped index.
"""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide.randomness import generator

Indices = NDArray[np.int64]


@runtime_checkable
class PerFrame(Protocol):
    """Something computed for every frame: indexed by frames, (...) -> (..., *shape)."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, frames: Indices) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Windows:
    """What one training example holds; travels with the model, so that it is used as it was trained.

    history   frames up to and including the current one
    horizon   actions in the chunk
    offset    where the chunk starts, in steps from the current frame; robomimic's start with the oldest frame: 1 - history
    padding   actions beyond the ends of an episode: its first or last action again, or zeros
    outcome   which later observation belongs to it: the episode's last, the one after the chunk, or none
    """

    history: int = 2
    horizon: int = 16
    offset: int = -1
    padding: Literal["repeat", "zeros"] = "repeat"
    outcome: Literal["last", "chunk"] | None = None


class Batch(NamedTuple):
    """Some windows. Images are uint8 (batch, frames, channel, height, width)."""

    obs: dict[str, Tensor]  # (batch, history, ...)
    actions: Tensor  # (batch, horizon, action)
    outcome: dict[str, Tensor]  # (batch, 1, ...)
    windows: Tensor  # (batch,) their numbers in the dataset

    def to(self, device: torch.device) -> "Batch":
        def moved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {key: value.to(device, non_blocking=True) for key, value in tensors.items()}

        return Batch(moved(self.obs), self.actions.to(device), moved(self.outcome), self.windows.to(device))


class ChunkDataset(Dataset[Batch]):
    """The windows of a file's episodes (or of one of its splits).

    early_share   windows that begin in an episode's first `early_steps` steps are repeated in `drawn`, until they are this share of it
    late_share    the same for those of its last `late_steps` frames
    computed      frames that are not in the file but belong to its episodes (`dynaguide.features`), by key; they count as observations
    Low-dimensional data always lies in memory, and so do images of which only each episode's last is wanted. Other images do when they fit in half of
    what is free (`cache_images=None`), else they are read from the file when they are needed, by worker processes.
    """

    def __init__(
        self,
        path: Path | str,
        obs_keys: Sequence[str],
        windows: Windows,
        *,
        outcome_keys: Sequence[str] = (),
        split: str | None = None,
        cache_images: bool | None = None,
        early_share: float = 0.0,
        early_steps: int = 2,
        late_share: float = 0.0,
        late_steps: int = 1,
        computed: Mapping[str, PerFrame] | None = None,
    ) -> None:
        if bool(outcome_keys) != (windows.outcome is not None):
            raise UserError("windows with outcome keys need windows.outcome, and the other way round")
        self.windows, self.path, self._split = windows, Path(path), split
        self.obs_keys, self.outcome_keys = tuple(obs_keys), tuple(outcome_keys)
        self._computed = dict(computed or {})
        keys = sorted({*obs_keys, *outcome_keys} - self._computed.keys())
        with EpisodeFile(path, split=split) as file:
            file.check(keys)
            self.env_meta, self.names = file.env_meta, file.names
            self.shapes = {key: file.obs_shapes[key] for key in keys} | {key: value.shape for key, value in self._computed.items()}
            self.first, self.last, self.episode_of = _episode_index(file.lengths)
            ends = [key for key in keys if file.is_image(key) and key not in obs_keys and windows.outcome == "last"]
            keys = [key for key in keys if key not in ends]
            self.images_cached = _fits(file, keys) if cache_images is None or not any(map(file.is_image, keys)) else cache_images
            self.actions, self._arrays = _joined(file, [key for key in keys if self.images_cached or not file.is_image(key)])
            self._ends = {key: file.last_frames(key) for key in ends}
        every = np.arange(len(self.episode_of))
        self.drawn = _emphasised(every, self.step(every) < early_steps, early_share)
        self.drawn = _emphasised(self.drawn, self.steps_left(self.drawn) <= late_steps, late_share)
        self._on_disk: tuple[int, EpisodeFile] | None = None

    def __len__(self) -> int:
        return len(self.drawn)

    def __getitem__(self, index: int) -> Batch:
        return self.batch(self.drawn[[index]])

    def __getitems__(self, indices: list[int]) -> Batch:
        """A whole batch at once: what a DataLoader calls."""
        return self.batch(self.drawn[indices])

    def batch(self, index: Indices) -> Batch:
        """The windows around the frames `index`."""
        first, last = self.first[self.episode_of[index]], self.last[self.episode_of[index]]
        history = index[:, None] + np.arange(1 - self.windows.history, 1)
        frames = np.maximum(history, first[:, None])
        obs = {key: self._frames(key, frames) for key in self.obs_keys}
        outcome = {key: self._outcome(key, index, last) for key in self.outcome_keys}
        return Batch(obs, torch.from_numpy(self._chunks(index, first, last)), outcome, torch.from_numpy(index))

    def steps_left(self, index: Indices) -> Indices:
        """Frames from each window's current one to the end of its episode, the current one included."""
        return self.last[self.episode_of[index]] - index + 1

    def step(self, index: Indices) -> Indices:
        """Frames since the start of the episode."""
        return index - self.first[self.episode_of[index]]

    def low_dim(self, key: str) -> NDArray[np.float32]:
        """All frames of a low-dimensional observation, for statistics."""
        return self._arrays[key]

    def _chunks(self, index: Indices, first: Indices, last: Indices) -> NDArray[np.float32]:
        steps = index[:, None] + self.windows.offset + np.arange(self.windows.horizon)
        clamped = steps.clip(first[:, None], last[:, None])
        actions = self.actions[clamped]
        if self.windows.padding == "zeros":
            actions[steps != clamped] = 0
        return actions

    def _outcome_frames(self, index: Indices, last: Indices) -> Indices:
        if self.windows.outcome == "last":
            return last
        return np.minimum(index + self.windows.offset + self.windows.horizon, last)

    def _outcome(self, key: str, index: Indices, last: Indices) -> Tensor:
        if key in self._ends:
            return self._tensor(key, self._ends[key][self.episode_of[index]][:, None])
        return self._frames(key, self._outcome_frames(index, last)[:, None])

    def _frames(self, key: str, frames: Indices) -> Tensor:
        """frames: (batch, count) -> (batch, count, ...)"""
        source = self._arrays.get(key, self._computed.get(key))
        return self._tensor(key, self._read_frames(key, frames) if source is None else source[frames])

    def _tensor(self, key: str, values: NDArray[Any]) -> Tensor:
        """Images with their channels first."""
        tensor = torch.from_numpy(values)
        return tensor.movedim(-1, -3) if len(self.shapes[key]) == 3 else tensor

    def _read_frames(self, key: str, frames: Indices) -> NDArray[Any]:
        if self._on_disk is None or self._on_disk[0] != os.getpid():  # an open file does not survive a fork
            self._on_disk = (os.getpid(), EpisodeFile(self.path, split=self._split))
        file = self._on_disk[1]
        out = np.empty((*frames.shape, *self.shapes[key]), np.uint8)
        for row, wanted in enumerate(frames):
            episode = int(self.episode_of[wanted[0]])
            unique, where = np.unique(wanted - self.first[episode], return_inverse=True)
            out[row] = file.read(self.names[episode], key, unique.tolist())[where]
        return out


def _episode_index(lengths: NDArray[Any]) -> tuple[Indices, Indices, Indices]:
    """First and last frame of each episode, and the episode of each frame."""
    ends = np.cumsum(lengths).astype(np.int64)
    return ends - lengths, ends - 1, np.repeat(np.arange(len(lengths)), lengths)


def _emphasised(every: Indices, early: NDArray[np.bool_], share: float) -> Indices:
    """All windows, and the early ones again and again until they are `share` of what is listed."""
    if not 0 <= share < 1:
        raise UserError(f"the share of early windows must lie in [0, 1), not {share}")
    missing = int((share * len(every) - early.sum()) / (1 - share))
    return np.concatenate([every, np.resize(every[early], max(0, missing))])


def _fits(file: EpisodeFile, keys: Sequence[str]) -> bool:
    size = sum(int(np.prod(file.obs_shapes[key])) for key in keys if file.is_image(key)) * int(file.lengths.sum())
    return size < psutil.virtual_memory().available / 2


def _joined(file: EpisodeFile, keys: Sequence[str]) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
    """The actions and some observations of all frames, filled in place: never held twice."""
    frames = int(file.lengths.sum())
    actions = np.empty((frames, file.action_size), np.float32)
    arrays = {key: np.empty((frames, *file.obs_shapes[key]), np.uint8 if file.is_image(key) else np.float32) for key in keys}
    start = 0
    for name, length in zip(file.names, file.lengths, strict=True):
        here = slice(start, start + length)
        actions[here] = file.actions(name)
        for key, joined in arrays.items():
            joined[here] = file.read(name, key)
        start += length
    return actions, arrays


@dataclass(frozen=True)
class BatchOrder:
    """Which windows training step number `step` sees: one shuffled epoch after another, a function of the seed alone, so that a run resumes anywhere.

    batch_size   windows a step and process
    processes    how many processes share a step's windows
    """

    windows: int
    batch_size: int
    seed: int
    processes: int = 1
    process: int = 0

    def indices(self, step: int) -> list[int]:
        start = step * self.batch_size * self.processes
        positions = range(start + self.process, start + self.batch_size * self.processes, self.processes)
        return [int(self._epoch(position // self.windows)[position % self.windows]) for position in positions]

    def _epoch(self, number: int) -> NDArray[np.int64]:
        return _shuffled(self.windows, self.seed, number)


@functools.lru_cache(maxsize=4)
def _shuffled(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.asarray(torch.randperm(count, generator=generator(seed, epoch)))


def batches(dataset: ChunkDataset, order: BatchOrder, *, start: int = 0, stop: int, workers: int = 0) -> Iterator[Batch]:
    """The batches of steps start to stop - 1. Workers only help when images are read from disk; with cached images they are not started."""
    steps = _Steps(order, start, stop)
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_sampler=steps, num_workers=0 if dataset.images_cached else workers, collate_fn=_unchanged, persistent_workers=False
    )
    return iter(loader)


class _Steps:
    """The batch sampler of a DataLoader."""

    def __init__(self, order: BatchOrder, start: int, stop: int) -> None:
        self._order, self._start, self._stop = order, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[list[int]]:
        return (self._order.indices(step) for step in range(self._start, self._stop))


def _unchanged(batch: Any) -> Any:
    return batch
