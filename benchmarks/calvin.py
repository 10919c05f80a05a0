"""How fast is the play table? Steps a second with and without images, resets, two processes against one, and a rollout's decisions."""

import os
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial

import gymnasium as gym
import numpy as np

from dynaguide import cli
from dynaguide.rollout import ChunkStep, vector_env
from dynaguide_calvin.env import PlayTableEnv

Row = tuple[str, float, str, str]  # what, measured, unit, target


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python benchmarks/calvin.py --steps 500")
    made.add_argument("--steps", type=int, default=300, help="environment steps timed")
    made.add_argument("--renderer", choices=["gl", "tiny", "auto"], default="auto", help="who makes the images")
    made.add_argument("--assets", help="the public CALVIN files, instead of the primitives")
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; the wall clock counts other programs, the CPU clock only this process")
    print(f"{'':34} {'wall':>9} {'CPU':>9}        target")
    make = partial(PlayTableEnv, renderer=args.renderer, assets=args.assets)
    one_core(make, args.steps)
    processes(partial(single_steps, make), "one step a message", args.steps // 2)
    processes(partial(decisions, make), "14 steps a message", args.steps // 14)


def one_core(make: Callable[..., gym.Env], steps: int) -> None:
    env = make()
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-0.3, 0.3, (steps, 7))
    show("steps/s, both images", rates(lambda i: env.step(actions[i]), steps), ">= 300")
    blind = make(cameras=())
    blind.reset(seed=0)
    show("steps/s, no images", rates(lambda i: blind.step(actions[i]), steps), ">= 1000")
    resets = rates(lambda i: blind.reset(seed=i, options={"setup": {}}), 50)
    show("ms a reset", [1000 / rate for rate in resets], "< 10")
    starts = rates(lambda i: blind.reset(seed=i, options={"setup": {}, "robot": "random"}), 50)
    show("ms a reset, random robot", [1000 / rate for rate in starts], "< 10")
    env.close()
    blind.close()


def single_steps(make: Callable[..., gym.Env]) -> gym.Env:
    return ChunkStep(make(), history=1, steps=1, horizon=10**6)


def decisions(make: Callable[..., gym.Env]) -> gym.Env:
    return ChunkStep(make(), history=2, steps=14, horizon=10**6)


def processes(make: Callable[[], gym.Env], name: str, count: int) -> None:
    speeds = [environment_rate(make, workers, count) for workers in (1, 2)]
    print(f"{f'steps/s, 1 and 2 processes, {name}':<50} {speeds[0]:8.0f} {speeds[1]:8.0f}   {speeds[1] / speeds[0]:.2f} x   >= 1.7 x")


def environment_rate(make: Callable[[], gym.Env], workers: int, count: int) -> float:
    """Environment steps a second of a vector environment, wall clock."""
    envs = vector_env(make, workers, processes=True) if workers > 1 else gym.vector.AsyncVectorEnv([make])
    try:
        envs.reset(seed=list(range(workers)))
        rng = np.random.default_rng(0)
        shape = (workers, *envs.single_action_space.shape)
        actions = [rng.uniform(-0.3, 0.3, shape).astype(np.float32) for _ in range(count + 3)]
        for action in actions[:3]:
            envs.step(action)
        began = time.perf_counter()
        for action in actions[3:]:
            envs.step(action)
        return workers * count * shape[1] / (time.perf_counter() - began)
    finally:
        envs.close()


def rates(call: Callable[[int], object], count: int) -> list[float]:
    """Calls a second, by the wall clock and by the CPU clock."""
    wall, processor = time.perf_counter(), time.process_time()
    for index in range(count):
        call(index)
    return [count / (time.perf_counter() - wall), count / (time.process_time() - processor)]


def show(name: str, values: list[float], target: str) -> None:
    print(f"{name:<34} {values[0]:9.1f} {values[1]:9.1f}        {target}", flush=True)


if __name__ == "__main__":
    main()
