"""What a dynamics model expects, drawn while a policy is steered by it: beside the scene in the video, and step by step of the denoising."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from dynaguide.errors import UserError
from dynaguide.files import writable_folder, written_whole
from dynaguide.outcomes import Dynamics
from dynaguide.recorders import Video, executed_candidates
from dynaguide.rollout import Decision, FinishedEpisode, Frames, observation
from dynaguide.types import Score, rows_for

Picture = NDArray[np.uint8]
_GAP = 4  # white pixels between two pictures


@dataclass(frozen=True)
class Expectation:
    """A dynamics model with a picture decoder. score: of the outcome, if the run has one"""

    dynamics: Dynamics
    score: Score | None = None

    def __post_init__(self) -> None:
        if self.dynamics.decoder is None:
            raise UserError("this dynamics model was trained without a picture decoder (--decoder_width 0): it cannot draw what it predicts")

    @property
    def keys(self) -> list[str]:
        config = self.dynamics.config
        return [*config.cameras, *([config.proprio_key] if config.proprio_key else [])]

    @torch.no_grad()
    def pictures(self, frames: Frames, actions: Tensor) -> Picture:
        """(row, camera, height, width, 3): what each chunk of `actions` is expected to lead to. frames: one row, or one for each chunk"""
        obs = rows_for(observation(frames, self.keys, actions.device), len(actions))
        drawn = self.dynamics.pictures(self.dynamics.given(obs)(actions))
        return (drawn.movedim(2, -1) * 255).byte().cpu().numpy()

    @torch.no_grad()
    def scores(self, frames: Frames, actions: Tensor) -> list[float]:
        """One for each chunk; NaN without a score."""
        if self.score is None:
            return [math.nan] * len(actions)
        obs = rows_for(observation(frames, self.keys, actions.device), len(actions))
        return [float(value) for value in self.score.given(obs)(actions)]


class OutcomeVideo(Video):
    """The scene, and beside it the outcome that the executed chunk is expected to have, in the first camera."""

    def __init__(self, path: Path, expectation: Expectation, *, steps: int, fps: int) -> None:
        super().__init__(path, fps=fps)
        self._expectation, self._steps = expectation, steps
        self._drawn: dict[int, list[Picture]] = {}

    def decided(self, decision: Decision) -> None:
        last = decision.trace[-1]
        chunks = last.at.to_actions(last.denoised)[executed_candidates(decision)]
        for seed, pictures in zip(decision.seeds, self._expectation.pictures(decision.frames, chunks), strict=True):
            self._drawn.setdefault(seed, []).append(pictures[0])

    def picture(self, seed: int, step: int, frame: Picture) -> Picture:
        drawn = self._drawn[seed]
        return beside(frame, drawn[min(step // self._steps, len(drawn) - 1)])

    def finished(self, episode: FinishedEpisode) -> None:
        super().finished(episode)
        self._drawn.pop(episode.result.seed, None)


class DenoisingCollage:
    """--save_frames: a picture of the first decision of each episode, `episode_SEED.png`: what is seen, and for every denoising step the outcome
    that its clean estimate is expected to have, with its score."""

    def __init__(self, folder: Path, expectation: Expectation, *, episodes: int = 8) -> None:
        self._folder, self._expectation, self._left = writable_folder(folder), expectation, episodes
        self._seen: set[int] = set()

    def decided(self, decision: Decision) -> None:
        new = [(row, seed) for row, seed in enumerate(decision.seeds) if seed not in self._seen]
        self._seen.update(seed for _, seed in new)
        wanted, self._left = new[: self._left], max(0, self._left - len(new))
        taken = executed_candidates(decision) if wanted else []
        for row, seed in wanted:
            frames = {key: value[row : row + 1] for key, value in decision.frames.items()}
            steps = [step.at for step in decision.trace]
            actions = torch.cat([at.to_actions(at.clean_estimate)[taken[row]][None] for at in steps])
            self._draw(self._folder / f"episode_{seed}.png", frames, actions, [at.timestep for at in steps])

    def finished(self, episode: FinishedEpisode) -> None: ...

    def close(self) -> None: ...

    def _draw(self, path: Path, frames: Frames, actions: Tensor, timesteps: list[int]) -> None:
        cameras = self._expectation.dynamics.config.cameras
        drawn, scores = self._expectation.pictures(frames, actions), self._expectation.scores(frames, actions)
        shown = _evenly(len(drawn), most=10)
        figure = Figure(figsize=(1.5 * (1 + len(shown)), 1.8 * len(cameras)), layout="constrained")
        axes = figure.subplots(len(cameras), 1 + len(shown), squeeze=False)
        for camera, row in zip(range(len(cameras)), axes, strict=True):
            row[0].imshow(frames[cameras[camera]][0, -1])
            row[0].set_title("now" if camera == 0 else "", fontsize=8)
            for axis, index in zip(row[1:], shown, strict=True):
                axis.imshow(drawn[index, camera])
                axis.set_title(_step_title(timesteps[index], scores[index]) if camera == 0 else "", fontsize=8)
        for axis in axes.flat:
            axis.axis("off")
        with written_whole(path) as temporary:
            figure.savefig(temporary, format="png", dpi=100)


def _step_title(timestep: int, score: float) -> str:
    return f"k = {timestep}" if math.isnan(score) else f"k = {timestep}, d = {score:.2f}"


def _evenly(count: int, *, most: int) -> list[int]:
    return list(dict.fromkeys(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))


def beside(frame: Picture, other: Picture) -> Picture:
    """Two pictures next to each other, the second one at the height of the first."""
    height = frame.shape[0]
    rows = np.arange(height) * other.shape[0] // height
    columns = np.arange(height) * other.shape[1] // height
    gap: NDArray[Any] = np.full((height, _GAP, 3), 255, np.uint8)
    return np.concatenate([frame, gap, other[rows][:, columns]], axis=1)
