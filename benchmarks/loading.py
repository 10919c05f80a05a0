"""Does the loader keep up? Batches a second that it delivers, against those that a training step on a laptop consumes, in one process."""

import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dynaguide import cli
from dynaguide.chunks import BatchOrder, ChunkDataset, batches
from dynaguide.episodes import EpisodeWriter
from dynaguide_robomimic.config import load_config
from dynaguide_robomimic.objective import NoisePrediction
from dynaguide_robomimic.policy import DiffusionPolicy
from dynaguide_robomimic.train import Tokens, shapes_of, training_windows

ACTIONS = {"munk": 2, "calvin": 7}
CAMERAS = {"munk": {"image": 64}, "calvin": {"third_person": 200, "eye_in_hand": 84}}
LOW_DIM = {"munk": {"agent_pos": 2, "states": 8}, "calvin": {"proprio": 15}}


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python benchmarks/loading.py --world calvin")
    made.add_argument("--world", choices=list(CAMERAS), nargs="+", default=list(CAMERAS), help="whose small configuration and image sizes")
    made.add_argument("--episodes", type=int, default=40, help="episodes of made-up data, 60 frames each")
    made.add_argument("--batches", type=int, default=30, help="batches timed")
    made.add_argument("--workers", type=int, default=2, help="processes that read images from disk")
    cli.add_device(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    print(f"{'world':>8} {'batch':>6} {'step consumes/s':>16} {'from memory/s':>14} {'ratio':>6} {'from disk/s':>12} {'ratio':>6}")
    for world in args.world:
        with tempfile.TemporaryDirectory() as folder:
            report(args, world, make_data(Path(folder) / "data.hdf5", world, args.episodes))


def report(args: Namespace, world: str, data: Path) -> None:
    config = load_config(f"configs/diffusion_policy_image_{world}_ddim_small.json")
    policy = DiffusionPolicy(config, shapes_of(config, data))
    size = config.train.batch_size
    cached = training_windows(config, Tokens(data), policy.windows, None)
    on_disk = ChunkDataset(data, list(cached.obs_keys), policy.windows, outcome_keys=cached.outcome_keys, cache_images=False)
    consumed = steps_per_second(policy, cached, size, cli.device(args.device))
    memory, disk = (batches_per_second(source, size, args.batches, args.workers) for source in (cached, on_disk))
    print(f"{world:>8} {size:>6} {consumed:>16.1f} {memory:>14.1f} {memory / consumed:>6.1f} {disk:>12.1f} {disk / consumed:>6.1f}", flush=True)


def make_data(path: Path, world: str, episodes: int) -> Path:
    """Smooth pictures, which compress about as well as rendered ones."""
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, {}) as writer:
        for _ in range(episodes):
            images = {key: smooth(rng, 60, side) for key, side in CAMERAS[world].items()}
            numbers = {key: rng.uniform(-1, 1, (60, size)).astype(np.float32) for key, size in LOW_DIM[world].items()}
            writer.add(rng.uniform(-1, 1, (60, ACTIONS[world])).astype(np.float32), {**images, **numbers})
    return path


def smooth(rng: np.random.Generator, frames: int, side: int) -> np.ndarray:
    coarse = rng.integers(0, 256, (frames, 8, 8, 3), np.uint8)
    index = np.arange(side) * 8 // side
    return coarse[:, index][:, :, index]


def steps_per_second(policy: DiffusionPolicy, data: ChunkDataset, size: int, device: torch.device) -> float:
    objective = NoisePrediction(policy).to(device)
    optimizer = torch.optim.AdamW(objective.parameters(), fused=device.type in ("cpu", "cuda"))
    batch = data.batch(np.arange(size)).to(device)
    times = []
    for _ in range(6):
        began = time.perf_counter()
        objective(batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return 1 / min(times[1:])


def batches_per_second(data: ChunkDataset, size: int, count: int, workers: int) -> float:
    source = batches(data, BatchOrder(len(data), size, seed=0), stop=count + 2, workers=workers)
    next(source)
    began = time.perf_counter()
    for _ in range(count):
        next(source)
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
