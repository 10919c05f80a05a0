"""Runs on the play table, read back from their results JSON or from their recorded states, and the tables of what came of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide.files import read_json
from dynaguide.results import Rate, rate
from dynaguide_calvin.detector import DONE, NO_BEHAVIOR, TOUCHED, first_behavior

METHODS = ("base", "dynaguide", "sampling", "position", "goal_conditioned")  # the order of the columns


class RecordedRun(NamedTuple):
    """One run. shown: what each episode did first; reached: None where nobody said what was wanted"""

    path: Path
    experiment: str
    method: str
    shown: list[tuple[str, ...]]
    reached: Rate | None

    @property
    def behaviors(self) -> dict[str, Rate]:
        """The share of the episodes that showed each behaviour, the most frequent first."""
        names = [name for one in self.shown for name in dict.fromkeys(one or (NO_BEHAVIOR,))]
        counts = sorted(((names.count(name), name) for name in set(names)), key=lambda pair: (-pair[0], pair[1]))
        return {name: rate(count, len(self.shown)) for count, name in counts}


def read_runs(paths: Sequence[Path], *, noticeable: bool = False) -> list[RecordedRun]:
    """Of results JSONs, of all in a folder, and of rollouts' HDF5 files."""
    runs = []
    for path in paths:
        found = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path} holds no results JSON")
        runs += [_of_episodes(one, noticeable) if one.suffix in (".hdf5", ".h5") else _of_results(one) for one in found]
    return runs


def _of_results(path: Path) -> RecordedRun:
    content = read_json(path, "results")
    try:
        episodes, config = content["episodes"], content["config"]
        shown = [tuple(one["behaviors"]) for one in episodes]
        successes = sum(bool(one["success"]) for one in episodes)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is not a results JSON of a rollout: it has no {error}") from error
    aimed = "experiment" in config
    return RecordedRun(
        path, str(config.get("experiment", path.stem)), str(config.get("arm", "base")), shown, rate(successes, len(shown)) if aimed else None
    )


def _of_episodes(path: Path, noticeable: bool) -> RecordedRun:
    rule = TOUCHED if noticeable else DONE
    with EpisodeFile(path) as file:
        missing = [key for key in ("states", "proprio") if key not in file.obs_shapes]
        if missing:
            raise UserError(f"{path} has no observation {missing[0]!r}, which behaviours are read from (found: {', '.join(file.obs_shapes)})")
        shown = []
        for name in file.names:
            states, proprio = file.read(name, "states"), file.read(name, "proprio")
            shown.append(first_behavior(states, proprio, rule) or tuple(filter(None, [str(file.attrs(name).get("behavior", ""))])))
    return RecordedRun(path, path.stem, "recorded", shown, None)


def method_table(runs: Sequence[RecordedRun]) -> list[list[str]]:
    """How often the aim was reached: a row an experiment, a column a method, and the averages; empty where nothing was aimed at."""
    aimed = [one for one in runs if one.reached is not None]
    methods = [name for name in METHODS if any(one.method == name for one in aimed)]
    methods += sorted({one.method for one in aimed} - set(methods))
    experiments = list(dict.fromkeys(one.experiment for one in aimed))
    if not aimed:
        return []
    cells = {(experiment, method): _pooled(aimed, experiment, method) for experiment in experiments for method in methods}
    rows = [[experiment, *(str(cells[experiment, method] or "") for method in methods)] for experiment in experiments]
    return [["aim reached", *methods], *rows, *([_averages(cells, experiments, methods)] if len(experiments) > 1 else [])]


def _pooled(runs: Sequence[RecordedRun], experiment: str, method: str) -> Rate | None:
    found = [one.reached for one in runs if (one.experiment, one.method) == (experiment, method) and one.reached]
    return rate(sum(one.count for one in found), sum(one.total for one in found)) if found else None


def _averages(cells: dict[tuple[str, str], Rate | None], experiments: list[str], methods: list[str]) -> list[str]:
    """Over the experiments, for the methods that ran in all of them."""
    row = ["average"]
    for method in methods:
        shares = [cells[experiment, method] for experiment in experiments]
        row.append("" if None in shares else f"{sum(one.rate for one in shares if one) / len(shares):.2f}")
    return row


def behavior_table(runs: Sequence[RecordedRun]) -> list[list[str]]:
    """What the episodes of each run did first."""
    rows = []
    for one in runs:
        shares = ", ".join(f"{name} {share.rate:.2f}" for name, share in one.behaviors.items())
        rows.append([one.experiment, one.method, str(len(one.shown)), shares])
    return [["experiment", "method", "episodes", "did first"], *rows]
