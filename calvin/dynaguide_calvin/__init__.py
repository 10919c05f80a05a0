"""The CALVIN play table: simulator, scripted play, behaviour detector, experiments."""

from dynaguide.environments import make_env, register

PLAY_TABLE = "dynaguide/PlayTable-v0"

register(PLAY_TABLE, "dynaguide_calvin.env:PlayTableEnv", names=("PlayTable", "play_table"), foreign=("PlayTableSimEnv",))

__all__ = ["PLAY_TABLE", "make_env"]
