"""Train a small patch encoder on your own pictures, in minutes, for machines without DINOv2's weights.

Leaves OUTPUT/model.safetensors (give it to train_dynaguide.py --encoder), pictures.png (pictures and their reconstructions), state.pt (for --resume),
metrics.jsonl and TensorBoard's events.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import torch

from dynaguide import cli
from dynaguide.chunks import ChunkDataset, Windows
from dynaguide.encoders import save_patch_encoder
from dynaguide.encoders.base import resized
from dynaguide.encoders.patches import PatchAutoencoder, PatchEncoder, PatchEncoderConfig, PictureObjective, change_weights
from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide.files import writable_folder, written_whole
from dynaguide.outcome_training import checked_cameras
from dynaguide.randomness import seed_everything
from dynaguide.training import Data, TrainingPlan, train
from dynaguide.types import to_float_image

SAMPLE = 1000  # pictures that say how much each pixel changes, and what the tokens are standardised on
SHOWN = 8
END = 3  # frames at the end of an episode that show what has come about


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python train_patch_encoder.py --dataset play.hdf5 --output results/encoder --image_size 96")
    made.add_argument("--dataset", type=Path, required=True, help="episodes with pictures")
    made.add_argument("--cameras", nargs="+", default=["third_person"], help="image observations; one encoder learns all of them")
    made.add_argument("--output", type=Path, required=True, help="folder of the run")
    made.add_argument("--image_size", type=int, default=64, help="pixels a side that the encoder works at")
    made.add_argument("--channels", type=int, nargs="+", default=[16, 32, 64], help="of the convolutions; each halves the picture")
    made.add_argument("--merge", type=int, default=1, help="patches a side in one token: 2 makes a quarter of the tokens, four times as wide")
    made.add_argument(
        "--labels", action="store_true", help="learn the episodes' behaviours too: one more token, alike for ends of the same behaviour"
    )
    made.add_argument("--label_scale", type=float, default=4.0, help="how much that token counts in distances")
    made.add_argument("--steps", type=int, default=3000)
    made.add_argument("--batch_size", type=int, default=32)
    made.add_argument("--learning_rate", type=float, default=1e-3)
    made.add_argument("--resume", action="store_true", help="go on from the last saved state of the same run")
    cli.add_seed(made)
    cli.add_device(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    if min(args.steps, args.batch_size) < 1:
        raise UserError("--steps and --batch_size must be at least 1")
    writable_folder(args.output)
    seed_everything(args.seed)
    cameras = checked_cameras(args.cameras)
    behaviors = labels_of(args.dataset) if args.labels else []
    names = tuple(sorted(set(behaviors)))
    config = PatchEncoderConfig(args.image_size, tuple(args.channels), args.merge, names)
    ends = {"late_share": 0.5, "late_steps": END} if names else {}
    data = ChunkDataset(args.dataset, cameras, Windows(history=1, horizon=1, offset=0), **ends)
    for camera in cameras:
        if len(data.shapes[camera]) != 3:
            raise UserError(f"{args.dataset}: {camera!r} is not an image")
    sample = _sample(data, cameras, config.image_size)
    encoder = PatchEncoder(config)
    if names:
        encoder.whole_scale.fill_(args.label_scale)
    autoencoder = PatchAutoencoder(encoder, torch.stack([change_weights(pictures) for pictures in sample]))
    device = cli.device(args.device)

    def export(path: Path) -> None:
        autoencoder.encoder.standardise_on(sample.flatten(0, 1).to(device))
        save_patch_encoder(path, autoencoder.encoder)

    objective = PictureObjective(autoencoder, cameras, classes_of(data, behaviors, names) if names else None)
    path = train(objective, Data(data), _plan(args), args.output, export=export, device=device, resume=args.resume)
    shown = sample[:, :: max(1, sample.shape[1] * len(cameras) // SHOWN)].flatten(0, 1)
    _draw(autoencoder, shown.to(device), args.output / "pictures.png")
    print(path)


def labels_of(path: Path) -> list[str]:
    """The behaviour of every episode."""
    with EpisodeFile(path) as file:
        behaviors = [str(file.attrs(name).get("behavior", "")) for name in file.names]
        if "" in behaviors:
            raise UserError(f"{path}: {file.names[behaviors.index('')]} has no label (attribute 'behavior'), which --labels learns from")
    return behaviors


def classes_of(data: ChunkDataset, behaviors: Sequence[str], names: Sequence[str]) -> torch.Tensor:
    """Of every frame: its episode's behaviour where it ends, one more class in the episode's first half, -1 between."""
    frames = np.arange(len(data.episode_of))
    own = np.array([names.index(behavior) for behavior in behaviors])[data.episode_of]
    left, past = data.steps_left(frames), data.step(frames)
    return torch.from_numpy(np.where(left <= END, own, np.where(past < left, len(names), -1)))


def _sample(data: ChunkDataset, cameras: tuple[str, ...], size: int) -> torch.Tensor:
    """Pictures spread evenly over the data, as the encoder sees them. (camera, picture, 3, size, size)"""
    frames = np.linspace(0, len(data.episode_of) - 1, min(SAMPLE, len(data.episode_of))).astype(np.int64)
    parts = [data.batch(part).obs for part in np.array_split(frames, max(1, len(frames) // 100))]
    return torch.stack([torch.cat([resized(to_float_image(obs[camera][:, -1]), size) for obs in parts]) for camera in cameras])


def _plan(args: Namespace) -> TrainingPlan:
    steps = 10 if args.debug else args.steps
    return TrainingPlan(
        steps=steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        schedule="cosine",
        warmup_steps=min(50, steps),
        ema_max_decay=0.99,
        seed=args.seed,
        save_every=500,
    )


@torch.no_grad()
def _draw(autoencoder: PatchAutoencoder, pictures: torch.Tensor, path: Path) -> None:
    """Pictures above, their reconstructions below."""
    rows = [torch.cat(list(row.clamp(0, 1)), dim=2) for row in (pictures, autoencoder.reconstruct(pictures))]
    with written_whole(path) as temporary:
        imageio.imwrite(temporary, (torch.cat(rows, dim=1).movedim(0, -1) * 255).byte().cpu().numpy(), format="png")


if __name__ == "__main__":
    main()
