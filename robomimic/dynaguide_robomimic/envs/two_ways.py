"""The smallest world in which steering shows: a point goes from the bottom to the top, around an obstacle, left or right.

Positions are in [-1, 1]; an action is a displacement in units of `STEP`. Demonstrations take either way with equal chance from the same start.
"""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dynaguide.episodes import EpisodeWriter
from dynaguide.errors import UserError
from dynaguide.progress import bar

STEP = 0.1  # an action of 1 moves this far
FINISH = 0.8  # the height to reach
RADIUS = 0.25  # of the obstacle
AGENT = 0.05  # radius of the point as drawn
WAYS = ("left", "right")

Array = NDArray[np.float32]


class TwoWays(gym.Env[dict[str, Any], Array]):
    """Observations: `agent_pos` (2,), `obstacle` (2,), `image` (size, size, 3). `behaviors` says which way was taken."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's convention)

    def __init__(self, image_size: int = 32, render_mode: str | None = "rgb_array") -> None:
        box = gym.spaces.Box
        self.observation_space = gym.spaces.Dict(
            {
                "agent_pos": box(-2, 2, (2,), np.float32),
                "obstacle": box(-1, 1, (2,), np.float32),
                "image": box(0, 255, (image_size, image_size, 3), np.uint8),
            }
        )
        self.action_space = box(-1, 1, (2,), np.float32)
        self.render_mode = render_mode
        self._size = image_size
        self._agent, self._obstacle = np.zeros(2, np.float32), np.zeros(2, np.float32)
        self._way: str | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._obstacle = self.np_random.uniform((-0.2, -0.1), (0.2, 0.1)).astype(np.float32)
        self._agent = np.array([self._obstacle[0] + self.np_random.uniform(-0.05, 0.05), -0.8], np.float32)
        self._way = None
        return self._observe(), {}

    def step(self, action: Array) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        if np.shape(action) != (2,) or not np.isfinite(action).all():
            raise UserError(f"TwoWays needs an action of two finite numbers, not {action}")
        before = self._agent[1]
        self._agent = (self._agent + STEP * np.clip(action, -1, 1)).astype(np.float32)
        if before < self._obstacle[1] <= self._agent[1]:
            self._way = WAYS[int(self._agent[0] > self._obstacle[0])]
        crashed = bool(np.linalg.norm(self._agent - self._obstacle) < RADIUS or np.abs(self._agent).max() > 1)
        arrived = bool(self._agent[1] >= FINISH and not crashed)
        info = {"success": arrived, "behaviors": (self._way,) if arrived and self._way else ()} if arrived or crashed else {}
        return self._observe(), float(arrived), arrived or crashed, False, info

    def render(self) -> NDArray[np.uint8]:
        return draw(self._agent, self._obstacle, 256)

    def _observe(self) -> dict[str, Any]:
        return {"agent_pos": self._agent.copy(), "obstacle": self._obstacle.copy(), "image": draw(self._agent, self._obstacle, self._size)}


def draw(agent: Array, obstacle: Array, size: int) -> NDArray[np.uint8]:
    """(size, size, 3): a grey obstacle, a black point, green above the finish; up is up."""
    centres = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(centres, -centres)
    picture = np.full((size, size, 3), 255, np.uint8)
    picture[y > FINISH] = (190, 235, 190)
    picture[(x - obstacle[0]) ** 2 + (y - obstacle[1]) ** 2 < RADIUS**2] = (150, 150, 150)
    picture[(x - agent[0]) ** 2 + (y - agent[1]) ** 2 < max(AGENT, 1.5 / size) ** 2] = (0, 0, 0)
    return picture


def demonstrated_action(agent: Array, obstacle: Array, way: str, rng: np.random.Generator) -> Array:
    """Towards a point beside the obstacle until it is passed, then straight up; with a little noise."""
    side = -1.0 if way == "left" else 1.0
    beside = obstacle + np.array([side * (RADIUS + 0.2), 0.0])
    aim = beside if agent[1] < obstacle[1] - 0.02 else np.array([agent[0] * 0.8, FINISH + 0.2])
    direction = (aim - agent) / np.linalg.norm(aim - agent)
    return np.clip(0.8 * direction + rng.normal(0, 0.05, 2), -1, 1).astype(np.float32)


def write_demonstrations(path: Path, episodes: int, seed: int, *, image_size: int = 32) -> None:
    """Successful episodes of both ways, labelled with the way that was taken."""
    env = TwoWays(image_size)
    meta = {"env_name": "dynaguide/TwoWays-v0", "type": 2, "env_kwargs": {"image_size": image_size}}
    with EpisodeWriter(path, meta) as writer, bar(total=episodes, name="demonstrations", unit="episode") as shown:
        attempt = 0
        while len(writer) < episodes:
            attempt += 1
            way = WAYS[attempt % 2]
            frames, actions, success = _demonstrate(env, way, np.random.default_rng([seed, attempt]), seed * 1_000_003 + attempt // 2)
            if success:
                writer.add(np.stack(actions), {key: np.stack([frame[key] for frame in frames]) for key in frames[0]}, behavior=way)
                shown.update()


def _demonstrate(env: TwoWays, way: str, rng: np.random.Generator, seed: int) -> tuple[list[dict[str, Any]], list[Array], bool]:
    obs, _ = env.reset(seed=seed)
    frames: list[dict[str, Any]] = []
    actions: list[Array] = []
    for _ in range(60):
        action = demonstrated_action(obs["agent_pos"], obs["obstacle"], way, rng)
        frames.append(obs)
        actions.append(action)
        obs, _, over, _, info = env.step(action)
        if over:
            return frames, actions, bool(info["success"]) and info["behaviors"] == (way,)
    return frames, actions, False
