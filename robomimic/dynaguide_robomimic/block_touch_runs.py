"""Steered BlockTouch episodes: the flags that its scripts share, and the run behind them.

`guided` and `sampled` differ in nothing but the `Steering` that they assemble; `dynaguide.evaluation` rolls it out.
"""

import argparse
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from dynaguide import cli, methods
from dynaguide.classifier import EndStateClassifier, checked_weights, load_classifier
from dynaguide.errors import UserError, unknown_name
from dynaguide.evaluation import Run, add_rollout_arguments, evaluate
from dynaguide.rollout import SteeredPolicy
from dynaguide.scores import class_score
from dynaguide.steering import Steering, with_steps
from dynaguide.types import Score
from dynaguide_robomimic.block_touch_pictures import draw_denoising_of
from dynaguide_robomimic.checkpoints import LoadedPolicy, load_policy
from dynaguide_robomimic.envs import make_env
from dynaguide_robomimic.envs.block_touch.env import IMAGE_SIZE
from dynaguide_robomimic.envs.block_touch.env_config import NAMES
from dynaguide_robomimic.envs.block_touch.world import COLOR_NAMES, LAYOUTS, color_index

CAMERA = "image"
PICTURED_EPISODES = 4

# Flags


def parser(description: str | None, *, example: str) -> argparse.ArgumentParser:
    """A parser with the flags of every steered BlockTouch run; those of one method are added by `add_guidance` and `methods.add_sampling`."""
    made = cli.parser(description, example=example)
    made.add_argument("--agent", required=True, help="the base policy's checkpoint")
    made.add_argument("--guidance", help="the classifier's checkpoint; without one the base policy runs alone")
    wanted = made.add_argument_group("what is wanted")
    wanted.add_argument("--target", help=f"seek this colour: {', '.join(COLOR_NAMES)}")
    wanted.add_argument("--avoid", help="keep away from this colour")
    wanted.add_argument("--target_list", help=f"a weight for each of {', '.join(COLOR_NAMES)}, such as 1,-0.33,-0.33,-0.33; positive: seek")
    wanted.add_argument(
        "--away",
        default="log_not_p",
        help="what a negative weight w climbs: log_not_p, |w| log(1 - p); log_p, -|w| log p (as published, without bound)",
    )
    scene = made.add_argument_group("scene")
    scene.add_argument("--setup", default="random", help=f"the layout: {', '.join(LAYOUTS)}; the last two are built around the target, or blue")
    scene.add_argument("--layout_seed", type=int, help="all episodes in this one layout of the setup (default: one for each seed)")
    scene.add_argument("--camera_names", nargs="+", default=[CAMERA], help="BlockTouch has one camera, image")
    made.add_argument("--inference_steps", type=int, help="denoising steps of a decision (default: the policy's own)")
    add_rollout_arguments(made, horizon=400, n_rollouts=100, n_envs=20, replan_every=8, video_skip=1)
    made.add_argument("--output_folder", type=Path, help="where results.json goes when --json_path names no other place, and the pictures")
    made.add_argument("--paths", action="store_true", help="keep layouts and paths in the results JSON: figures of trajectories need them")
    made.add_argument("--render_visuals", action="store_true", help=f"draw the first decision of {PICTURED_EPISODES} episodes as it is denoised")
    cli.add_seed(made)
    cli.add_device(made)
    return made


def add_guidance(made: argparse.ArgumentParser) -> None:
    methods.add_guidance(made, scale=3.0, ss=1, candidates=5, on="clean_estimate")


def weights_of(args: argparse.Namespace) -> list[float] | None:
    """What --target, --avoid or --target_list ask for, a weight a colour; None if nothing does."""
    given = [flag for flag in ("target", "avoid", "target_list") if getattr(args, flag) is not None]
    if len(given) > 1:
        raise UserError(f"--{given[0]} and --{given[1]} both say what is wanted: give one of them")
    if args.target is not None:
        return _one_hot(args.target, 1.0)
    if args.avoid is not None:
        return _one_hot(args.avoid, -1.0)
    return None if args.target_list is None else _weights(args.target_list)


def _one_hot(color: str, weight: float) -> list[float]:
    index = color_index(color)
    return [weight if other == index else 0.0 for other in range(len(COLOR_NAMES))]


def _weights(text: str) -> list[float]:
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--target_list {text}: expected numbers with commas between them, such as 1,-0.33,-0.33,-0.33") from None
    return list(checked_weights(COLOR_NAMES, weights))


# The run


def guided(args: argparse.Namespace) -> Run:
    """The base policy under the classifier's gradient; without --guidance, or with --scale 0, alone."""
    return _run(args, "guided" if args.guidance and args.scale else "base", partial(methods.guided, args))


def sampled(args: argparse.Namespace) -> Run:
    """The base policy's chunk that the classifier likes best among --num_samples; without --guidance, or with one sample, the base policy alone."""
    return _run(args, "sampling" if args.guidance and args.num_samples > 1 else "base", partial(methods.sampled, args))


