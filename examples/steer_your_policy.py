"""Train a small policy that goes left or right around an obstacle by chance, then steer it with a score of two lines.

Everything is generated; it takes about two minutes. The steering itself is the function `steered`.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor

from dynaguide import Observation, Steering, ascend, cli
from dynaguide.episodes import split
from dynaguide.results import EpisodeResult, behavior_rates, rate, write_results
from dynaguide.rollout import ChunkStep, Decision, FinishedEpisode, SteeredPolicy, rollout, vector_env
from dynaguide_robomimic.checkpoints import LoadedPolicy, load_policy
from dynaguide_robomimic.config import load_config
from dynaguide_robomimic.envs import make_env
from dynaguide_robomimic.envs.two_ways import FINISH, RADIUS, STEP, write_demonstrations
from dynaguide_robomimic.train import train_policy

matplotlib.use("Agg")
from matplotlib import pyplot as plt

CONFIG = Path(__file__).parents[1] / "configs" / "two_ways.json"
COLORS = {"left": "tab:orange", "right": "tab:blue", "none": "tab:red"}


def to_the_left(obs: Observation, actions: Tensor) -> Tensor:
    """The score: how far left the chunk's path runs, on average. actions: (batch, horizon, 2), the second one belongs to the current frame."""
    path = obs["agent_pos"][:, -1:] + STEP * actions[:, 1:].cumsum(1)
    return -path[..., 0].mean(1)


def to_the_right(obs: Observation, actions: Tensor) -> Tensor:
    return -to_the_left(obs, actions)


ARMS = {
    "unsteered": Steering(),
    "steered left": Steering(guidance=ascend(to_the_left, scale=5.0), repeats=4),
    "steered right": Steering(guidance=ascend(to_the_right, scale=5.0), repeats=4),
}


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python examples/steer_your_policy.py --episodes 50")
    made.add_argument("--output", default="results/two_ways", help="data, policy, figure and results go here; what is there already is used again")
    made.add_argument("--episodes", type=int, default=100, help="episodes for each arm; all arms have the same seeds")
    cli.add_seed(made)
    cli.add_device(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    folder, device = Path(args.output), cli.device(args.device)
    loaded = load_policy(trained(folder, device), device)
    episodes, paths = {}, {}
    for arm, steering in ARMS.items():
        episodes[arm], paths[arm] = steered(loaded, steering, range(1000 + args.seed, 1000 + args.seed + args.episodes), device)
        write_results(folder / f"{arm.replace(' ', '_')}.json", episodes[arm], config={"arm": arm}, seed=1000 + args.seed)
    print(table(episodes))
    print(f"\nfigure: {draw(folder / 'steering.png', episodes, paths)}\nresults: {folder}/*.json")


def trained(folder: Path, device: torch.device) -> Path:
    """The policy, trained if the folder has none yet; an interrupted training goes on."""
    model, data = folder / "policy" / "model.safetensors", folder / "demonstrations.hdf5"
    if not data.exists():
        write_demonstrations(data, 400, seed=0)
        split(data, ratio=0.1)
    return train_policy(load_config(CONFIG), data, model.parent, device=device, resume=True)


class Paths:
    """Keeps where each episode went."""

    def __init__(self) -> None:
        self.of: dict[int, np.ndarray] = {}

    def decided(self, decision: Decision) -> None: ...

    def finished(self, episode: FinishedEpisode) -> None:
        steps = episode.steps
        end = steps[-1].obs["agent_pos"] + STEP * steps[-1].action
        self.of[episode.result.seed] = np.array([*(step.obs["agent_pos"] for step in steps), end]) - steps[0].obs["obstacle"]

    def close(self) -> None: ...


def steered(loaded: LoadedPolicy, steering: Steering, seeds: range, device: torch.device) -> tuple[list[EpisodeResult], list[np.ndarray]]:
    """One episode for each seed, and its path as seen from the obstacle."""
    policy, paths = loaded.policy, Paths()
    envs = vector_env(lambda: ChunkStep(make_env(loaded.env_meta), history=policy.history, steps=8, horizon=80, record=True), min(50, len(seeds)))
    agent = SteeredPolicy(policy, policy.obs_keys, policy.first_action, replan_every=8, device=device, steering=steering)
    results = rollout(envs, agent, seeds, [paths])
    return results, [paths.of[seed] for seed in seeds]


def table(episodes: dict[str, list[EpisodeResult]]) -> str:
    lines = [f"{'':<16}{'left':<28}{'right':<28}{'neither (crashed)':<28}"]
    for arm, results in episodes.items():
        rates = behavior_rates(results)
        cells = [f"{rates.get(way, rate(0, len(results)))!s:<28}" for way in ("left", "right", "none")]
        lines.append(f"{arm:<16}" + "".join(cells))
    return "\n".join(lines)


def draw(path: Path, episodes: dict[str, list[EpisodeResult]], paths: dict[str, list[np.ndarray]]) -> Path:
    """Every path of every arm around the obstacle, coloured by the way it took."""
    figure, panels = plt.subplots(1, len(episodes), figsize=(4 * len(episodes), 5), sharey=True)
    for panel, arm in zip(panels, episodes, strict=True):
        for result, points in zip(episodes[arm], paths[arm], strict=True):
            panel.plot(*points.T, color=COLORS[result.behaviors[0] if result.behaviors else "none"], alpha=0.35, linewidth=1)
        panel.add_patch(plt.Circle((0, 0), RADIUS, color="0.6"))
        panel.axhline(FINISH, color="tab:green", linewidth=1, linestyle=":")
        rates = behavior_rates(episodes[arm])
        panel.set_title(f"{arm}\n" + ", ".join(f"{name} {value.rate:.0%}" for name, value in rates.items()))
        panel.set_aspect("equal")
        panel.set_xlim(-1, 1)
        panel.set_xticks([-1, 0, 1])
        panel.set_xlabel("x, from the obstacle")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


if __name__ == "__main__":
    main()
