"""The environments that come with the policy, registered with Gymnasium when this package is imported."""

from typing import Any

import gymnasium as gym

from dynaguide.errors import UserError, unknown_name

TWO_WAYS = "dynaguide/TwoWays-v0"
BLOCK_TOUCH = "dynaguide/BlockTouch-v0"
PUBLISHED_NAMES = {"TouchCube": BLOCK_TOUCH}

gym.register(TWO_WAYS, entry_point="dynaguide_robomimic.envs.two_ways:TwoWays")
gym.register(BLOCK_TOUCH, entry_point="dynaguide_robomimic.envs.block_touch.env:BlockTouch")


def make_env(env_meta: dict[str, Any], **overrides: Any) -> gym.Env[Any, Any]:
    """The environment that a data file or a checkpoint names, by its Gymnasium id or its published name."""
    name = env_meta.get("env_name")
    if not name:
        raise UserError("the checkpoint does not say which environment it is for: name one with --env")
    known = [*PUBLISHED_NAMES, *(spec for spec in gym.registry if spec.startswith("dynaguide/"))]
    identifier = PUBLISHED_NAMES.get(name, name)
    if identifier not in gym.registry:
        raise unknown_name("environment", name, known)
    try:
        return gym.make(identifier, disable_env_checker=True, **{**env_meta.get("env_kwargs", {}), **overrides})
    except TypeError as error:
        raise UserError(f"environment {name}: {error}") from error
