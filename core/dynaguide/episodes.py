"""Episodes on disk, in robomimic's HDF5 schema. The only module that imports h5py.

data                attrs: total (frames in all), env_args (JSON: env_name, type, env_kwargs)
data/demo_0         attrs: num_samples, and what is known of the episode (behavior, seed, ...)
data/demo_0/actions (length, action)    rewards (length,)    dones (length,)
data/demo_0/obs/*   (length, numbers) or, for images, uint8 (length, height, width, channel)
mask/train          the names of the episodes of a split
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from dynaguide.errors import UserError, unknown_name
from dynaguide.files import existing_file, writable_folder, written_whole

Array = NDArray[Any]


_Identity = tuple[Any, ...]  # of a file and a split, until the file changes
# What was found to be right is remembered: a program opens its data many times.
_LENGTHS: dict[_Identity, Array] = {}
_CHECKED: set[tuple[_Identity, str]] = set()  # observations of a file, and its actions
_ACTIONS = "data/actions"  # unlike any observation's name


class Episode(NamedTuple):
    """One episode in memory."""

    name: str
    actions: Array  # (length, action)
    obs: dict[str, Array]  # (length, ...)
    attrs: dict[str, Any]


class EpisodeFile:
    """A file of episodes, opened for reading; what is wrong with its layout is said when it is opened."""

    def __init__(self, path: Path | str, *, split: str | None = None) -> None:
        self.path = existing_file(path, "episode file")
        self._file = _opened(self.path)
        self._last: _Demo | None = None
        try:
            self._data = _data_group(self._file, self.path)
            self.names = _ordered(list(self._data)) if split is None else self._split_names(split)
            if not self.names:
                raise UserError(f"{self.path} has no episodes" + (f" in its split {split!r}" if split else ""))
            self._identity = _identity(self.path, split)
            self.lengths = self._checked_lengths()
        except UserError:
            self._file.close()
            raise

    def __enter__(self) -> "EpisodeFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Episode]:
        return (self.episode(name) for name in self.names)

    @property
    def env_meta(self) -> dict[str, Any]:
        """What made the data: env_name, type, env_kwargs; empty when the file does not say."""
        return dict(json.loads(self._data.attrs.get("env_args", "{}")))

    @property
    def splits(self) -> list[str]:
        return sorted(self._file["mask"]) if "mask" in self._file else []

    @property
    def action_size(self) -> int:
        return int(self._demo(self.names[0]).group["actions"].shape[1])

    @property
    def obs_shapes(self) -> dict[str, tuple[int, ...]]:
        """Key -> shape of one frame, as stored (images: height, width, channel)."""
        return {key: tuple(item.shape[1:]) for key, item in sorted(self._demo(self.names[0]).observations().items())}

    def is_image(self, key: str) -> bool:
        return len(self.obs_shapes[key]) == 3

    def attrs(self, name: str) -> dict[str, Any]:
        """What is known of an episode."""
        return {key: _plain(value) for key, value in self._demo(name).group.attrs.items()}

    def episode(self, name: str, keys: Sequence[str] | None = None) -> Episode:
        """A whole episode, with all observations or those named."""
        wanted = list(self.obs_shapes) if keys is None else keys
        return Episode(name, self.actions(name), {key: self.read(name, key) for key in wanted}, self.attrs(name))

    def part(self, name: str, part: str) -> Array | None:
        """`rewards` or `dones` of an episode, if the file has them."""
        demo = self._demo(name).group
        return self._read(demo[part], name, slice(None)) if part in demo else None

    def actions(self, name: str) -> Array:
        return self._read(self._demo(name).group["actions"], name, slice(None))

    def read(self, name: str, key: str, frames: slice | int | Sequence[int] = slice(None)) -> Array:
        """Some frames of one observation of one episode; a list of frames must be increasing."""
        dataset = self._demo(name).observation(key)
        if dataset is None:
            raise UserError(f"{self.path}, {name}: {unknown_name('observation', key, list(self._demo(name).observations()))}")
        return self._read(dataset, name, frames)

    def last_frames(self, key: str) -> Array:
        """One observation at the end of every episode: (episode, ...)."""
        return np.stack([self.read(name, key, int(length) - 1) for name, length in zip(self.names, self.lengths, strict=True)])

    def check(self, keys: Sequence[str]) -> None:
        """Refuse what would spoil training: actions outside [-1, 1], NaNs, images that are not uint8, shapes that differ between episodes."""
        shapes = self.obs_shapes
        for key in keys:
            if key not in shapes:
                raise UserError(f"{self.path}: {unknown_name('observation', key, list(shapes))}")
        unknown = [key for key in keys if (self._identity, key) not in _CHECKED]
        if (self._identity, _ACTIONS) in _CHECKED and not unknown:
            return
        for name in self.names:
            actions = self.actions(name)
            _check_finite(actions, f"{self.path}, {name}: actions")
            if np.abs(actions).max() > 1 + 1e-6:
                raise UserError(f"{self.path}, {name}: actions reach {np.abs(actions).max():.4g}, expected [-1, 1] (scale them, as robomimic does)")
            for key in unknown:
                self._check_observation(name, key, shapes[key])
        _CHECKED.update((self._identity, key) for key in (_ACTIONS, *unknown))

    def _check_observation(self, name: str, key: str, shape: tuple[int, ...]) -> None:
        dataset = self._demo(name).observation(key)
        where = f"{self.path}, {name}: {key}"
        if dataset is None:
            raise UserError(f"{where} is missing, though other episodes have it")
        if tuple(dataset.shape[1:]) != shape:
            raise UserError(f"{where} has shape {tuple(dataset.shape[1:])} a frame, other episodes {shape}")
        if len(shape) == 3 and dataset.dtype != np.uint8:
            raise UserError(f"{where} is an image of {dataset.dtype}, expected uint8 (height, width, channel)")
        if len(shape) < 3:
            _check_finite(self.read(name, key), where)

    def _split_names(self, split: str) -> list[str]:
        if split not in self.splits:
            hint = "" if self.splits else " (it has none: run data_processing_calvin/split_train_val.py)"
            raise UserError(f"{self.path}: {unknown_name('split', split, self.splits)}{hint}")
        return _ordered([name.decode() for name in self._file["mask"][split][()]])

    def _demo(self, name: str) -> "_Demo":
        """The last episode stays open, because looking one up takes longer than reading its numbers."""
        if self._last is None or self._last.name != name:
            self._last = _Demo(name, self._data[name])
        return self._last

    def _read(self, dataset: h5py.Dataset, name: str, frames: slice | int | Sequence[int]) -> Array:
        try:
            return np.asarray(dataset[frames])
        except OSError as error:
            raise UserError(f"{self.path}, {name}: {dataset.name} cannot be read (truncated or damaged)") from error

    def _checked_lengths(self) -> Array:
        """Frames of each episode."""
        if self._identity not in _LENGTHS:
            _LENGTHS[self._identity] = np.array([self._checked_length(name) for name in self.names])
            _LENGTHS[self._identity].setflags(write=False)
        return _LENGTHS[self._identity]

    def _checked_length(self, name: str) -> int:
        if name not in self._data:
            raise UserError(f"{self.path}: a split names {name}, which is not in the file")
        demo = self._demo(name)
        parts = set(demo.group)
        for part in ("actions", "obs"):
            if part not in parts:
                raise UserError(f"{self.path}: data/{name} has no {part!r}: not robomimic's schema")
        shape = demo.group["actions"].shape
        length = int(shape[0])
        if len(shape) != 2 or length == 0:
            raise UserError(f"{self.path}: {name} is empty or its actions are not (length, action): shape {shape}")
        for key, item in demo.observations().items():
            if item.shape[0] != length:
                raise UserError(f"{self.path}: {name} has {length} actions but {item.shape[0]} frames of {key}")
        return length


class _Demo:
    """An episode's group, and those of its observations that were asked for."""

    def __init__(self, name: str, group: h5py.Group) -> None:
        self.name, self.group = name, group
        self._opened: dict[str, h5py.Dataset | None] = {}

    def observation(self, key: str) -> h5py.Dataset | None:
        if key not in self._opened:
            self._opened[key] = self.group.get(f"obs/{key}")
        return self._opened[key]

    def observations(self) -> dict[str, h5py.Dataset]:
        self._opened = dict(self.group["obs"].items())
        return {key: item for key, item in self._opened.items() if item is not None}


