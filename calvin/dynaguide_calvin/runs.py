"""Steered episodes on the play table: the flags that the scripts share, and the run behind them.

Base policy, DynaGuide, sampling, position guidance and goal conditioning differ in the `Steering` that is assembled and in nothing else;
`dynaguide.evaluation` rolls it out. The policy comes from the script: this package knows none.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym

from dynaguide import cli, methods, outcome_runs
from dynaguide.chunks import Windows
from dynaguide.environments import GOAL
from dynaguide.errors import UserError, unknown_name
from dynaguide.evaluation import Run, add_rollout_arguments, default_replan, evaluate
from dynaguide.outcome_pictures import DenoisingCollage, Expectation, OutcomeVideo
from dynaguide.outcomes import Dynamics, load_dynamics
from dynaguide.recorders import MakesVideo, Video
from dynaguide.rollout import SteeredPolicy
from dynaguide.scores import displaced, position_score
from dynaguide.steering import Steering, with_steps
from dynaguide.types import Denoiser, Score
from dynaguide_calvin import scene as facts
from dynaguide_calvin.experiments import Experiment, goal_images, make_experiment, read_experiment

PUBLISHED = {  # where neither a flag nor the experiment says it
    "scale": 1.5,
    "ss": 4,
    "alpha": 30.0,
    "distance": "euclidean",
    "compare": None,
    "candidates": 1,
    "free_steps": 0,
    "replan_every": None,
}
Assemble = Callable[[Score | None], Steering]


@runtime_checkable
class Policy(Denoiser, Protocol):
    """What a policy must say of itself to be rolled out here."""

    @property
    def windows(self) -> Windows: ...
    @property
    def history(self) -> int: ...
    @property
    def first_action(self) -> int: ...
    @property
    def obs_keys(self) -> list[str]: ...


def parser(description: str | None, *, example: str) -> argparse.ArgumentParser:
    """A parser with the flags of every run on the play table; those of one method are added by `add_guidance` and `methods.add_sampling`."""
    made = cli.parser(description, example=example)
    made.add_argument("--agent", required=True, help="the policy's checkpoint: ours (.safetensors) or robomimic's (.pth)")
    made.add_argument("--exp_setup_config", required=True, type=Path, help="the experiment (calvin_exp_configs_examples/*.json)")
    outcome_runs.add_outcomes(made)
    made.add_argument("--goal_dir", type=Path, help="PNGs of goals for a goal-conditioned policy (default: the last frames of pos_examples)")
    made.add_argument("--scene_seed", type=int, help="all episodes in this one scene and start pose (default: one for each seed)")
    made.add_argument("--camera_names", nargs="+", default=[facts.THIRD_PERSON], help="cameras that the video shows side by side")
    made.add_argument("--inference_steps", type=int, help="denoising steps of a decision (default: the policy's own)")
    add_rollout_arguments(made, horizon=400, n_rollouts=50, n_envs=16, video_skip=2)
    made.add_argument("--output_folder", type=Path, help="where results.json goes when --json_path names no other place, and --save_frames")
    made.add_argument("--save_frames", action="store_true", help="draw the expected outcomes while the first decisions are denoised")
    cli.add_seed(made)
    cli.add_device(made)
    return made


def add_guidance(made: argparse.ArgumentParser) -> None:
    methods.add_guidance(made, scale=None, ss=None, candidates=None, on="noisy", free_steps=None)
    made.add_argument("--direct_position_guidance", action="store_true", help="lead the gripper to loc_target instead (ITPS); no dynamics model")


def guided(args: argparse.Namespace, policy: Policy, env_meta: dict[str, Any]) -> Run:
    """DynaGuide, or position guidance; the policy alone without --guidance or with --scale 0."""
    experiment = _prepared(args)
    steers = bool(args.scale) and (args.guidance or args.direct_position_guidance)
    args.arm = ("position" if args.direct_position_guidance else "dynaguide") if steers else "base"
    return _run(args, policy, env_meta, experiment, partial(methods.guided, args))


def sampled(args: argparse.Namespace, policy: Policy, env_meta: dict[str, Any]) -> Run:
    """The policy's chunk that leads nearest to the wanted outcomes."""
    experiment = _prepared(args)
    args.direct_position_guidance = False
    args.arm = "sampling" if args.guidance and args.num_samples > 1 else "base"
    return _run(args, policy, env_meta, experiment, partial(methods.sampled, args))


