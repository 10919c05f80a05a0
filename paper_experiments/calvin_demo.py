"""Steer a policy that does a bit of everything on the CALVIN play table to the behaviour you name, and leave one run unsteered: table, figure, video.

Everything runs on the trained models that come with the repository, on a CPU, within minutes. Both runs see the same scenes and draw the same noise.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import torch

from dynaguide import cli
from dynaguide.errors import UserError
from dynaguide.recorders import need_ffmpeg
from dynaguide_calvin import runs
from dynaguide_calvin.analysis import read_runs
from dynaguide_calvin.experiments import Aim, read_experiment
from dynaguide_calvin.pictures import overview_figure
from dynaguide_robomimic.checkpoints import load_policy

ROOT = Path(__file__).parents[1]
MODELS, EXPERIMENTS = ROOT / "checkpoints" / "calvin", ROOT / "calvin_exp_configs_examples"
FIRST_SEED = 5000  # the seeds from here on belong to no training data


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python paper_experiments/calvin_demo.py --target drawer_open --episodes 20")
    made.add_argument("--target", default="switch_on", help="an experiment of calvin_exp_configs_examples, such as button_on or avoid_drawer_open")
    made.add_argument("--episodes", type=int, default=10, help="episodes a run")
    made.add_argument(
        "--output", type=Path, default=Path("results/calvin_demo"), help="figure, videos and results go here; earlier ones are replaced"
    )
    made.add_argument("--agent", type=Path, default=MODELS / "policy.safetensors", help="the base policy's checkpoint")
    made.add_argument("--guidance", type=Path, default=MODELS / "dynamics.safetensors", help="the dynamics model's checkpoint")
    cli.add_seed(made, FIRST_SEED)
    cli.add_device(made)
    cli.run(demonstrate, made, argv)


def demonstrate(args: Namespace) -> None:
    for path in (args.agent, args.guidance):
        if not path.is_file():
            raise UserError(f"the trained model {path} is not there: `make calvin-data calvin-train` makes it")
    experiment = EXPERIMENTS / f"{args.target}.json"
    if not experiment.is_file():
        raise UserError(f"--target {args.target}: no such experiment (known: {', '.join(sorted(path.stem for path in EXPERIMENTS.glob('*.json')))})")
    torch.set_num_threads(1)  # the networks are so small that threads cost more than they bring
    need_ffmpeg(args.output / "steered.mp4")
    for name, more in {"unsteered": ["--scale", "0"], "steered": ["--save_frames"]}.items():
        _rolled_out(args, experiment, args.output / name, more)
    folders = [args.output / name for name in ("unsteered", "steered")]
    recorded = read_runs([folder / "results.json" for folder in folders])
    aim = Aim.of(read_experiment(experiment))
    figure = overview_figure(args.output / "steering.png", recorded, wanted=aim.wanted, rollouts=[folder / "rollouts.hdf5" for folder in folders])
    for run in recorded:
        print(f"{run.method:<10} {args.target} {run.reached}   did: {', '.join(f'{name} {share.count}' for name, share in run.behaviors.items())}")
    print(f"\nfigure: {figure}\nvideos: {args.output}/{{unsteered,steered}}/video.mp4 (left: the scene, right: the outcome that the model expects)")
    print(f"denoising: {args.output}/steered/frames\nresults: {args.output}/{{unsteered,steered}}/results.json")


def _rolled_out(args: Namespace, experiment: Path, folder: Path, more: list[str]) -> None:
    """One run, as `run_dynaguide.py` would do it."""
    made = runs.parser(None, example="")
    runs.add_guidance(made)
    (folder / "rollouts.hdf5").unlink(missing_ok=True)
    flags = ["--agent", str(args.agent), "--guidance", str(args.guidance), "--exp_setup_config", str(experiment), "--output_folder", str(folder)]
    flags += ["--dataset_path", str(folder / "rollouts.hdf5"), "--dataset_obs", "--video_path", str(folder / "video.mp4"), "--video_skip", "3"]
    flags += ["--n_rollouts", str(args.episodes), "--n_envs", str(args.episodes), "--seed", str(args.seed), "--device", args.device, *more]
    parsed = made.parse_args(flags)
    runs.guided(parsed, *load_policy(args.agent, cli.device(args.device)))


if __name__ == "__main__":
    main()