class EpisodeWriter:
    """Writes episodes one by one.

    The work goes on in a hidden file beside `path`, because HDF5 may not survive being killed while it writes. A new file appears under its name when
    it is complete. With `append`, what was there before stays, and a whole copy with every finished episode takes the name after each one (of a large
    file less often, so that copying takes a tenth of the time at most). `compression` is a gzip level, another filter of h5py's ("lzf"), or None.
    """

    def __init__(self, path: Path | str, env_meta: Mapping[str, Any], *, append: bool = False, compression: int | str | None = 1) -> None:
        self.path = Path(path)
        writable_folder(self.path.parent)
        self._compression = compression
        self._append = append
        self._target = self.path.with_name(f".{self.path.name}.part")
        self._copied_at, self._copy_seconds = 0.0, 0.0
        self._file = self._begin(env_meta)
        self._data = self._file["data"]
        self._count = len(self._data)
        self._layout = self._known_layout()

    def _begin(self, env_meta: Mapping[str, Any]) -> h5py.File:
        if self._append and self.path.exists():
            EpisodeFile(self.path).close()  # says what is wrong with it, if anything is
            shutil.copyfile(self.path, self._target)
            return h5py.File(self._target, "r+")
        file = h5py.File(self._target, "w")
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(dict(env_meta))
        data.attrs["total"] = 0
        return file

    def _known_layout(self) -> dict[str, tuple[int, ...]] | None:
        if not self._count:
            return None
        demo = self._data[next(iter(self._data))]
        return {"actions": demo["actions"].shape[1:], **{key: item.shape[1:] for key, item in demo["obs"].items()}}

    def __enter__(self) -> "EpisodeWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(keep=kind is None)

    def __len__(self) -> int:
        return self._count

    def add(self, actions: Array, obs: Mapping[str, Array], *, rewards: Array | None = None, dones: Array | None = None, **attrs: Any) -> str:
        """Append one episode; attrs (behavior, seed, ...) are stored with it. Returns its name."""
        length = len(actions)
        layout = {"actions": actions.shape[1:], **{key: value.shape[1:] for key, value in obs.items()}}
        if length == 0 or any(len(value) != length for value in obs.values()):
            raise UserError(f"{self.path}: an episode needs as many frames as actions, and at least one: {length} actions")
        if self._layout is not None and layout != self._layout:
            raise UserError(f"{self.path}: the episode to append has the layout {layout}, the file {self._layout}")
        self._layout = layout
        name = f"demo_{self._count}"
        demo = self._data.create_group(name)
        demo.create_dataset("actions", data=np.asarray(actions, np.float32))
        demo.create_dataset("rewards", data=np.zeros(length, np.float32) if rewards is None else np.asarray(rewards, np.float32))
        demo.create_dataset("dones", data=np.zeros(length, np.uint8) if dones is None else np.asarray(dones, np.uint8))
        for key, value in obs.items():
            self._write_observation(demo, key, np.asarray(value))
        demo.attrs.update({"num_samples": length, **{key: value for key, value in attrs.items() if value is not None}})
        self._data.attrs["total"] = int(self._data.attrs["total"]) + length
        self._count += 1
        if self._append:
            self._show_finished()
        return name

    def copy(self, file: EpisodeFile, name: str, *, last: int | None = None) -> str:
        """Append an episode of another file as it is: observations, rewards, attributes. last: only so many frames of its end"""
        episode = file.episode(name)
        attrs = {key: value for key, value in episode.attrs.items() if key != "num_samples"}
        kept = slice(None if last is None else -last, None)
        obs = {key: value[kept] for key, value in episode.obs.items()}
        rewards, dones = (file.part(name, part) for part in ("rewards", "dones"))
        return self.add(
            episode.actions[kept], obs, rewards=None if rewards is None else rewards[kept], dones=None if dones is None else dones[kept], **attrs
        )

    def same_environment(self, env_meta: Mapping[str, Any]) -> bool:
        """Whether `env_meta` is what this file says of its episodes."""
        return bool(json.loads(self._data.attrs["env_args"]) == json.loads(json.dumps(dict(env_meta))))

    def _show_finished(self) -> None:
        """Give the name to a whole copy of what there is so far."""
        began = time.perf_counter()
        if self._copy_seconds > 0.1 and began - self._copied_at < 10 * self._copy_seconds:
            return
        self._file.flush()
        with written_whole(self.path) as temporary:
            shutil.copyfile(self._target, temporary)
        self._copied_at = time.perf_counter()
        self._copy_seconds = self._copied_at - began

    def _write_observation(self, demo: h5py.Group, key: str, value: Array) -> None:
        if value.ndim == 4:  # one chunk a frame: a training window reads single frames
            demo.create_dataset(f"obs/{key}", data=value, chunks=(1, *value.shape[1:]), compression=self._compression)
        else:
            demo.create_dataset(f"obs/{key}", data=value)

    def close(self, *, keep: bool = True) -> None:
        """Close the file; a new one that is not to be kept disappears, finished episodes that were appended stay."""
        self._file.close()
        if keep or (self._append and self._count):
            self._target.replace(self.path)
        else:
            self._target.unlink(missing_ok=True)


