"""Train the dynamics model: from what the cameras show and an action chunk, noisy or not, to how the scene will look.

Leaves EXP_DIR/model.safetensors (averaged weights, with everything needed to run them), state.pt (for --resume), metrics.jsonl, TensorBoard's events
and film.png: examples of --test_hdf5, now, predicted and true. The encoder's tokens are computed once and kept beside each data file (or in
--feature_dir). An epoch is 100 steps. Look at the model with test_dynaguide_embedding.py before you steer with it.
"""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import torch

from dynaguide import cli
from dynaguide.chunks import ChunkDataset, Windows
from dynaguide.encoders import open_encoder
from dynaguide.encoders.base import OutcomeEncoder
from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide.files import writable_folder, written_whole
from dynaguide.noising import ChunkNoise
from dynaguide.outcome_training import DynamicsObjective, OutcomeData, checked_cameras, config_for, film_strip, new_dynamics
from dynaguide.outcomes import load_dynamics, save_dynamics
from dynaguide.randomness import seed_everything
from dynaguide.training import Data, TrainingPlan, is_main_process, train

STEPS_PER_EPOCH = 100
SIZES = {
    "paper": {"width": 384, "layers": 6, "heads": 8, "feed_forward": 2048},
    "tiny": {"width": 64, "layers": 2, "heads": 4, "feed_forward": 192, "action_hidden": 64, "action_numbers": 16, "residual": True},
    "small": {"width": 192, "layers": 4, "heads": 4, "feed_forward": 576, "action_hidden": 64, "action_numbers": 16, "residual": True},
}
FILM_ROWS = 6


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__,
        example="python train_dynaguide.py --exp_dir results/dynamics --train_hdf5 play.hdf5 --test_hdf5 play_valid.hdf5 \\\n"
        "      --cameras third_person --proprio_key proprio --num_epochs 6000 --action_chunk_length 16 --batch_size 16 --noised",
    )
    _add_data(made)
    _add_model(made)
    _add_training(made)
    cli.add_seed(made)
    cli.add_device(made)
    cli.run(run, made, argv)


def _add_data(made: ArgumentParser) -> None:
    group = made.add_argument_group("data")
    group.add_argument("--exp_dir", type=Path, required=True, help="folder of the run")
    group.add_argument("--train_hdf5", type=Path, required=True, help="episodes to learn from")
    group.add_argument("--test_hdf5", type=Path, help="other episodes, to measure on and to draw")
    group.add_argument("--cameras", nargs="+", default=["third_person"], help="image observations")
    group.add_argument("--proprio_key", default="proprio", help="proprioception; --no_proprio does without")
    group.add_argument("--no_proprio", action="store_true")
    group.add_argument("--proprio_angles", type=int, nargs="*", default=[], help="which of its numbers are angles; CALVIN's: 3 4 5")
    group.add_argument("--action_dim", type=int, help="checked against the data, which says it itself")
    group.add_argument("--proprio_dim", type=int, help="checked against the data, which says it itself")
    group.add_argument("--action_chunk_length", type=int, default=16, help="actions in a chunk, as in the policy's")
    group.add_argument("--history", type=int, default=2, help="frames that the policy sees: its chunks begin with the oldest of them")
    group.add_argument("--outcome", choices=["last", "chunk"], default="last", help="predict the episode's last observation, or that after the chunk")
    group.add_argument("--feature_dir", type=Path, help="where the encoder's tokens are kept; beside the data if not given")
    group.add_argument("--no_cache", action="store_true", help="encode the pictures again at every step")


def _add_model(made: ArgumentParser) -> None:
    group = made.add_argument_group("model")
    group.add_argument(
        "--encoder",
        default="dinov2_vits14",
        help="dinov2_vits14 (vitb14, vitl14, vitg14), a file of DINOv2's weights, a published dynamics checkpoint, or a patch encoder of "
        "train_patch_encoder.py",
    )
    group.add_argument("--size", choices=list(SIZES), default="paper", help="of the transformer; small trains on a laptop's CPU, tiny is for toys")
    group.add_argument("--decoder_width", type=int, default=128, help="channels of the picture decoder; 0 trains none")


def _add_training(made: ArgumentParser) -> None:
    group = made.add_argument_group("training")
    group.add_argument("--num_epochs", type=int, default=6000, help=f"epochs of {STEPS_PER_EPOCH} steps")
    group.add_argument("--batch_size", type=int, default=16, help="windows a step")
    group.add_argument("--learning_rate", type=float, default=1e-4)
    group.add_argument("--schedule", choices=["constant", "cosine"], default="constant", help="of the learning rate")
    group.add_argument("--noised", action="store_true", help="noise up to half of the chunks, as the policy denoises them: needed for guidance")
    group.add_argument("--noise_ramp", type=int, default=1000, help="steps over which the share of noised chunks grows to one half")
    group.add_argument("--draws", type=int, default=1, help="noises for each window")
    group.add_argument("--mixed_precision", choices=["no", "bf16", "fp16"], default="no")
    group.add_argument("--workers", type=int, default=2, help="processes that encode pictures on a CPU, or read them")
    group.add_argument("--resume", action="store_true", help="go on from the last saved state of the same run")


