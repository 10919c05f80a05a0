"""What every rollout script has in common: its flags, its recorders, and the run itself."""

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym

from dynaguide import recorders
from dynaguide.errors import UserError
from dynaguide.results import EpisodeResult, behavior_rates, rate
from dynaguide.rollout import ChunkStep, Recorder, SteeredPolicy, rollout, vector_env

log = logging.getLogger(__name__)


def add_rollout_arguments(
    made: argparse.ArgumentParser, *, horizon: int = 400, n_rollouts: int = 50, n_envs: int = 8, replan_every: int | None = None, video_skip: int = 5
) -> None:
    """The flags of robomimic's and the published rollout scripts."""
    published = "" if replan_every else " (default: 14, or all that the policy's chunk holds)"
    group = made.add_argument_group("rollouts")
    group.add_argument("--n_rollouts", type=int, default=n_rollouts, help="episodes; episode i has the seed SEED + i")
    group.add_argument("--horizon", type=int, default=horizon, help="simulator steps after which an episode ends")
    group.add_argument("--replan_every", type=int, default=replan_every, help=f"actions executed before the next decision{published}")
    group.add_argument("--n_envs", type=int, default=n_envs, help="episodes that run side by side; the results do not depend on it")
    group.add_argument("--env_processes", action="store_true", help="give each of them a process (for slow simulators)")
    output = made.add_argument_group("output")
    output.add_argument("--json_path", help="results: rates with intervals, and one entry an episode")
    output.add_argument("--dataset_path", help="episodes, in robomimic's HDF5 schema; an existing file is continued")
    output.add_argument("--dataset_obs", action="store_true", help="store images in --dataset_path too")
    output.add_argument("--video_path", help="all episodes in one MP4")
    output.add_argument("--video_skip", type=int, default=video_skip, help="simulator steps between two frames of the video")
    output.add_argument("--trace_path", help="a folder for the denoising steps of each episode's first decision, as .npz")
    output.add_argument("--trace_episodes", type=int, help="only of so many episodes (default: of all)")


def default_replan(policy_horizon: int, first_action: int) -> int:
    """The published 14 actions, where the chunk holds so many."""
    return min(14, policy_horizon - first_action)


class Run(NamedTuple):
    """What came of a run."""

    episodes: list[EpisodeResult]
    seconds_per_decision: float  # of one episode: a batch's seconds shared among its rows

    def __str__(self) -> str:
        return f"{table(self.episodes)}\n{'decision':<20} {1000 * self.seconds_per_decision:.1f} ms an episode"


def evaluate(
    args: argparse.Namespace,
    agent: SteeredPolicy,
    make: Callable[[], gym.Env[Any, Any]],
    env_meta: dict[str, Any],
    history: int,
    *,
    options: dict[str, Any] | None = None,
    watching: Sequence[recorders.MakesRecorder] = (),
    video: recorders.MakesVideo = recorders.Video,
) -> Run:
    """Roll out `agent` as the flags say; results, episodes and video are on disk when this returns, also when it is interrupted.

    options     the environment's own, given to every reset
    watching    more recorders, made when the environments stand
    video       what --video_path makes
    """
    _check_counts(args)
    record, images = bool(args.dataset_path or args.video_path), bool(args.dataset_path and args.dataset_obs)
    frame_every = args.video_skip if args.video_path else 0

    def one() -> gym.Env[Any, Any]:
        steps = agent.replan_every
        return ChunkStep(make(), history=history, steps=steps, horizon=args.horizon, record=record, images=images, frame_every=frame_every)

    envs = vector_env(one, min(args.n_envs, args.n_rollouts), processes=args.env_processes)
    made: list[Recorder] = []
    try:
        for make_one in (*_recorders(args, env_meta, round(envs.metadata.get("render_fps", 60)), video), *watching):
            made.append(make_one())
        made.append(recorders.Progress(args.n_rollouts, "rollouts"))  # the bar last: nothing else can fail any more
        episodes = rollout(envs, agent, range(args.seed, args.seed + args.n_rollouts), made, options=options)
        return Run(episodes, agent.seconds_per_decision)
    finally:
        for recorder in made:
            recorder.close()
        envs.close()


def table(episodes: list[EpisodeResult]) -> str:
    """Success and behaviours with their intervals, one line each."""
    rows = {"success": rate(sum(episode.success for episode in episodes), len(episodes)), **behavior_rates(episodes)}
    return "\n".join(f"{name:<20} {value}" for name, value in rows.items())


def _check_counts(args: argparse.Namespace) -> None:
    for flag in ("n_rollouts", "horizon", "n_envs", "video_skip"):
        if getattr(args, flag) < 1:
            raise UserError(f"--{flag} must be at least 1, not {getattr(args, flag)}")


def _recorders(args: argparse.Namespace, env_meta: dict[str, Any], fps: int, video: recorders.MakesVideo) -> list[recorders.MakesRecorder]:
    """What the flags ask for. Each is opened in its turn, so that those before it are closed again if it fails."""
    wanted: list[recorders.MakesRecorder] = []
    if args.json_path:
        config = {key: value for key, value in vars(args).items() if _is_plain(value)}
        wanted.append(lambda: recorders.Results(args.json_path, config=config, seed=args.seed))
    if args.dataset_path:
        wanted.append(lambda: recorders.Episodes(args.dataset_path, env_meta, with_obs=args.dataset_obs))
    if args.video_path:
        wanted.append(lambda: video(Path(args.video_path), fps=max(1, round(fps / args.video_skip))))
    if args.trace_path:
        wanted.append(lambda: recorders.Traces(args.trace_path, episodes=args.trace_episodes))
    return wanted


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True
