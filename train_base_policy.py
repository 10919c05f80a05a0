"""Train the base diffusion policy from a robomimic configuration and a robomimic HDF5 file.

Leaves OUTPUT/NAME/model.safetensors (averaged weights, with everything needed to run them), snapshots/, metrics.jsonl and TensorBoard's events.
`accelerate launch train_base_policy.py ...` trains on several GPUs.
"""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dynaguide import cli
from dynaguide.errors import UserError
from dynaguide.files import writable_folder
from dynaguide.training import is_main_process
from dynaguide_robomimic.checkpoints import export_robomimic, load_policy
from dynaguide_robomimic.config import load_config, with_encoder
from dynaguide_robomimic.train import shorten, train_policy


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__,
        example="python train_base_policy.py --config configs/diffusion_policy_image_calvin_ddim.json --dataset play.hdf5 --name base",
    )
    made.add_argument("--config", required=True, help="robomimic's JSON configuration")
    made.add_argument("--dataset", help="overrides train.data")
    made.add_argument("--output", help="overrides train.output_dir")
    made.add_argument("--name", help="overrides experiment.name")
    made.add_argument("--encoder", help="overrides the patch encoder of every camera (a configuration with FrozenPatches)")
    made.add_argument("--seed", type=int, help="overrides train.seed")
    made.add_argument("--resume", action="store_true", help="go on from the last saved state of the same run")
    made.add_argument("--export", action="store_true", help="also write model.pth in robomimic's format, for the published code")
    cli.add_device(made)
    cli.run(train, made, argv)


def train(args: Namespace) -> None:
    config = load_config(args.config)
    if args.seed is not None:
        config = replace(config, train=replace(config.train, seed=args.seed))
    if args.encoder:
        config = with_encoder(config, args.encoder)
    if args.debug:
        config = shorten(config)
    dataset = args.dataset or config.train.data
    if dataset is None:
        raise UserError("name the data with --dataset (the config has no train.data)")
    folder = Path(args.output or config.train.output_dir) / (args.name or config.experiment.name)
    writable_folder(folder.parent)  # before the data is read
    path = train_policy(config, Path(dataset), folder, device=cli.device(args.device), resume=args.resume)
    if not is_main_process():
        return
    print(path)
    if args.export:
        export_robomimic(path.with_suffix(".pth"), *load_policy(path))
        print(path.with_suffix(".pth"))


if __name__ == "__main__":
    main()
