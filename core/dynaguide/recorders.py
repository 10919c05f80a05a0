"""What a run leaves behind: results, episodes, video, the denoising traces, and a progress bar."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import imageio.v2 as imageio
import imageio_ffmpeg  # type: ignore[import-untyped]
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynaguide.episodes import EpisodeWriter
from dynaguide.errors import UserError
from dynaguide.files import writable_folder, written_whole
from dynaguide.progress import bar
from dynaguide.results import EpisodeResult, write_results
from dynaguide.rollout import Decision, FinishedEpisode, Recorder
from dynaguide.types import Denoising, GuidedStep

MakesRecorder = Callable[[], Recorder]


@runtime_checkable
class MakesVideo(Protocol):
    def __call__(self, path: Path, *, fps: int) -> Recorder: ...


class _Silent:
    """Ignores everything; recorders override what concerns them."""

    def decided(self, decision: Decision) -> None: ...

    def finished(self, episode: FinishedEpisode) -> None: ...

    def close(self) -> None: ...


class Progress(_Silent):
    """A bar that counts episodes and successes."""

    def __init__(self, total: int, name: str) -> None:
        self._bar, self._successes = bar(total=total, name=name, unit="episode"), 0

    def finished(self, episode: FinishedEpisode) -> None:
        self._successes += episode.result.success
        self._bar.set_postfix(success=self._successes, refresh=False)
        self._bar.update()

    def close(self) -> None:
        self._bar.close()


class Results(_Silent):
    """The results JSON, written again after every episode."""

    def __init__(self, path: Path | str, *, config: dict[str, Any], seed: int) -> None:
        self._path, self._config, self._seed = Path(path), config, seed
        writable_folder(self._path.parent)
        self._episodes: list[EpisodeResult] = []

    def finished(self, episode: FinishedEpisode) -> None:
        self._episodes.append(episode.result)
        write_results(self._path, self._episodes, config=self._config, seed=self._seed)


class Episodes(_Silent):
    """Every episode into an HDF5 file, as soon as it ends; a file that is there already is continued."""

    def __init__(self, path: Path | str, env_meta: dict[str, Any], *, with_obs: bool) -> None:
        self._writer, self._with_obs = EpisodeWriter(path, env_meta, append=True), with_obs

    def finished(self, episode: FinishedEpisode) -> None:
        steps, result = episode.steps, episode.result
        obs = {key: np.stack([step.obs[key] for step in steps]) for key in steps[0].obs} if self._with_obs else {}
        if not obs:
            obs = {key: np.stack([step.obs[key] for step in steps]) for key, value in steps[0].obs.items() if value.ndim < 3}
        self._writer.add(
            np.stack([step.action for step in steps]),
            obs,
            rewards=np.array([step.reward for step in steps]),
            dones=np.array([step.done for step in steps]),
            behavior=result.behaviors[0] if result.behaviors else None,
            seed=result.seed,
            success=result.success,
        )

    def close(self) -> None:
        self._writer.close()


class Video(_Silent):
    """All episodes, one after another, in one MP4."""

    def __init__(self, path: Path | str, *, fps: int = 20) -> None:
        writable_folder(Path(path).parent)
        need_ffmpeg(path)
        try:
            self._writer = imageio.get_writer(path, fps=fps, macro_block_size=2)
        except (ImportError, ValueError, OSError) as error:
            raise UserError(f"cannot write the video {path}: {error}") from error

    def finished(self, episode: FinishedEpisode) -> None:
        for index, step in enumerate(episode.steps):
            if step.frame is not None:
                self.show(self.picture(episode.result.seed, index, step.frame))

    def picture(self, seed: int, step: int, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What is shown of a step: what was rendered."""
        return frame

    def show(self, frame: NDArray[np.uint8]) -> None:
        """One more picture, (height, width, 3)."""
        self._writer.append_data(frame)

    def close(self) -> None:
        self._writer.close()


def need_ffmpeg(path: Path | str) -> None:
    """Before any long work: imageio looks for ffmpeg when the first picture comes, and says so with a RuntimeError."""
    try:
        subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-version"], check=True, capture_output=True)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"cannot write the video {path}: ffmpeg is missing or does not run; `pip install imageio-ffmpeg` brings one") from error


