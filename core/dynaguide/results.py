"""Results of rollouts as JSON: the published keys, and one entry an episode."""

import math
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dynaguide.files import write_json


@dataclass(frozen=True)
class EpisodeResult:
    """One finished episode. `behaviors` are the names of what happened in it, first one first."""

    seed: int
    length: int
    seconds: float
    episode_return: float
    success: bool
    behaviors: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rate:
    """How often something happened, with its 95 % Wilson interval."""

    count: int
    total: int
    rate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.rate:.2f} [{self.low:.2f}, {self.high:.2f}] ({self.count}/{self.total})"


def rate(count: int, total: int, z: float = 1.96) -> Rate:
    """The share of `count` in `total` and its Wilson interval; with nothing counted the interval is [0, 1]."""
    if total == 0:
        return Rate(0, 0, 0.0, 0.0, 1.0)
    share = count / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return Rate(count, total, share, max(0.0, centre - half), min(1.0, centre + half))


def behavior_rates(episodes: list[EpisodeResult]) -> dict[str, Rate]:
    """How many episodes showed each behaviour; an episode without any counts as `none`."""
    counts: dict[str, int] = {}
    for episode in episodes:
        for name in dict.fromkeys(episode.behaviors or ("none",)):
            counts[name] = counts.get(name, 0) + 1
    return {name: rate(count, len(episodes)) for name, count in sorted(counts.items())}


def summary(episodes: list[EpisodeResult]) -> dict[str, Any]:
    """The published keys (robomimic's averages over episodes; Time_Episode in minutes, time in seconds), and the rates."""
    count = max(1, len(episodes))
    successes = sum(episode.success for episode in episodes)
    seconds = sum(episode.seconds for episode in episodes)
    return {
        "Return": sum(episode.episode_return for episode in episodes) / count,
        "Horizon": sum(episode.length for episode in episodes) / count,
        "Success_Rate": successes / count,
        "Exception_Rate": 0.0,  # an exception ends the run: what finished before it is here
        "time": seconds / count,
        "Num_Success": successes,
        "Time_Episode": seconds / 60,
        "Num_Episode": len(episodes),
        "success": asdict(rate(successes, len(episodes))),
        "behaviors": {name: asdict(value) for name, value in behavior_rates(episodes).items()},
    }


def write_results(path: Path | str, episodes: list[EpisodeResult], *, config: dict[str, Any], seed: int) -> None:
    """The whole file, replaced at once; called after every episode, so a killed run keeps what it finished."""
    ordered = sorted(episodes, key=lambda episode: episode.seed)
    write_json(path, {**summary(ordered), "config": config, "versions": versions(), "seed": seed, "episodes": [asdict(one) for one in ordered]})


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    found = {"python": platform.python_version()}
    for package in ("dynaguide", "dynaguide_robomimic", "torch", "diffusers", "gymnasium", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
