"""Steer a policy that touches any of four squares by chance to the colour you name: a table, a figure, a film.

Everything runs on the trained models that come with the repository, on a CPU, within minutes.
All arms see the same layouts and draw the same noise.
"""

import logging
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import torch

from dynaguide.cli import add_device, add_seed, parser, run
from dynaguide.errors import UserError
from dynaguide.recorders import need_ffmpeg
from dynaguide_robomimic import block_touch_runs
from dynaguide_robomimic.block_touch_film import write_film
from dynaguide_robomimic.block_touch_pictures import OUTCOMES, RecordedRun, overview_figure, read_run
from dynaguide_robomimic.envs.block_touch.world import COLOR_NAMES, color_index

MODELS = Path(__file__).parents[1] / "checkpoints" / "block_touch"
FIRST_SEED = 1000  # the seeds from here on belong to no training data
TRACED, FILMED = 20, 6


def main(argv: Sequence[str] | None = None) -> None:
    made = parser(__doc__, example="python toy_squares_experiment/demo.py --target red --episodes 20")
    made.add_argument("--target", help=f"steer to this colour only: {', '.join(COLOR_NAMES)} (default: to each of them)")
    made.add_argument("--episodes", type=int, default=20, help="episodes an arm")
    made.add_argument("--output", type=Path, default=Path("results/demo"), help="figure, film and results go here; earlier ones are replaced")
    made.add_argument("--agent", type=Path, default=MODELS / "policy.safetensors", help="the base policy's checkpoint")
    made.add_argument("--guidance", type=Path, default=MODELS / "classifier.safetensors", help="the classifier's checkpoint")
    made.add_argument("--horizon", type=int, default=150, help="steps after which an episode ends")
    add_seed(made, FIRST_SEED)
    add_device(made)
    run(demonstrate, made, argv)


def demonstrate(args: Namespace) -> None:
    for path in (args.agent, args.guidance):
        if not path.is_file():
            raise UserError(f"the trained model {path} is not there: `make train-demo` makes it")
    targets = [COLOR_NAMES[color_index(args.target)]] if args.target else list(COLOR_NAMES)
    torch.set_num_threads(1)  # the networks are so small that threads cost more than they bring
    need_ffmpeg(args.output / "steering.mp4")
    arms = {"base": [], **{f"to_{color}": ["--target", color] for color in targets}, "away": ["--avoid", targets[0]]}
    seconds = {name: _rolled_out(args, name, wanted) for name, wanted in arms.items()}
    runs = [read_run(_folder(args, name) / "results.json") for name in arms]
    print(_table(runs, list(seconds.values())))
    figure = overview_figure(args.output / "steering.png", runs, runs[1], _folder(args, f"to_{targets[0]}") / "traces")
    film = write_film(args.output / "steering.mp4", runs, layouts=FILMED)
    print(f"\nfigure: {figure}\nfilm: {film}\nresults: {args.output}/{{{','.join(arms)}}}/results.json")


def _folder(args: Namespace, arm: str) -> Path:
    return args.output / arm


def _rolled_out(args: Namespace, arm: str, wanted: list[str]) -> float:
    """One arm, as `classifier_guidance_pymunk.py` would run it; returns the seconds that a decision took an episode."""
    made = block_touch_runs.parser(None, example="")
    block_touch_runs.add_guidance(made)
    folder = _folder(args, arm)
    logging.info("%s: %d episodes", arm, args.episodes)
    flags = ["--agent", str(args.agent), *(["--guidance", str(args.guidance), *wanted] if wanted else []), "--paths"]
    flags += ["--n_rollouts", str(args.episodes), "--horizon", str(args.horizon), "--seed", str(args.seed), "--device", args.device]
    flags += ["--output_folder", str(folder), "--trace_path", str(folder / "traces"), "--trace_episodes", str(TRACED)]
    return block_touch_runs.guided(made.parse_args(flags)).seconds_per_decision


def _table(runs: Sequence[RecordedRun], seconds: Sequence[float]) -> str:
    """How often each arm touched what, with its interval, and what a decision costs."""
    lines = [f"{'touched':<26}" + "".join(f"{outcome:<20}" for outcome in OUTCOMES) + "ms a decision and episode"]
    for one, spent in zip(runs, seconds, strict=True):
        cells = [f"{value.rate:.2f} [{value.low:.2f}, {value.high:.2f}]" for value in one.rates().values()]
        lines.append(f"{one.name:<26}" + "".join(f"{cell:<20}" for cell in cells) + f"{1000 * spent:.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
