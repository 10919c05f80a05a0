"""BlockTouch, the paper's toy task (appendix A.1), as a Gymnasium environment."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dynaguide.errors import UserError, unknown_name
from dynaguide_robomimic.envs.block_touch.physics import CONTROL_HZ, World
from dynaguide_robomimic.envs.block_touch.render import Picture
from dynaguide_robomimic.envs.block_touch.world import COLOR_NAMES, LAYOUTS, Layout, draw_layout, to_normalised

Array = NDArray[Any]
IMAGE_SIZE = 128
SMALLEST_IMAGE = 16
RENDER_SIZE = 256


def observe(layout: Layout, picture: Picture | None, agents: Array) -> dict[str, Array]:
    """What is seen with the agent at each of some places, (frame, 2) in world coordinates: key -> (frame, ...).

    image       uint8 (height, width, channel); left out without a picture
    agent_pos   2 numbers in [-1, 1]; an agent that has left the world is shown at its edge
    states      8 numbers in [-1, 1], the centres of the blue, red, green and yellow square
    """
    states = to_normalised(layout.squares).reshape(1, -1).astype(np.float32)
    images = {} if picture is None else {"image": picture.frames(agents)}
    return {
        **images,
        "agent_pos": np.clip(to_normalised(agents), -1, 1).astype(np.float32),
        "states": np.repeat(states, len(agents), axis=0),
    }


class BlockTouch(gym.Env[dict[str, Any], Array]):
    """An agent in the plane touches one of four coloured squares, and that ends the episode.

    An action is the place to drive to for a tenth of a second, x and y in [-1, 1] (y down, as in the picture); it is not clipped. The reward is 1 for
    a touch and -1 for leaving the world, which ends the episode too. The last step's info has `success`, `behaviors` (the touched colour, or nothing)
    and, after a touch, `details` with the colour's index `cube_contacted`.

    layout        random, early_decision, late_decision, cube_blockade, around_the_column
    image_size    pixels a side of the observation `image`
    target        index of the colour that cube_blockade and around_the_column are built around
    Options of `reset`: `layout_seed` draws the layout that `reset(seed=layout_seed)` draws, whatever the episode's own seed; `target` as above.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": CONTROL_HZ}  # noqa: RUF012 (Gymnasium's own attribute)

    def __init__(self, *, layout: str = "random", image_size: int = IMAGE_SIZE, target: int = 0, render_mode: str | None = "rgb_array") -> None:
        if layout not in LAYOUTS:
            raise unknown_name("layout", layout, list(LAYOUTS))
        if image_size < SMALLEST_IMAGE:
            raise UserError(f"image_size must be at least {SMALLEST_IMAGE} pixels, not {image_size}")
        if render_mode not in (None, "rgb_array"):
            raise unknown_name("render mode", str(render_mode), ["rgb_array"])
        draw_layout(layout, np.random.default_rng(0), target=target)  # refuses a wrong target now, not at the first reset
        self._kind, self._image_size, self._target, self.render_mode = layout, image_size, target, render_mode
        self._world: World | None = None
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = gym.spaces.Dict(
            {
                "image": gym.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
                "agent_pos": gym.spaces.Box(-1, 1, (2,), np.float32),
                "states": gym.spaces.Box(-1, 1, (8,), np.float32),
            }
        )

    @property
    def world(self) -> World:
        """The running episode's bodies."""
        if self._world is None:
            raise gym.error.ResetNeeded("call reset() first")
        return self._world

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Array], dict[str, Any]]:
        super().reset(seed=seed)
        asked = options or {}
        rng = self.np_random if asked.get("layout_seed") is None else gym.utils.seeding.np_random(int(asked["layout_seed"]))[0]
        layout = draw_layout(self._kind, rng, target=int(asked.get("target", self._target)))
        self._world = World(layout)
        self._picture = Picture(layout, self._image_size)
        self._large_picture = Picture(layout, RENDER_SIZE, samples=4)
        return self._observation(), {}

    def step(self, action: Array) -> tuple[dict[str, Array], float, bool, bool, dict[str, Any]]:
        world = self.world
        if world.touched is not None or world.outside:
            raise gym.error.ResetNeeded("the episode is over: call reset() first")
        world.move(_checked(action))
        reward, info = _outcome(world)
        return self._observation(), reward, bool(info), False, info

    def render(self) -> Array | None:
        """A larger picture with smooth edges."""
        if self.render_mode is None:
            return None
        return self._large_picture.frames(self.world.position[None])[0]

    def _observation(self) -> dict[str, Array]:
        seen = observe(self.world.layout, self._picture, self.world.position[None])
        return {key: value[0] for key, value in seen.items()}


def _checked(action: Array) -> Array:
    action = np.asarray(action, np.float64)
    if action.shape != (2,) or not np.isfinite(action).all():
        raise UserError(f"BlockTouch: an action is two finite numbers, the place to drive to, not {action.tolist()}")
    return action


def _outcome(world: World) -> tuple[float, dict[str, Any]]:
    """The step's reward, and the episode's result if this was its last step."""
    if world.touched is not None:
        return 1.0, {"success": True, "behaviors": (COLOR_NAMES[world.touched],), "details": {"cube_contacted": world.touched}}
    if world.outside:
        return -1.0, {"success": False, "behaviors": ()}
    return 0.0, {}
