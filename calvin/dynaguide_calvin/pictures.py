"""The figure of runs on the play table: what they did, side by side, and how single episodes of them ended."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynaguide.episodes import EpisodeFile
from dynaguide.files import written_whole
from dynaguide_calvin import scene as facts
from dynaguide_calvin.analysis import RecordedRun
from dynaguide_calvin.detector import NO_BEHAVIOR

INKS = ("#9a9a9a", "#d6219c", "#2f5fe0", "#2fa84f", "#f2a100")  # of the runs, in their order


def overview_figure(path: Path | str, runs: Sequence[RecordedRun], *, wanted: Sequence[str] = (), rollouts: Sequence[Path] = ()) -> Path:
    """Bars of what each run did, with intervals; under them, for each file of rollouts (one a run), how the first episodes ended.

    wanted   behaviours whose names are printed bold
    """
    panels = 5
    rows = 1 + len(rollouts)
    figure = Figure(figsize=(10, 3.4 + 2.1 * len(rollouts)), layout="constrained")
    grid = figure.add_gridspec(rows, panels, height_ratios=[1.6, *[1.0] * len(rollouts)])
    _bars(figure.add_subplot(grid[0, :]), runs, wanted)
    for row, (run, file) in enumerate(zip(runs, rollouts, strict=True), start=1):
        _ends([figure.add_subplot(grid[row, column]) for column in range(panels)], run, file)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return Path(path)


def _bars(axis: Axes, runs: Sequence[RecordedRun], wanted: Sequence[str]) -> None:
    found = {name for run in runs for name in run.behaviors}
    names = [name for name in (*facts.BEHAVIORS, NO_BEHAVIOR) if name in found or name in wanted]
    width = 0.8 / len(runs)
    for index, run in enumerate(runs):
        shares = [run.behaviors.get(name) for name in names]
        heights = np.array([share.rate if share else 0.0 for share in shares])
        errors = np.array([[share.rate - share.low, share.high - share.rate] if share else [0.0, 0.0] for share in shares]).T
        places = np.arange(len(names)) + (index - (len(runs) - 1) / 2) * width
        label = f"{run.method} ({len(run.shown)} episodes)"
        axis.bar(places, heights, width, yerr=errors, color=INKS[index % len(INKS)], label=label, error_kw={"elinewidth": 0.8, "ecolor": "#444444"})
    axis.set_xticks(np.arange(len(names)), [name.replace("_", " ") for name in names], rotation=20, ha="right")
    for name, text in zip(names, axis.get_xticklabels(), strict=True):
        text.set_fontweight("bold" if name in wanted else "normal")
    axis.set_ylim(0, 1)
    axis.set_ylabel("share of episodes")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)


def _ends(axes: Sequence[Axes], run: RecordedRun, path: Path) -> None:
    """The last recorded picture of the first episodes, with what was done."""
    with EpisodeFile(path) as file:
        names = sorted(file.names, key=lambda name: int(file.attrs(name)["seed"]))[: len(axes)]
        lengths = dict(zip(file.names, file.lengths, strict=True))
        ends = [file.read(name, facts.THIRD_PERSON, int(lengths[name]) - 1) for name in names]
    for index, (axis, end) in enumerate(zip(axes, ends, strict=False)):
        axis.imshow(end)
        did = ", ".join(run.shown[index]) or NO_BEHAVIOR
        axis.set_title(f"{run.method}: {did.replace('_', ' ')}", fontsize=7.5)
    for axis in axes:
        axis.axis("off")
