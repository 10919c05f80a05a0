"""Figures of BlockTouch runs, from their results JSON and denoising traces: outcomes, trajectories, denoising, all three together, or a sweep.

What the results allow is drawn: outcomes always, trajectories if the runs were made with --paths, denoising and the overview if there are --traces of
the first steered run. With --sweep the target's rate is drawn against the guidance's strength instead.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from dynaguide.cli import parser, run
from dynaguide.errors import UserError
from dynaguide_robomimic import block_touch_pictures as pictures


def main(argv: Sequence[str] | None = None) -> None:
    made = parser(
        __doc__,
        example="python figure_generation/block_touch.py results/demo/*/results.json --traces results/demo/to_blue/traces --output results/figures",
    )
    made.add_argument("results", nargs="+", help="results JSONs, of the same seeds")
    made.add_argument("--traces", type=Path, help="a folder of denoising traces (--trace_path, or the traces of --render_visuals)")
    made.add_argument("--of", type=Path, help="the results JSON whose run the traces are of (default: the first with a target)")
    made.add_argument("--sweep", action="store_true", help="draw the target's rate against the scale, one line for each form of guidance")
    made.add_argument("--output", type=Path, required=True, help="the folder for the PNGs")
    run(draw, made, argv)


def draw(args: Namespace) -> None:
    runs = [pictures.read_run(path) for path in args.results]
    for path in _sweep(args, runs) if args.sweep else _figures(args, runs):
        print(path)


def _sweep(args: Namespace, runs: list[pictures.RecordedRun]) -> list[Path]:
    return [pictures.sweep_figure(args.output / "sweep.png", runs)]


def _figures(args: Namespace, runs: list[pictures.RecordedRun]) -> list[Path]:
    drawn = [pictures.outcomes_figure(args.output / "outcomes.png", runs)]
    if all("path" in episode.details for one in runs for episode in one.episodes):
        drawn.append(pictures.trajectories_figure(args.output / "trajectories.png", runs))
    if args.traces:
        traced = pictures.read_run(args.of) if args.of else next((one for one in runs if one.target and one.arm != "base"), None)
        if traced is None:
            raise UserError("none of the results is of a run steered to one colour: name the run that --traces are of with --of")
        drawn += pictures.draw_denoising_of(traced.path, args.traces, args.output / "denoising")
        drawn.append(pictures.overview_figure(args.output / "overview.png", runs, traced, args.traces))
    return drawn


if __name__ == "__main__":
    main()