def run(args: Namespace) -> None:
    if min(args.num_epochs, args.batch_size, args.draws, args.history) < 1 or args.action_chunk_length < 2:
        raise UserError("--num_epochs, --batch_size, --draws and --history must be at least 1, --action_chunk_length at least 2")
    writable_folder(args.exp_dir)
    seed_everything(args.seed)
    device, encoder, wanted = cli.device(args.device), open_encoder(args.encoder), _data(args)
    noise = ChunkNoise(share=0.5 if args.noised else 0.0, relative_to=None, scale=1.0)
    config = config_for(args.train_hdf5, wanted, encoder, noise, **SIZES[args.size])
    _check_dimension("action_dim", args.action_dim, config.action_dim)
    _check_dimension("proprio_dim", args.proprio_dim, config.proprio_dim)
    data = _datasets(args, wanted, encoder, device)
    dynamics = new_dynamics(config, encoder, decoder_width=args.decoder_width, env_meta=data.train.env_meta)
    logging.info("%d windows of %d episodes", len(data.train), len(data.train.names))
    objective = DynamicsObjective(dynamics, ramp=args.noise_ramp, draws=args.draws)

    def export(path: Path) -> None:
        save_dynamics(path, dynamics)

    path = train(objective, data, _plan(args), args.exp_dir, export=export, device=device, resume=args.resume)
    if is_main_process():
        _draw(path, data.valid or data.train, args)
        print(path)


def _data(args: Namespace) -> OutcomeData:
    return OutcomeData(
        cameras=checked_cameras(args.cameras),
        proprio_key=None if args.no_proprio else args.proprio_key,
        windows=Windows(history=1, horizon=args.action_chunk_length, offset=1 - args.history, outcome=args.outcome),
        feature_dir=args.feature_dir,
        angles=tuple(args.proprio_angles),
        pictures=args.decoder_width > 0,
        cached=not args.no_cache,
        workers=_workers(args),
    )


def _datasets(args: Namespace, wanted: OutcomeData, encoder: OutcomeEncoder, device: torch.device) -> Data:
    if args.test_hdf5:
        _check_alike(args.train_hdf5, args.test_hdf5, wanted.cameras)
    train_set = wanted.dataset(args.train_hdf5, encoder, device=device)
    valid = wanted.dataset(args.test_hdf5, encoder, device=device) if args.test_hdf5 else None
    return Data(train_set, valid)


def _check_alike(train_path: Path, test_path: Path, cameras: Sequence[str]) -> None:
    with EpisodeFile(train_path) as learnt, EpisodeFile(test_path) as held_out:
        for camera in cameras:
            sizes = [file.obs_shapes.get(camera) for file in (learnt, held_out)]
            if sizes[0] != sizes[1]:
                raise UserError(f"{camera} has frames of {sizes[0]} in {train_path}, of {sizes[1]} in {test_path}")


def _check_dimension(flag: str, given: int | None, found: int) -> None:
    if given is not None and given != found:
        raise UserError(f"--{flag} {given}, but the data has {found}")


def _workers(args: Namespace) -> int:
    return 1 if args.debug else args.workers  # starting others takes longer than ten steps


def _plan(args: Namespace) -> TrainingPlan:
    steps = 10 if args.debug else args.num_epochs * STEPS_PER_EPOCH
    return TrainingPlan(
        steps=steps,
        batch_size=min(4, args.batch_size) if args.debug else args.batch_size,
        learning_rate=args.learning_rate,
        schedule=args.schedule,
        warmup_steps=min(300, steps // 10 + 1),
        weight_decay=1e-3,
        clip_norm=1.0,
        ema_max_decay=0.998,
        seed=args.seed,
        mixed_precision=args.mixed_precision,
        workers=_workers(args),
        validate_every=10 * STEPS_PER_EPOCH,
        save_every=10 * STEPS_PER_EPOCH,
    )


def _draw(path: Path, data: ChunkDataset, args: Namespace) -> None:
    """film.png beside the model: one row an example, from the start of an episode: now, predicted, true (decoded), true."""
    dynamics = load_dynamics(path, encoder=args.encoder)
    if dynamics.decoder is None or args.no_cache:
        return
    starts = np.unique(data.first)
    batch = data.batch(starts[np.linspace(0, len(starts) - 1, min(FILM_ROWS, len(starts))).astype(int)])
    with written_whole(args.exp_dir / "film.png") as temporary:
        imageio.imwrite(temporary, film_strip(dynamics, batch, dynamics.config.cameras[0]), format="png")


if __name__ == "__main__":
    main()