def _run(args: argparse.Namespace, arm: str, assemble: "partial[Steering]") -> Run:
    _check(args)
    device = cli.device(args.device)
    args.arm, args.weights = arm, weights_of(args)  # both go into the results' config
    loaded = _for_block_touch(load_policy(args.agent, device), f"policy checkpoint {args.agent}")
    agent = SteeredPolicy(
        with_steps(loaded.policy, args.inference_steps),
        loaded.policy.obs_keys,
        loaded.policy.first_action,
        args.replan_every,
        device,
        assemble(_score(args, loaded, device)),
    )
    make = partial(_scene, loaded.env_meta, args.setup, _layout_target(args.weights), args.paths)
    options = None if args.layout_seed is None else {"layout_seed": args.layout_seed}
    run = evaluate(args, agent, make, loaded.env_meta, loaded.policy.history, options=options)
    if args.render_visuals:
        draw_denoising_of(Path(args.json_path), Path(args.trace_path), args.output_folder / "denoising")
    return run


def _check(args: argparse.Namespace) -> None:
    """Names, and where things go; --output_folder and --render_visuals become the flags that they stand for."""
    _check_name("layout", args.setup, LAYOUTS)
    for camera in args.camera_names:
        _check_name("camera", camera, [CAMERA])
    if args.output_folder and not args.json_path:
        args.json_path = str(args.output_folder / "results.json")
    if args.render_visuals:
        if not args.output_folder:
            raise UserError("--render_visuals needs an --output_folder for its pictures")
        args.paths, args.trace_episodes = True, args.trace_episodes or PICTURED_EPISODES
        args.trace_path = args.trace_path or str(args.output_folder / "traces")


def _check_name(kind: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise unknown_name(kind, name, list(known))


def _score(args: argparse.Namespace, base: LoadedPolicy, device: torch.device) -> Score | None:
    """The classifier's score for the wanted colours, if there is a classifier that fits the policy."""
    if not args.guidance:
        return None
    if args.weights is None:
        raise UserError("--guidance needs to know where to: name a colour with --target or --avoid, or weights with --target_list")
    where = f"classifier checkpoint {args.guidance}"
    loaded = load_classifier(args.guidance, device)
    _for_block_touch(loaded, where)
    ours, theirs = image_size(base.env_meta), image_size(loaded.env_meta)
    if ours != theirs:
        raise UserError(f"{where} was trained on images of {theirs} x {theirs}, the policy {args.agent} on {ours} x {ours}")
    _check_fit(loaded.classifier, base, where)
    return class_score(loaded.classifier, args.weights, away=args.away)


def _check_fit(classifier: EndStateClassifier, base: LoadedPolicy, where: str) -> None:
    """Both must mean the same by a colour and by a chunk."""
    if tuple(classifier.classes) != COLOR_NAMES:
        raise UserError(f"{where} tells {', '.join(classifier.classes)} apart, not {', '.join(COLOR_NAMES)}")
    ours, theirs = base.policy.windows, classifier.config.windows
    if (ours.horizon, ours.offset) != (theirs.horizon, theirs.offset):
        raise UserError(
            f"{where} reads chunks of {theirs.horizon} actions from frame {theirs.offset} on, the policy makes {ours.horizon} from {ours.offset} on"
        )


def _for_block_touch(loaded: Any, where: str) -> Any:
    """The same, if its data came from BlockTouch."""
    name = loaded.env_meta.get("env_name")
    if name not in NAMES:
        raise UserError(f"{where} is for the environment {name}, not for {NAMES[0]}")
    return loaded


def image_size(env_meta: dict[str, Any]) -> int:
    return int(env_meta.get("env_kwargs", {}).get("image_size", IMAGE_SIZE))


def _layout_target(weights: list[float] | None) -> int:
    """The colour that a layout is built around: the most wanted one, or blue."""
    return weights.index(max(weights)) if weights and max(weights) > 0 else 0


def _scene(env_meta: dict[str, Any], setup: str, target: int, paths: bool) -> gym.Env[Any, Any]:
    env = make_env(env_meta, layout=setup, target=target, render_mode="rgb_array")
    return KeepsPath(env) if paths else env


class KeepsPath(gym.Wrapper[Any, Any, Any, Any]):
    """Adds to the `details` of an episode's result what a picture of it needs, in world coordinates.

    path        where the agent was, at the reset and after each step
    squares     the centres of the squares, in the order of the colours, and `rotations` in radians
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        first = super().reset(seed=seed, options=options)
        layout = self._world.layout
        self._details = {"path": [], "squares": layout.squares.round(1).tolist(), "rotations": layout.rotations.round(3).tolist()}
        self._keep()
        return first

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = super().step(action)
        self._keep()
        return obs, reward, terminated, truncated, {**info, "details": {**info.get("details", {}), **self._details}}

    def _keep(self) -> None:
        self._details["path"].append(self._world.position.round(1).tolist())

    @property
    def _world(self) -> Any:
        return self.unwrapped.world  # type: ignore[attr-defined]
