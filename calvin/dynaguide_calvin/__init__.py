"""The CALVIN play table: simulator, scripted play, behaviour detector."""

from typing import Any

import gymnasium as gym

from dynaguide.errors import UserError, unknown_name

PLAY_TABLE = "dynaguide/PlayTable-v0"
PUBLISHED_NAMES = ("PlayTable", "PlayTableSimEnv", "play_table", PLAY_TABLE)

gym.register(PLAY_TABLE, entry_point="dynaguide_calvin.env:PlayTableEnv")


def make_env(env_meta: dict[str, Any], **overrides: Any) -> gym.Env[Any, Any]:
    """The environment that a data file or a checkpoint names. The public environment's metadata gives ours at its defaults."""
    name = str(env_meta.get("env_name"))
    if name not in PUBLISHED_NAMES:
        raise unknown_name("environment", name, list(PUBLISHED_NAMES))
    kwargs = {key: value for key, value in env_meta.get("env_kwargs", {}).items() if name != "PlayTableSimEnv"}
    try:
        return gym.make(PLAY_TABLE, disable_env_checker=True, **{**kwargs, **overrides})
    except TypeError as error:
        raise UserError(f"environment {name}: {error}") from error
