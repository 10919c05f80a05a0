"""The environments that come with the policy, registered when this package is imported."""

from dynaguide.environments import make_env, register

TWO_WAYS = "dynaguide/TwoWays-v0"
BLOCK_TOUCH = "dynaguide/BlockTouch-v0"

register(TWO_WAYS, "dynaguide_robomimic.envs.two_ways:TwoWays")
register(BLOCK_TOUCH, "dynaguide_robomimic.envs.block_touch.env:BlockTouch", names=("TouchCube",))

__all__ = ["BLOCK_TOUCH", "TWO_WAYS", "make_env"]
