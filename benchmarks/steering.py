"""The paper-size policy guided by a small differentiable score: the plain way to write it against this project's loop, on the same work.

The plain way is what one writes first, and what was published: the observation is encoded again at every step, and the trajectory is never
detached, so that the autograd graph runs through the policy and grows with the number of steps. Both give the same chunk (checked here).
"""

import contextlib
import ctypes
import gc
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Sequence

import psutil
import torch
from torch import Tensor

from dynaguide import Observation, Steering, ascend, cli, gaussian, sample_actions
from dynaguide.randomness import generator
from dynaguide.steering import with_steps
from dynaguide_robomimic.config import load_config
from dynaguide_robomimic.policy import DiffusionPolicy, Shapes

CAMERAS = {"eye_in_hand": (3, 84, 84), "third_person": (3, 200, 200)}
SCALE = 1.0


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python benchmarks/steering.py --steps 10 20 40")
    made.add_argument("--config", default="configs/diffusion_policy_image_calvin_ddim.json", help="the policy's size")
    made.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="episodes side by side")
    made.add_argument("--steps", type=int, nargs="+", default=[10, 40], help="denoising steps, for the growth of memory (batch 1)")
    made.add_argument("--rounds", type=int, default=3, help="the best of so many is reported")
    cli.add_device(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    device = cli.device(args.device)
    torch.manual_seed(0)
    policy = DiffusionPolicy(load_config(args.config), Shapes(7, {**CAMERAS, "proprio": (15,)}, {})).requires_grad_(False).eval().to(device)
    size = sum(parameter.numel() for parameter in policy.parameters()) / 1e6
    print(f"{size:.0f} M parameters, {device}, {torch.get_num_threads()} threads, {policy.inference_steps} DDIM steps\n")
    print(f"{'batch':>5} {'plain chunks/s':>15} {'ours chunks/s':>14} {'ratio':>6} {'plain MiB':>10} {'ours MiB':>9} {'largest difference':>19}")
    for batch in args.batches:
        report(policy, observe(batch, device), args.rounds, device)
    print(f"\n{'steps':>5} {'plain MiB':>10} {'ours MiB':>9}   (batch 1; memory above what the policy itself takes)")
    for steps in args.steps:
        obs = observe(1, device)
        ways = (lambda obs=obs, steps=steps: plainly_guided(policy, obs, steps), lambda obs=obs, steps=steps: ours_guided(policy, obs, steps))
        print(f"{steps:>5} {peak(ways[0], device):>10.0f} {peak(ways[1], device):>9.0f}")


def report(policy: DiffusionPolicy, obs: Observation, rounds: int, device: torch.device) -> None:
    batch, steps = len(obs["proprio"]), policy.inference_steps
    ways: list[Callable[[], Tensor]] = [lambda: plainly_guided(policy, obs, steps), lambda: ours_guided(policy, obs, steps)]
    difference = (ways[0]() - ways[1]()).abs().max().item()
    seconds = [min(times) for times in zip(*[[timed(way, device) for way in ways] for _ in range(rounds)], strict=True)]
    plain, ours = (batch / one for one in seconds)
    memory = [peak(way, device) for way in ways]
    print(f"{batch:>5} {plain:>15.2f} {ours:>14.2f} {ours / plain:>6.2f} {memory[0]:>10.0f} {memory[1]:>9.0f} {difference:>19.1e}", flush=True)


def small_score(obs: Observation, actions: Tensor) -> Tensor:
    """Ends near a point that depends on the pose."""
    return -(actions.cumsum(1)[:, -1] - obs["proprio"][:, -1, :7]).norm(dim=-1)


def ours_guided(policy: DiffusionPolicy, obs: Observation, steps: int) -> Tensor:
    return sample_actions(
        with_steps(policy, steps), obs, Steering(guidance=ascend(small_score, SCALE)), [generator(row) for row in range(len(obs["proprio"]))]
    )


def plainly_guided(policy: DiffusionPolicy, obs: Observation, steps: int) -> Tensor:
    scheduler = policy.scheduler
    scheduler.set_timesteps(steps)
    actions = gaussian(obs, (len(obs["proprio"]), *policy.action_shape), [generator(row) for row in range(len(obs["proprio"]))])
    actions.requires_grad_()
    for timestep in scheduler.timesteps:
        noise = policy.predict_noise(actions, timestep, policy.encode(obs))
        gradient = torch.autograd.grad(small_score(obs, actions).sum(), actions, retain_graph=True)[0]
        noise = noise - (1 - scheduler.alphas_cumprod[timestep]).sqrt() * SCALE * gradient
        actions = scheduler.step(noise, timestep, actions, use_clipped_model_output=True).prev_sample
    return actions.detach()


def observe(batch: int, device: torch.device) -> Observation:
    torch.manual_seed(1)
    images = {key: torch.rand(batch, 2, *shape, device=device) for key, shape in CAMERAS.items()}
    return {**images, "proprio": torch.rand(batch, 2, 15, device=device)}


def timed(work: Callable[[], Tensor], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def peak(work: Callable[[], Tensor], device: torch.device) -> float:
    """MiB above the level before, at the highest moment: the allocator's on a GPU, the process's resident set elsewhere."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return float(torch.cuda.max_memory_allocated(device) - before) / 2**20
    process, done, highest = psutil.Process(), threading.Event(), [0]
    work()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # give back what earlier work freed, or this work's share of it would go unseen
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.002):
            highest[0] = max(highest[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return max(0, highest[0] - before) / 2**20


if __name__ == "__main__":
    main()
