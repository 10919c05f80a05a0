"""Frozen features are computed once: the tokens of every frame of an episode file, in half precision, on disk, memory-mapped.

FOLDER/<camera>-<encoder's fingerprint>/tokens.bin    (frames, tokens, width), float16, the episodes in the file's order
                                        manifest.json  which data and which encoder it belongs to
                                        done.json      the episodes that are complete; all of them once it is finished
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynaguide.encoders.base import OutcomeEncoder
from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide.files import read_json, writable_folder, write_json
from dynaguide.progress import bar

log = logging.getLogger(__name__)

Half = NDArray[np.float16]
ENCODED_AT_ONCE = 64  # frames
NOTED_EVERY = 20  # episodes


def token_key(camera: str) -> str:
    """The observation under which a training window holds a camera's tokens."""
    return f"tokens/{camera}"


@dataclass(frozen=True)
class FrameTokens:
    """The tokens of the frames of some episodes, indexed as a `ChunkDataset` counts frames."""

    stored: Half
    rows: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one frame."""
        return tuple(self.stored.shape[1:])

    def __getitem__(self, frames: NDArray[np.int64]) -> Half:
        return self.stored[self.rows[frames]]


class FeatureCache:
    """The tokens of one camera of one episode file. `complete()` computes what is missing; `frames(names)` reads."""

    def __init__(self, data: Path | str, camera: str, encoder: OutcomeEncoder, folder: Path | str | None = None) -> None:
        self.data, self.camera, self.encoder = Path(data), camera, encoder
        with EpisodeFile(data) as file:
            if camera not in file.obs_shapes or not file.is_image(camera):
                raise UserError(f"{data} has no images under {camera!r} (found: {', '.join(file.obs_shapes)})")
            self._names, self._lengths = file.names, file.lengths
            self._manifest = {
                "data": _fingerprint(file, camera),
                "camera": camera,
                "encoder": json.loads(json.dumps(encoder.describe())),
                "shape": [int(file.lengths.sum()), encoder.count, encoder.width],
            }
        self.folder = Path(folder or default_folder(data)) / f"{camera}-{encoder.fingerprint}"
        self._starts = np.cumsum(self._lengths) - self._lengths

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._manifest["shape"])

    def complete(self, *, device: torch.device | str = "cpu", workers: int = 1) -> "FeatureCache":
        """Encode the episodes that are not there yet. On a CPU `workers` processes share them; a GPU is fed by this one."""
        done = self._begin()
        missing = [name for name in self._names if name not in done]
        if not missing:
            return self
        log.info("encoding %s of %s: %d of %d episodes", self.camera, self.data, len(missing), len(self._names))
        parallel = workers > 1 and torch.device(device).type == "cpu"
        made = self._by_processes(missing, workers) if parallel else self._here(missing, torch.device(device))
        try:
            for count, name in enumerate(bar(made, total=len(missing), name=f"encoding {self.camera}", unit="episode"), start=1):
                done.add(name)
                if count % NOTED_EVERY == 0:
                    self._note(done)
        finally:
            self._note(done)
        return self

    def frames(self, names: Sequence[str] | None = None) -> FrameTokens:
        """The tokens of these episodes' frames, or of all."""
        if self._done() != set(self._names):
            raise UserError(f"the feature cache {self.folder} is not finished: run the same command again")
        where = {name: index for index, name in enumerate(self._names)}
        chosen = [where[name] for name in (names or self._names)]
        rows = [np.arange(self._starts[index], self._starts[index] + self._lengths[index]) for index in chosen]
        return FrameTokens(self._memory("r"), np.concatenate(rows))

    def _begin(self) -> set[str]:
        """The episodes that are done; a cache that is not this data's or this encoder's, or that lost its end, is refused."""
        manifest = self.folder / "manifest.json"
        if manifest.exists():
            self._check(read_json(manifest, "feature cache"))
            return self._done()
        writable_folder(self.folder)
        with open(self._tokens, "wb") as file:
            file.truncate(self._bytes)
        write_json(self.folder / "done.json", [])
        write_json(manifest, self._manifest)
        return set()

    def _check(self, found: dict[str, Any]) -> None:
        for key, expected in self._manifest.items():
            known: Any = found.get(key)
            same = known["fingerprint"] == expected["fingerprint"] if key == "encoder" and isinstance(known, dict) else known == expected
            if not same:
                raise UserError(f"the feature cache {self.folder} belongs to other {key} than {self.data}: delete it, or name another --feature_dir")
        size = self._tokens.stat().st_size if self._tokens.exists() else 0
        if size != self._bytes:
            raise UserError(f"the feature cache {self._tokens} is truncated ({size} bytes, expected {self._bytes}): delete {self.folder}")

    def _done(self) -> set[str]:
        return set(read_json(self.folder / "done.json", "feature cache"))

    def _note(self, done: set[str]) -> None:
        write_json(self.folder / "done.json", [name for name in self._names if name in done])

    @property
    def _tokens(self) -> Path:
        return self.folder / "tokens.bin"

    @property
    def _bytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(np.float16).itemsize

    def _memory(self, mode: str) -> Half:
        return np.memmap(self._tokens, np.float16, mode, shape=self.shape)  # type: ignore[call-overload]

    def _here(self, missing: Sequence[str], device: torch.device) -> Iterator[str]:
        with self.encoding(device) as encode:
            for name in missing:
                encode(name)
                yield name

    def _by_processes(self, missing: Sequence[str], workers: int) -> Iterator[str]:
        with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (self,)) as pool:
            for finished in as_completed([pool.submit(_encode_in_worker, name) for name in missing]):
                yield finished.result()

    @contextmanager
    def encoding(self, device: torch.device) -> Iterator[Any]:
        """A function that encodes one episode into its place."""
        encoder, memory = self.encoder.to(device), self._memory("r+")
        where = {name: int(start) for name, start in zip(self._names, self._starts, strict=True)}
        with EpisodeFile(self.data) as file, torch.inference_mode():

            def encode(name: str) -> None:
                images = torch.from_numpy(file.read(name, self.camera)).movedim(-1, -3)
                tokens = torch.cat([encoder(part.to(device)).half().cpu() for part in images.split(ENCODED_AT_ONCE)])
                if not torch.isfinite(tokens).all():
                    raise UserError(f"{self.data}, {name}: the encoder's tokens of {self.camera} are not finite in half precision")
                memory[where[name] : where[name] + len(tokens)] = tokens.numpy()
                memory.flush()  # type: ignore[attr-defined]

            yield encode


_worker: dict[str, Any] = {}


def _start_worker(cache: FeatureCache) -> None:
    torch.set_num_threads(1)
    _worker["context"] = cache.encoding(torch.device("cpu"))
    _worker["encode"] = _worker["context"].__enter__()


def _encode_in_worker(name: str) -> str:
    _worker["encode"](name)
    return name


def default_folder(data: Path | str) -> Path:
    """play.hdf5 -> play.features, beside it."""
    return Path(data).with_suffix(".features")


def _fingerprint(file: EpisodeFile, camera: str) -> str:
    """Of the episodes' names, lengths, actions and last pictures: other data has others, and so has the same play drawn anew."""
    digest = hashlib.sha256()
    for name in file.names:
        digest.update(name.encode())
        actions = file.actions(name)
        digest.update(np.ascontiguousarray(actions).tobytes())
        digest.update(np.ascontiguousarray(file.read(name, camera, len(actions) - 1)).tobytes())
    return digest.hexdigest()[:16]


def to_tokens(frames: Tensor) -> Tensor:
    """Half-precision tokens of a batch, as the model takes them: the last frame's."""
    return frames[:, -1].float()
