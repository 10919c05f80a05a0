"""Play on disk in CALVIN's own layout: a file a frame, and where each stretch of play begins and ends.

episode_0000000.npz   rgb_static, rgb_gripper, robot_obs (15), scene_obs (24), actions (absolute, 7), rel_actions (7)
ep_start_end_ids.npy  (stretches, 2): first and last frame of each
"""

import json
import logging
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dynaguide.errors import UserError
from dynaguide.files import read_json, writable_folder, write_json, written_whole
from dynaguide_calvin import scene as facts
from dynaguide_calvin.detector import Segment, segments
from dynaguide_calvin.play import Stretch
from dynaguide_calvin.scene import Array

log = logging.getLogger(__name__)

IDS, META, PLAYED = "ep_start_end_ids.npy", "env_meta.json", "played.json"
PICTURES = {"rgb_static": facts.THIRD_PERSON, "rgb_gripper": facts.EYE_IN_HAND}
NUMBERS = {"robot_obs": facts.PROPRIO, "scene_obs": facts.STATES, "rel_actions": facts.ACTIONS}


class Frame(NamedTuple):
    """One frame of a recording."""

    states: Array
    proprio: Array
    action: Array  # relative
    pictures: dict[str, Array]  # camera -> (height, width, 3)


class RecordedSegment(NamedTuple):
    """A behaviour cut out of a recording."""

    behavior: str
    first: int  # number of its first frame
    actions: Array
    observations: dict[str, Array]


class Recording:
    """A folder of CALVIN's, read a stretch at a time. Frames that are missing or broken end a stretch; they are counted."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        ids = self.folder / IDS
        if not ids.is_file():
            raise UserError(f"{self.folder} is not a CALVIN recording: it has no {IDS}")
        try:
            self.stretches = np.atleast_2d(np.load(ids, allow_pickle=False)).astype(int)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"{ids} cannot be read ({error})") from error
        if self.stretches.shape[1] != 2:
            raise UserError(f"{ids} should hold pairs of first and last frames, not an array of shape {self.stretches.shape}")
        self.lost: list[int] = []

    @property
    def env_meta(self) -> dict[str, Any]:
        """What made it; for public recordings only the environment's name is known."""
        known = self.folder / META
        return dict(read_json(known, "environment")) if known.exists() else {"env_name": "PlayTable", "type": 2, "env_kwargs": {}}

    def segments(self) -> Iterator[RecordedSegment]:
        """Every segment of every stretch. Of a stretch only the numbers are held in memory, and one segment's pictures."""
        for first, last in self.stretches:
            for start, numbers in self._unbroken(int(first), int(last)):
                for segment in segments(numbers["scene_obs"], numbers["robot_obs"]):
                    made = self._cut(start, segment, numbers)
                    if made is not None:
                        yield made

    def _unbroken(self, first: int, last: int) -> Iterator[tuple[int, dict[str, Array]]]:
        """The numbers of runs of frames that are all there."""
        run: list[dict[str, Array]] = []
        start = first
        for number in range(first, last + 1):
            frame = self._read(number, list(NUMBERS))
            if frame is not None:
                run.append(frame)
                continue
            if len(run) > 1:
                yield start, {key: np.stack([one[key] for one in run]) for key in NUMBERS}
            run, start = [], number + 1
        if len(run) > 1:
            yield start, {key: np.stack([one[key] for one in run]) for key in NUMBERS}

    def _cut(self, start: int, segment: Segment, numbers: Mapping[str, Array]) -> RecordedSegment | None:
        """The segment with its pictures; None if one of them is broken."""
        here = slice(segment.start, segment.end)
        pictures: dict[str, list[Array]] = {camera: [] for camera in PICTURES.values()}
        for number in range(start + segment.start, start + segment.end):
            frame = self._read(number, list(PICTURES))
            if frame is None:
                return None
            for key, camera in PICTURES.items():
                pictures[camera].append(frame[key])
        observations = {camera: np.stack(frames) for camera, frames in pictures.items()}
        observations |= {"proprio": numbers["robot_obs"][here].astype(np.float32), "states": numbers["scene_obs"][here].astype(np.float32)}
        return RecordedSegment(segment.behavior, start + segment.start, numbers["rel_actions"][here].astype(np.float32).clip(-1, 1), observations)

    def _read(self, number: int, keys: list[str]) -> dict[str, Array] | None:
        path = frame_path(self.folder, number)
        try:
            with np.load(path, allow_pickle=False) as stored:
                frame = {key: stored[key] for key in keys}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            self._lose(number, f"{path}: {error}")
            return None
        wrong = [key for key in keys if key in NUMBERS and (frame[key].shape != (NUMBERS[key],) or not np.isfinite(frame[key]).all())]
        if wrong:
            self._lose(number, f"{path}: {wrong[0]} is not {NUMBERS[wrong[0]]} finite numbers")
            return None
        return frame

    def _lose(self, number: int, why: str) -> None:
        if not self.lost:
            log.warning("a frame is skipped: %s", why)
        if number not in self.lost:
            self.lost.append(number)


class RecordingWriter:
    """Appends stretches of play to a folder; what was written before stays, and a stretch that was not finished is written again."""

    def __init__(self, folder: Path | str, env_meta: Mapping[str, Any]) -> None:
        self.folder = writable_folder(folder)
        known = self.folder / META
        if known.exists() and read_json(known, "environment") != json.loads(json.dumps(dict(env_meta))):
            raise UserError(f"{self.folder} holds play of another environment ({known}): choose another folder")
        write_json(known, dict(env_meta))
        self.played: list[dict[str, Any]] = read_json(self.folder / PLAYED, "play") if (self.folder / PLAYED).exists() else []

    @property
    def stretches(self) -> int:
        return len(self.played)

    def add(self, stretch: Stretch) -> None:
        first = self.played[-1]["last"] + 1 if self.played else 0
        for index, action in enumerate(stretch.actions):
            self._write(first + index, stretch, index, action)
        last = first + len(stretch.actions) - 1
        behaviors = [{"frame": first + at, "behavior": name, "success": success} for at, name, success in stretch.behaviors]
        self.played.append({"number": stretch.number, "first": first, "last": last, "behaviors": behaviors})
        write_json(self.folder / PLAYED, self.played)
        with written_whole(self.folder / IDS) as temporary, open(temporary, "wb") as file:
            np.save(file, np.array([(one["first"], one["last"]) for one in self.played]))

    def _write(self, number: int, stretch: Stretch, index: int, action: Array) -> None:
        frame = {key: stretch.observations[index][camera] for key, camera in PICTURES.items() if camera in stretch.observations[index]}
        gripper = 1.0 if action[6] >= 0 else -1.0
        frame |= {
            "robot_obs": stretch.proprio[index],
            "scene_obs": stretch.states[index],
            "actions": np.append(stretch.targets[index], gripper),
            "rel_actions": np.append(action[:6], gripper),
        }
        with written_whole(frame_path(self.folder, number)) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **frame)  # type: ignore[arg-type]


def frame_path(folder: Path, number: int) -> Path:
    return folder / f"episode_{number:07d}.npz"