def _prepared(args: argparse.Namespace) -> Experiment:
    """The experiment; settings that no flag gives are taken from it, and go into the results with the flags."""
    experiment = read_experiment(args.exp_setup_config)
    for name, published in PUBLISHED.items():
        if name in args and getattr(args, name) is None:
            setattr(args, name, published if getattr(experiment, name) is None else getattr(experiment, name))
    for camera in args.camera_names:
        if camera not in facts.CAMERAS:
            raise unknown_name("camera", camera, list(facts.CAMERAS))
    if args.output_folder and not args.json_path:
        args.json_path = str(args.output_folder / "results.json")
    if args.save_frames and not (args.output_folder and args.guidance):
        raise UserError("--save_frames needs an --output_folder for its pictures, and --guidance for the outcomes that they show")
    args.experiment = args.exp_setup_config.stem
    args.exp_setup_config = str(args.exp_setup_config)
    return experiment


def _run(args: argparse.Namespace, policy: Policy, env_meta: dict[str, Any], experiment: Experiment, assemble: Assemble) -> Run:
    device = cli.device(args.device)
    goals = [key.removeprefix(GOAL) for key in policy.obs_keys if key.startswith(GOAL)]
    if args.goal_dir and not goals:
        raise UserError(f"--goal_dir: the policy {args.agent} takes no goals")
    shown = goal_images(experiment, goals, args.goal_dir) if goals else {}
    if goals and args.arm == "base":
        args.arm = "goal_conditioned"
    make = partial(make_experiment, env_meta, experiment, goals=shown, scene_seed=args.scene_seed, shown=tuple(args.camera_names))
    dynamics = load_dynamics(args.guidance, encoder=args.encoder, device=device) if args.guidance else None
    if dynamics is not None:
        _check_fit(args, dynamics, policy, make, env_meta)
    score = _score(args, dynamics, policy, experiment)
    replan = args.replan_every or default_replan(policy.action_shape[0], policy.first_action)
    args.replan_every = replan
    expectation = _expectation(args, dynamics, score)
    keys = list(dict.fromkeys([*policy.obs_keys, *(_seen(dynamics) if dynamics else []), "proprio"]))
    agent = SteeredPolicy(with_steps(policy, args.inference_steps), keys, policy.first_action, replan, device, assemble(score))
    watching = [partial(DenoisingCollage, args.output_folder / "frames", expectation)] if args.save_frames and expectation else []
    return evaluate(args, agent, make, env_meta, policy.history, watching=watching, video=_video(expectation, replan))


def _check_fit(args: argparse.Namespace, dynamics: Dynamics, policy: Policy, make: Callable[[], gym.Env[Any, Any]], env_meta: dict[str, Any]) -> None:
    env = make()
    try:
        outcome_runs.check_fit(dynamics, policy.windows, policy.action_shape[1], env, env_meta, f"the dynamics model {args.guidance}")
    finally:
        env.close()


def _score(args: argparse.Namespace, dynamics: Dynamics | None, policy: Policy, experiment: Experiment) -> Score | None:
    """Nearness to the wanted outcomes or, for position guidance, to loc_target; None where nothing steers."""
    if args.arm == "position":
        if experiment.loc_target is None:
            raise UserError(f"--direct_position_guidance needs a loc_target in {args.exp_setup_config}")
        return position_score(displaced("proprio", facts.POSITION_STEP, first=policy.first_action), experiment.loc_target)
    if dynamics is None or args.arm not in ("dynaguide", "sampling"):
        return None
    return outcome_runs.outcome_score(args, dynamics, experiment.pos_examples, experiment.negative)


def _seen(dynamics: Dynamics) -> list[str]:
    config = dynamics.config
    return [*config.cameras, *([config.proprio_key] if config.proprio_key else [])]


def _expectation(args: argparse.Namespace, dynamics: Dynamics | None, score: Score | None) -> Expectation | None:
    """What pictures of expected outcomes are drawn with, if there is something to draw."""
    if dynamics is None or (dynamics.decoder is None and not args.save_frames):
        return None
    return Expectation(dynamics, None if args.arm == "position" else score)


def _video(expectation: Expectation | None, steps: int) -> MakesVideo:
    return Video if expectation is None else partial(OutcomeVideo, expectation=expectation, steps=steps)
