"""How the agent moves and what it touches: the only physics of BlockTouch, in pymunk."""

from typing import Any

import numpy as np
import pymunk
from jaxtyping import Float

from dynaguide_robomimic.envs.block_touch.world import AGENT_RADIUS, SQUARE_SIDE, Layout, to_normalised, to_world

CONTROL_HZ = 10
SUBSTEPS = 10
DT_SECONDS = 1 / (CONTROL_HZ * SUBSTEPS)
STIFFNESS = 100.0  # acceleration a unit of distance to the aim
DAMPING = 20.0  # and of velocity against it
MAX_ACCELERATION = 1000.0  # on either axis
_WALL_RADIUS, _WALL_LOW, _WALL_HIGH = 2.0, 5.0, 506.0
_AGENT, _SQUARE = 1, 2  # pymunk's collision types


class World:
    """One episode's bodies. The agent is kinematic: it is driven towards its aim, and neither walls nor squares stop it.

    touched   the label of the first square that the agent overlapped, None so far
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.touched: int | None = None
        self._touches: list[tuple[float, int]] = []
        self._space = pymunk.Space()  # no gravity, no damping by itself
        self._agent = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        self._agent.position = (float(layout.agent[0]), float(layout.agent[1]))
        disc = pymunk.Circle(self._agent, AGENT_RADIUS)
        disc.collision_type = _AGENT
        self._space.add(self._agent, disc, *_walls(self._space), *_squares(layout))
        self._space.on_collision(_AGENT, _SQUARE, begin=_note_touch, data=self._touches)

    @property
    def position(self) -> Float[np.ndarray, "2"]:
        """Where the agent is, in world coordinates."""
        return np.array(self._agent.position)

    @property
    def velocity(self) -> Float[np.ndarray, "2"]:
        """World units a second."""
        return np.array(self._agent.velocity)

    @property
    def outside(self) -> bool:
        """Whether the agent's centre has left the world."""
        return bool(np.abs(to_normalised(self.position)).max() > 1)

    def move(self, action: Float[np.ndarray, "2"]) -> None:
        """A tenth of a second towards `action`, a place in [-1, 1] coordinates; it ends early at the first touch."""
        aim_x, aim_y = to_world(action.astype(np.float64)).tolist()
        agent, space = self._agent, self._space
        speed_x, speed_y = agent.velocity
        for _ in range(SUBSTEPS):
            x, y = agent.position
            speed_x, speed_y = _driven(aim_x, x, speed_x), _driven(aim_y, y, speed_y)
            agent.velocity = (speed_x, speed_y)
            space.step(DT_SECONDS)
            if self._touches:
                self.touched = min(self._touches)[1]  # of two at once, the one that it overlaps most
                return


def _driven(aim: float, place: float, speed: float) -> float:
    """The speed on one axis after a substep of the controller."""
    acceleration = STIFFNESS * (aim - place) - DAMPING * speed
    return speed + max(-MAX_ACCELERATION, min(MAX_ACCELERATION, acceleration)) * DT_SECONDS


def _walls(space: pymunk.Space) -> list[pymunk.Shape]:
    low, high = _WALL_LOW, _WALL_HIGH
    corners = [(low, high), (low, low), (high, low), (high, high)]
    return [pymunk.Segment(space.static_body, *ends, _WALL_RADIUS) for ends in zip(corners, corners[1:] + corners[:1], strict=True)]


def _squares(layout: Layout) -> list[pymunk.Body | pymunk.Shape]:
    made: list[pymunk.Body | pymunk.Shape] = []
    for index, (place, rotation) in enumerate(zip(layout.squares, layout.rotations, strict=True)):
        body = pymunk.Body(body_type=pymunk.Body.STATIC)
        body.position, body.angle = (float(place[0]), float(place[1])), float(rotation)
        shape = pymunk.Poly.create_box(body, (SQUARE_SIDE, SQUARE_SIDE))
        shape.collision_type = _SQUARE
        shape.label = index
        made += [body, shape]
    return made


def _note_touch(arbiter: pymunk.Arbiter, space: pymunk.Space, touches: Any) -> None:
    """Append how far the agent and a square are apart (negative: they overlap) and which square it is."""
    distance = min(point.distance for point in arbiter.contact_point_set.points)
    touches.append((distance, arbiter.shapes[1].label))
