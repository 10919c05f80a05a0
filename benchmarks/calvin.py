"""How fast is the play table? Steps a second with and without images, resets, two processes against one, and a rollout's decisions.

Each line is the best of several rounds: other programs can only slow a round down. One and two processes take turns."""

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
    made.add_argument("--steps", type=int, default=150, help="environment steps timed in a round")
    made.add_argument("--rounds", type=int, default=5, help="of which the best counts")
    made.add_argument("--renderer", choices=["gl", "tiny", "auto"], default="auto", help="who makes the images")
    made.add_argument("--assets", help="the public CALVIN files, instead of the primitives")
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; the wall clock counts other programs, the CPU clock only this process")
    print(f"{'best of ' + str(args.rounds):34} {'wall':>9} {'CPU':>9}        target")
    make = partial(PlayTableEnv, renderer=args.renderer, assets=args.assets)
    one_core(make, args.steps, args.rounds)
    processes(partial(single_steps, make), "one step a message", args.steps, args.rounds)
    processes(partial(decisions, make), "14 steps a message", args.steps // 14, args.rounds)


def one_core(make: Callable[..., gym.Env], steps: int, rounds: int) -> None:
    env = make()
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-0.3, 0.3, (steps, 7))
    show("steps/s, both images", best(lambda i: env.step(actions[i]), steps, rounds), ">= 300")
    blind = make(cameras=())
    blind.reset(seed=0)
    show("steps/s, no images", best(lambda i: blind.step(actions[i]), steps, rounds), ">= 1000")
    resets = best(lambda i: blind.reset(seed=i, options={"setup": {}}), 20, rounds)
    show("ms a reset", [1000 / rate for rate in resets], "< 10")
    starts = best(lambda i: blind.reset(seed=i, options={"setup": {}, "robot": "random"}), 20, rounds)
    show("ms a reset, random robot", [1000 / rate for rate in starts], "< 10")
    env.close()
    blind.close()


def single_steps(make: Callable[..., gym.Env]) -> gym.Env:
    return ChunkStep(make(), history=1, steps=1, horizon=10**6)


def decisions(make: Callable[..., gym.Env]) -> gym.Env:
    return ChunkStep(make(), history=2, steps=14, horizon=10**6)


def processes(make: Callable[[], gym.Env], name: str, count: int, rounds: int) -> None:
    envs = {workers: started(make, workers) for workers in (1, 2)}
    try:
        made = {workers: [] for workers in envs}
        for _ in range(rounds):
            for workers, env in envs.items():
                made[workers].append(environment_rate(env, workers, count))
    finally:
        for env in envs.values():
            env.close()
    one, two = max(made[1]), max(made[2])
    print(f"{f'steps/s, 1 and 2 processes, {name}':<50} {one:8.0f} {two:8.0f}   {two / one:.2f} x   >= 1.7 x", flush=True)


def started(make: Callable[[], gym.Env], workers: int) -> gym.vector.VectorEnv:
    envs = vector_env(make, workers, processes=True) if workers > 1 else gym.vector.AsyncVectorEnv([make])
    envs.reset(seed=list(range(workers)))
    envs.step(np.zeros((workers, *envs.single_action_space.shape), np.float32))
    return envs


def environment_rate(envs: gym.vector.VectorEnv, workers: int, count: int) -> float:
    """Environment steps a second of a vector environment, wall clock."""
    shape = (workers, *envs.single_action_space.shape)
    actions = np.random.default_rng(0).uniform(-0.3, 0.3, (count, *shape)).astype(np.float32)
    began = time.perf_counter()
    for action in actions:
        envs.step(action)
    return workers * count * shape[1] / (time.perf_counter() - began)


def best(call: Callable[[int], object], count: int, rounds: int) -> list[float]:
    """Calls a second in the best round, by the wall clock and by the CPU clock."""
    made = [rates(call, count) for _ in range(rounds)]
    return [max(values) for values in zip(*made, strict=True)]


def rates(call: Callable[[int], object], count: int) -> list[float]:
    wall, processor = time.perf_counter(), time.process_time()
    for index in range(count):
        call(index)
    return [count / (time.perf_counter() - wall), count / (time.process_time() - processor)]


def show(name: str, values: list[float], target: str) -> None:
    print(f"{name:<34} {values[0]:9.1f} {values[1]:9.1f}        {target}", flush=True)


if __name__ == "__main__":
    main()