class Traces(_Silent):
    """The denoising of an episode's first decisions, as .npz.

    noisy, clean_estimate, noise, guidance, denoised      as the loop has them, each (step, horizon, action)
    noisy_actions, denoised_actions                       the chunk before and after the step, in the environment's units
    policy_push, guidance_push                            what the policy and the guidance would each add to it alone, on the way to the clean
                                                          estimate, -std eps and std^2 g; in the environment's units
    timestep, executed, obs/*                             the steps' k, the actions that were taken, what was seen
    `decisions` of each of the first `episodes` (default: of all) are kept.
    """

    def __init__(self, folder: Path | str, *, decisions: int = 1, episodes: int | None = None) -> None:
        self._folder, self._limit, self._episodes = writable_folder(folder), decisions, episodes
        self._seen: dict[int, int] = {}

    def decided(self, decision: Decision) -> None:
        wanted = [(row, seed) for row, seed in enumerate(decision.seeds) if self._wants(seed)]
        if not wanted:
            return
        arrays, taken = _arrays(decision.trace), executed_candidates(decision)
        for row, seed in wanted:
            path = self._folder / f"episode_{seed}_decision_{self._seen[seed]}.npz"
            self._seen[seed] += 1
            self._write(path, decision, row, {name: array[:, taken[row]] for name, array in arrays.items()})

    def _wants(self, seed: int) -> bool:
        if seed not in self._seen and self._episodes is not None and len(self._seen) >= self._episodes:
            return False
        return self._seen.setdefault(seed, 0) < self._limit

    def _write(self, path: Path, decision: Decision, row: int, arrays: dict[str, NDArray[Any]]) -> None:
        frames = {f"obs/{key}": value[row] for key, value in decision.frames.items()}
        timesteps = np.array([step.at.timestep for step in decision.trace])
        with written_whole(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays, **frames, timestep=timesteps, executed=decision.actions[row])  # type: ignore[arg-type]


def executed_candidates(decision: Decision) -> list[int]:
    """For each episode of a decision the row of the trace's batch that was executed."""
    last = decision.trace[-1]
    chunks = last.at.to_actions(last.denoised).float().cpu().numpy()
    candidates = len(chunks) // len(decision.seeds)
    starts = range(0, len(chunks), candidates)
    return [start + _taken(chunks[start : start + candidates], executed) for start, executed in zip(starts, decision.actions, strict=True)]


def _taken(chunks: NDArray[Any], executed: NDArray[Any]) -> int:
    """Which candidate's chunk the executed actions are part of. chunks: (candidate, horizon, action)"""
    parts = np.lib.stride_tricks.sliding_window_view(chunks, len(executed), axis=1)  # (candidate, offset, action, step)
    return int(np.abs(parts - executed.T).max((2, 3)).min(1).argmin())


@torch.no_grad()
def _arrays(trace: list[GuidedStep]) -> dict[str, NDArray[Any]]:
    """name -> (step, batch, horizon, action)"""
    return {name: np.stack([of(step).float().cpu().numpy() for step in trace]) for name, of in _KEPT.items()}


def _push(at: Denoising, direction: Tensor) -> Tensor:
    """What a direction in the denoised chunk comes to in the environment's units."""
    return at.to_actions(at.noisy + direction) - at.to_actions(at.noisy)


_KEPT: dict[str, Callable[[GuidedStep], Tensor]] = {
    "noisy": lambda step: step.at.noisy,
    "clean_estimate": lambda step: step.at.clean_estimate,
    "noise": lambda step: step.at.noise,
    "guidance": lambda step: step.guidance,
    "denoised": lambda step: step.denoised,
    "noisy_actions": lambda step: step.at.to_actions(step.at.noisy),
    "denoised_actions": lambda step: step.at.to_actions(step.denoised),
    "policy_push": lambda step: _push(step.at, -step.at.noise_std * step.at.noise),
    "guidance_push": lambda step: _push(step.at, step.at.noise_std**2 * step.guidance),
}