def copy_episodes(source: Path | str, names: Sequence[str], target: Path | str, *, append: bool = False, last: int | None = None) -> None:
    """Some episodes of a file, with all that belongs to them, into a new file or behind what another one holds. last: only so many frames of each"""
    with EpisodeFile(source) as file, EpisodeWriter(target, file.env_meta, append=append) as writer:
        if not writer.same_environment(file.env_meta):
            raise UserError(f"{source} comes from another environment than {target}: their pictures do not compare")
        for name in names:
            writer.copy(file, name, last=last)


def split(path: Path | str, *, ratio: float, seed: int = 0) -> dict[str, list[str]]:
    """Set a share of the episodes aside for validation, as mask/train and mask/valid in the file itself."""
    if not 0 < ratio < 1:
        raise UserError(f"the share for validation must lie between 0 and 1, not {ratio}")
    with EpisodeFile(path) as file:
        names = file.names
    if len(names) < 2:
        raise UserError(f"{path} has one episode: nothing to split")
    held_out = max(1, round(ratio * len(names)))
    shuffled = np.random.default_rng(seed).permutation(len(names))
    chosen = {"valid": _ordered([names[i] for i in shuffled[:held_out]]), "train": _ordered([names[i] for i in shuffled[held_out:]])}
    with h5py.File(path, "r+") as writable:
        for name, members in chosen.items():
            if f"mask/{name}" in writable:
                del writable[f"mask/{name}"]
            writable[f"mask/{name}"] = np.array(members, dtype="S")
    return chosen


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = "is truncated" if "truncated" in str(error) else "is not an HDF5 file, or is damaged"
        raise UserError(f"episode file {path} {reason}") from error


def _identity(path: Path, split: str | None) -> _Identity:
    found = path.stat()
    return path.resolve(), split, found.st_ino, found.st_size, found.st_mtime_ns


def _data_group(file: h5py.File, path: Path) -> h5py.Group:
    if "data" not in file or not isinstance(file["data"], h5py.Group):
        found = ", ".join(sorted(file)) or "nothing"
        raise UserError(f"{path} is not in robomimic's schema: it has no group 'data' (found: {found})")
    return file["data"]


def _ordered(names: list[str]) -> list[str]:
    """demo_2 before demo_10."""
    return sorted(names, key=lambda name: (int(name.rpartition("_")[2]) if name.rpartition("_")[2].isdigit() else -1, name))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _check_finite(values: Array, where: str) -> None:
    if not np.isfinite(values).all():
        frame = int(np.argwhere(~np.isfinite(values))[0][0])
        raise UserError(f"{where} has a NaN or an infinity at frame {frame}")
