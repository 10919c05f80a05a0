"""Training the dynamics model from cached features against encoding the pictures at each step, side by side in one process.

The same windows, model, noise and optimizer; only where the image tokens come from differs. DINOv2's weights are random: the work is the same. Rounds
alternate, and the best of each way is reported, with how far apart the losses of the first step are. The arithmetic that the matrix products of each
way take says which ratio to expect where reading costs nothing: beside a ViT-S/14, two pictures a window are about as much work as a training step
of the paper's transformer.
"""

import gc
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from dynaguide import cli
from dynaguide.chunks import ChunkDataset, Windows
from dynaguide.encoders.dinov2 import VARIANTS, DinoConfig, DinoV2
from dynaguide.episodes import EpisodeWriter
from dynaguide.noising import ChunkNoise
from dynaguide.outcome_training import DynamicsObjective, OutcomeData, config_for, new_dynamics

WINDOWS = Windows(history=1, horizon=16, offset=-1, outcome="last")
FRAMES = 20  # an episode


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python benchmarks/dynamics_training.py --rounds 3")
    made.add_argument("--variant", choices=list(VARIANTS), default="vits14", help="of DINOv2")
    made.add_argument("--batch_size", type=int, default=16, help="windows a step")
    made.add_argument("--cameras", nargs="+", default=["third_person"], help="200 x 200 pixels each")
    made.add_argument("--episodes", type=int, default=4, help=f"of made-up data, {FRAMES} frames each")
    made.add_argument("--rounds", type=int, default=3, help="steps timed, each way")
    made.add_argument("--decoder_width", type=int, default=0, help="channels of a picture decoder that learns beside it; it costs both ways the same")
    cli.add_device(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    device = cli.device(args.device)
    torch.manual_seed(0)
    encoder = DinoV2(DinoConfig(args.variant)).requires_grad_(False).eval().to(device)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "data.hdf5", args.cameras, args.episodes)
        began = time.perf_counter()
        cached, encoding = (dataset(path, args, encoder, keep=keep) for keep in (True, False))
        spent = (time.perf_counter() - began) / (args.episodes * FRAMES * len(args.cameras))
        print(f"DINOv2 {args.variant}, batch {args.batch_size}, {device}, {torch.get_num_threads()} threads; {1000 * spent:.0f} ms a picture, once\n")
        report(args, encoder, {"encoding": encoding, "cached": cached})


def report(args: Namespace, encoder: DinoV2, ways: dict[str, ChunkDataset]) -> None:
    device = cli.device(args.device)
    noise = ChunkNoise(share=0.5, relative_to=None, scale=1.0)
    config = config_for(ways["cached"].path, outcome_data(args, None), encoder, noise)
    dynamics = new_dynamics(config, encoder, decoder_width=args.decoder_width, env_meta={})
    objective = DynamicsObjective(dynamics).to(device)
    optimizer = torch.optim.AdamW(objective.parameters(), fused=True)
    indices = np.random.default_rng(0).integers(0, len(ways["cached"]), args.batch_size)
    losses = [first_loss(objective, data, indices, device) for data in ways.values()]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, data in ways.items():
            seconds[name].append(step(objective, optimizer, data, indices, device))
    print(f"{'tokens from':>12} {'steps/s':>8} {'GFLOP a step':>13} {'loss':>10}")
    work = [gigaflop(objective, data, indices, device) for data in ways.values()]
    for name, loss, done in zip(ways, losses, work, strict=True):
        print(f"{name:>12} {1 / min(seconds[name]):>8.3f} {done:>13.0f} {loss:>10.6f}")
    print(f"{'ratio':>12} {min(seconds['encoding']) / min(seconds['cached']):>8.2f} {work[0] / work[1]:>13.2f}")


def first_loss(objective: DynamicsObjective, data: ChunkDataset, indices: np.ndarray, device: torch.device) -> float:
    torch.manual_seed(0)
    with torch.no_grad():
        return objective(data.batch(indices).to(device))["loss"].item()


def gigaflop(objective: DynamicsObjective, data: ChunkDataset, indices: np.ndarray, device: torch.device) -> float:
    """Of one window's matrix products, forward and backward, times the batch."""
    with FlopCounterMode(display=False) as counter:
        objective(data.batch(indices[:1]).to(device))["loss"].backward()
    objective.zero_grad()
    return len(indices) * counter.get_total_flops() / 1e9


def step(objective: DynamicsObjective, optimizer: torch.optim.Optimizer, data: ChunkDataset, indices: np.ndarray, device: torch.device) -> float:
    """Seconds of one training step, reading its windows included."""
    gc.collect()
    synchronize(device)
    began = time.perf_counter()
    objective(data.batch(indices).to(device))["loss"].backward()
    optimizer.step()
    optimizer.zero_grad()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def outcome_data(args: Namespace, folder: Path | None, *, keep: bool = True) -> OutcomeData:
    return OutcomeData(tuple(args.cameras), "proprio", WINDOWS, folder, pictures=args.decoder_width > 0, cached=keep)


def dataset(path: Path, args: Namespace, encoder: DinoV2, *, keep: bool) -> ChunkDataset:
    return outcome_data(args, path.parent / "features", keep=keep).dataset(path, encoder, device=cli.device(args.device))


def write(path: Path, cameras: Sequence[str], episodes: int) -> Path:
    """Pictures of large squares, which compress about as well as rendered ones."""
    rng = np.random.default_rng(0)
    index = np.arange(200) * 8 // 200
    with EpisodeWriter(path, {}) as writer:
        for _ in range(episodes):
            coarse = {camera: rng.integers(0, 256, (FRAMES, 8, 8, 3), np.uint8) for camera in cameras}
            pictures = {camera: value[:, index][:, :, index] for camera, value in coarse.items()}
            numbers = rng.uniform(-1, 1, (FRAMES, 15 + 7)).astype(np.float32)
            writer.add(numbers[:, 15:], {**pictures, "proprio": numbers[:, :15]})
    return path


if __name__ == "__main__":
    main()
