"""Steering by predicted outcomes as flags: the dynamics model, the conditions that it is steered to, and whether it fits the policy."""

import argparse
from typing import Any, get_args

import gymnasium as gym

from dynaguide.chunks import Windows
from dynaguide.conditions import EMBEDDINGS, check_renderer, read_conditions
from dynaguide.errors import UserError
from dynaguide.outcomes import Dynamics
from dynaguide.scores import Conditions, Distance, goal_score
from dynaguide.types import Score


def add_outcomes(made: argparse.ArgumentParser) -> None:
    """The flags of `outcome_score`."""
    group = made.add_argument_group("outcomes")
    group.add_argument("--guidance", help="the dynamics model's checkpoint (ours, or a published state dict); without one the policy runs alone")
    group.add_argument("--encoder", help="where DINOv2's weights lie, if the dynamics model needs them and they are not in a cache")
    group.add_argument("--alpha", type=float, help="sigma of Eq. 2 (default: the experiment's, else 30)")
    group.add_argument("--distance", help=f"between outcomes: {', '.join(get_args(Distance))} (default: the experiment's, else euclidean)")
    group.add_argument("--compare", nargs="+", metavar="CAMERA", help="cameras whose pictures are compared (default: the experiment's, else all)")
    group.add_argument(
        "--embed", default="encoder", help=f"how conditions are embedded: {', '.join(EMBEDDINGS)} (dynamics: as the published code does)"
    )
    group.add_argument("--max_examples", type=int, help="so many of the conditions, evenly over each file (default: all)")


def outcome_score(args: argparse.Namespace, dynamics: Dynamics, positive: str | None, negative: str | None) -> Score:
    """Eq. 2 over the conditions in two files of episodes, either of which may be missing."""
    if positive is None and negative is None:
        raise UserError("--guidance needs outcomes to steer to or away from: pos_examples, or neg_examples with use_neg, in the experiment")

    def tokens(path: str | None) -> Any:
        return None if path is None else read_conditions(path, dynamics, max_examples=args.max_examples, embed=args.embed)

    return goal_score(dynamics, Conditions(tokens(positive), tokens(negative)), args.alpha, distance=args.distance, cameras=args.compare)


def check_fit(dynamics: Dynamics, windows: Windows, action_dim: int, env: gym.Env[Any, Any], env_meta: dict[str, Any], where: str) -> None:
    """Policy and dynamics model must mean the same by a chunk, and the environment must show what the model was trained on."""
    config = dynamics.config
    if config.action_dim != action_dim:
        raise UserError(f"{where} takes {config.action_dim} numbers an action, the policy makes {action_dim}")
    ours, theirs = windows, config.windows
    if (ours.horizon, ours.offset) != (theirs.horizon, theirs.offset):
        raise UserError(
            f"{where} reads chunks of {theirs.horizon} actions from frame {theirs.offset} on, the policy makes {ours.horizon} from {ours.offset} on"
        )
    spaces = env.observation_space.spaces  # type: ignore[attr-defined]
    for index, camera in enumerate(config.cameras):
        if camera not in spaces:
            raise UserError(f"{where} looks through the camera {camera!r}, which the environment does not have (it shows {', '.join(spaces)})")
        size = tuple(spaces[camera].shape[:2])
        if config.picture_sizes and tuple(config.picture_sizes[index]) != size:
            expected = "x".join(map(str, config.picture_sizes[index]))
            raise UserError(f"{where} was trained on pictures of {camera!r} of {expected}, the policy's environment shows {'x'.join(map(str, size))}")
    check_renderer(config.renderer, env_meta, "the policy's environment: its pictures")
