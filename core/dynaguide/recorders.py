"""What a run leaves behind: results, episodes, video, the denoising traces, and a progress bar."""

from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np

from dynaguide.episodes import EpisodeWriter
from dynaguide.errors import UserError
from dynaguide.files import writable_folder, written_whole
from dynaguide.progress import bar
from dynaguide.results import EpisodeResult, write_results
from dynaguide.rollout import Decision, FinishedEpisode


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
        try:
            self._writer = imageio.get_writer(path, fps=fps, macro_block_size=2)
        except (ImportError, ValueError, OSError) as error:
            raise UserError(f"cannot write the video {path}: {error}") from error

    def finished(self, episode: FinishedEpisode) -> None:
        for step in episode.steps:
            if step.frame is not None:
                self._writer.append_data(step.frame)

    def close(self) -> None:
        self._writer.close()


class Traces(_Silent):
    """The denoising of an episode's first decisions, as .npz: noisy, clean_estimate, noise, guidance, denoised, each (step, horizon, action)."""

    def __init__(self, folder: Path | str, *, decisions: int = 1) -> None:
        self._folder, self._limit = writable_folder(folder), decisions
        self._seen: dict[int, int] = {}

    def decided(self, decision: Decision) -> None:
        for row, seed in enumerate(decision.seeds):
            number = self._seen.get(seed, 0)
            self._seen[seed] = number + 1
            if number < self._limit:
                self._write(self._folder / f"episode_{seed}_decision_{number}.npz", decision, row)

    def _write(self, path: Path, decision: Decision, row: int) -> None:
        candidates = len(decision.trace[0].denoised) // len(decision.seeds)
        chosen = row * candidates
        arrays = {name: np.stack([getattr(step.at, name)[chosen].cpu().numpy() for step in decision.trace]) for name in _OF_THE_MOMENT}
        arrays["guidance"] = np.stack([step.guidance[chosen].cpu().numpy() for step in decision.trace])
        arrays["denoised"] = np.stack([step.denoised[chosen].cpu().numpy() for step in decision.trace])
        arrays["timestep"] = np.array([step.at.timestep for step in decision.trace])
        arrays["executed"] = decision.actions[row]
        frames = {f"obs/{key}": value[row] for key, value in decision.frames.items()}
        with written_whole(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays, **frames)  # type: ignore[arg-type]


_OF_THE_MOMENT = ("noisy", "clean_estimate", "noise")
