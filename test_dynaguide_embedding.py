"""Examine a trained dynamics model on data that it has not seen: can it steer?

Does it listen to the action, predict better than the current frame, predict better as the episode goes on, draw what it predicts? Do outcomes of the
behaviour --key (examples in --good_hdf5) score higher than those of the other episodes in --mixed_hdf5: true ones, predicted ones, from noisy chunks?
Does its gradient raise the score? Leaves EXP_DIR/health.json (a verdict for each question, and can_steer), health.png and film.png, and prints a
table. Exit status 1 with --strict when it cannot steer.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import imageio.v2 as imageio
import matplotlib
import numpy as np

from dynaguide import cli
from dynaguide.chunks import ChunkDataset
from dynaguide.conditions import check_pictures, read_conditions
from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide.files import writable_folder, write_json, written_whole
from dynaguide.health import IMPROVES, LISTENS, RISES, SEPARATES, SEPARATES_NOISY, SEPARATES_TRUE, Health, examined, health
from dynaguide.outcome_training import OutcomeData, film_strip
from dynaguide.outcomes import Dynamics, load_dynamics
from dynaguide.randomness import seed_everything
from dynaguide.scores import Conditions, Distance, score_of_outcomes

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FILM_ROWS = 6


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__,
        example="python test_dynaguide_embedding.py --exp_dir results/dynamics --good_hdf5 button_off.hdf5 --mixed_hdf5 mixed.hdf5 \\\n"
        "      --checkpoint results/dynamics/model.safetensors --action_chunk_length 16 --key button_off",
    )
    made.add_argument("--exp_dir", type=Path, required=True, help="folder for what is found")
    made.add_argument("--good_hdf5", type=Path, required=True, help="episodes that show the behaviour --key: their last frames are the conditions")
    made.add_argument("--bad_hdf5", type=Path, help="episodes whose last frames are unwanted conditions, where the experiment has such")
    made.add_argument("--mixed_hdf5", type=Path, required=True, help="other episodes, of all behaviours, labelled (attribute `behavior`)")
    made.add_argument("--checkpoint", required=True, help="a dynamics model: ours (.safetensors) or published (.pth)")
    made.add_argument("--action_chunk_length", type=int, help="checked against the model, which says it itself")
    made.add_argument("--key", required=True, help="the behaviour")
    made.add_argument("--encoder", help="where DINOv2's weights lie, if the checkpoint does not carry its encoder")
    made.add_argument("--alpha", type=float, default=30.0, help="sigma of the score")
    made.add_argument("--distance", choices=get_args(Distance), default="euclidean", help="between outcomes, as in the experiment")
    made.add_argument("--compare", nargs="+", metavar="CAMERA", help="cameras whose pictures are compared, as in the experiment; all if not given")
    made.add_argument("--max_examples", type=int, default=20, help="conditions")
    made.add_argument("--max_windows", type=int, default=512, help="windows that errors are measured on")
    made.add_argument("--feature_dir", type=Path, help="where the encoder's tokens are kept; beside the data if not given")
    made.add_argument("--strict", action="store_true", help="exit status 1 when the model cannot steer")
    cli.add_seed(made)
    cli.add_device(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    if args.max_windows < 1:
        raise UserError(f"--max_windows must be at least 1, not {args.max_windows}")
    seed_everything(args.seed)
    writable_folder(args.exp_dir)
    device = cli.device(args.device)
    dynamics = load_dynamics(args.checkpoint, encoder=args.encoder, device=device)
    horizon = dynamics.config.windows.horizon
    if args.action_chunk_length not in (None, horizon):
        raise UserError(f"--action_chunk_length {args.action_chunk_length}, but the model was trained on chunks of {horizon}")
    data, behaviors = _mixed(args, dynamics)
    sets = [path and read_conditions(path, dynamics, max_examples=args.max_examples) for path in (args.good_hdf5, args.bad_hdf5)]
    score = score_of_outcomes(dynamics, Conditions(*sets), args.alpha, distance=args.distance, cameras=args.compare)
    found = health(dynamics, examined(data, behaviors, max_windows=args.max_windows, seed=args.seed), score, args.key, seed=args.seed)
    write_json(args.exp_dir / "health.json", found.to_dict())
    _plot(found, args.key, args.exp_dir / "health.png")
    _film(dynamics, data, args.exp_dir / "film.png")
    for answer in found.answers:
        print(f"{answer.verdict:<8} {answer.question:<46} {answer.because}")
    print(f"can steer: {'yes' if found.can_steer else 'no'}   ({args.exp_dir / 'health.json'})")
    if args.strict and not found.can_steer:
        sys.exit(1)


def _mixed(args: Namespace, dynamics: Dynamics) -> tuple[ChunkDataset, list[str]]:
    """The mixed episodes' windows, cut as the model's, and the behaviour of each episode."""
    with EpisodeFile(args.mixed_hdf5) as file:
        check_pictures(file, dynamics, f"episodes {args.mixed_hdf5}")
        behaviors = [str(file.attrs(name).get("behavior", "")) for name in file.names]
    if not any(behaviors):
        raise UserError(f"{args.mixed_hdf5}: its episodes have no attribute 'behavior'")
    config = dynamics.config
    wanted = OutcomeData(config.cameras, config.proprio_key, config.windows, args.feature_dir, pictures=dynamics.decoder is not None)
    return wanted.dataset(args.mixed_hdf5, dynamics.encoder, device=cli.device(args.device)), behaviors


def _plot(found: Health, key: str, path: Path) -> None:
    """Errors by what was done to the actions and as the episode goes on, gradient norms, scores of outcomes, and how they tell at each noise."""
    numbers = {answer.question: answer.numbers for answer in found.answers}
    figure, axes = plt.subplots(2, 3, figsize=(16, 8), layout="constrained")
    errors = {name: value for name, value in numbers[LISTENS].items() if name not in ("value", "threshold")}
    axes[0, 0].barh(list(errors), list(errors.values()), color=["C2" if name == "true" else "C0" for name in errors])
    axes[0, 0].set(title="squared error of the prediction", xlabel="per token and number")
    axes[0, 0].invert_yaxis()
    axes[0, 1].bar(list(numbers[IMPROVES]), list(numbers[IMPROVES].values()))
    axes[0, 1].set(title="squared error as the episode goes on", xlabel="share of the episode")
    _line(axes[0, 2], numbers[RISES]["median gradient norm"], "gradient of the score", "median norm")
    for axis, question in zip(axes[1], (SEPARATES_TRUE, SEPARATES), strict=False):
        if numbers[question]:
            _histogram(axis, numbers[question]["scores"], key)
            axis.set_title(f"{question}\nAUROC {numbers[question]['value']:.3f}")
    areas = {name: value for name, value in numbers[SEPARATES_NOISY].items() if name.startswith("AUROC")}
    if areas:
        _line(axes[1, 2], areas, "predicted outcomes of noisy chunks", "AUROC")
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)


def _line(axis: Any, numbers: dict[str, float], title: str, name: str) -> None:
    """numbers: by a text that ends in the noise step"""
    axis.plot([int(text.split()[-1]) for text in numbers], list(numbers.values()), "o-")
    axis.set(title=title, xlabel="noise step", ylabel=name, ylim=(0, None))


def _histogram(axis: Any, scores: dict[str, list[float]], key: str) -> None:
    others = [score for name, values in scores.items() if name != key for score in values]
    axis.hist([scores[key], others], bins=20, density=True, label=[key, "others"], color=["C2", "C0"])
    axis.set(xlabel="score", ylabel="density")
    axis.legend()


def _film(dynamics: Dynamics, data: ChunkDataset, path: Path) -> None:
    """From episodes' starts: now, predicted, true (all three decoded), true."""
    if dynamics.decoder is None:
        return
    starts = np.unique(data.first)
    batch = data.batch(starts[np.linspace(0, len(starts) - 1, min(FILM_ROWS, len(starts))).astype(int)])
    with written_whole(path) as temporary:
        imageio.imwrite(temporary, film_strip(dynamics, batch.to(next(dynamics.model.parameters()).device), dynamics.config.cameras[0]), format="png")


if __name__ == "__main__":
    main()
