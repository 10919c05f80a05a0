"""A scripted player: it follows a Bezier curve from the agent to one square at constant speed, with a little noise.

`detour` takes the smallest arc that keeps clear of the other squares; `winding` goes through up to two places anywhere, as in the published data.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from dynaguide.errors import unknown_name
from dynaguide_robomimic.envs.block_touch.physics import World
from dynaguide_robomimic.envs.block_touch.world import Layout, to_normalised, to_world

STEPS_PER_UNIT = 25  # control steps for a unit of length in [-1, 1] coordinates
ACTION_NOISE = 0.015
TRIES = 4  # curves that are tried for a target before it counts as out of reach
_SHORTEST, _HOLD = 8, 12  # steps of the shortest curve; steps to wait at a curve's end for the touch
_SAMPLES = 60  # points that stand for a curve
_EDGE = 0.95  # how far out a waypoint may lie
_CLEARANCE = 52.0  # world units between a curve and another square's centre: an agent's radius, half a diagonal, and some room
_ARRIVED = 40.0  # as close as this to the target's centre nothing can come between
_ARCS = [0, 0.25, -0.25, 0.45, -0.45, 0.65, -0.65, 0.9, -0.9, 1.2, -1.2]  # how far beside the straight line, in its lengths, the waypoint lies
_HOOKS = [0.4, -0.4, 0.6, -0.6, 0.9, -0.9, 1.2, -1.2, 1.6, -1.6]  # the same for curves that come to the target from behind
# Two waypoints a curve, smallest bend first: (along the line, beside it) each, in its lengths. A parabola's are at thirds, and 2/3 as far out.
_BENDS = np.array([[(1 / 3, 2 / 3 * arc), (2 / 3, 2 / 3 * arc)] for arc in _ARCS] + [[(0.3, hook), (1.4, hook)] for hook in _HOOKS])

Curve = Float[np.ndarray, "point 2"]
PathMaker = Callable[[Layout, int, np.random.Generator, int], Curve]


class Play(NamedTuple):
    """What the player did: where it was before each action and at the end, in world coordinates, and which square it touched, if any."""

    layout: Layout
    target: int
    positions: Float[np.ndarray, "place 2"]
    actions: Float32[np.ndarray, "step 2"]
    touched: int | None

    @property
    def successful(self) -> bool:
        return self.touched == self.target


def play(layout: Layout, target: int, rng: np.random.Generator, *, path: str = "detour", horizon: int = 150) -> Play:
    """Reach for a square; a try that touches another one, or none, is replaced by the next. The last try is returned whatever came of it."""
    if path not in PATHS:
        raise unknown_name("path", path, list(PATHS))
    for attempt in range(TRIES):
        curve = PATHS[path](layout, target, rng, attempt)
        result = follow(layout, target, _paced(curve, rng)[:horizon])
        if result.successful:
            break
    return result


def follow(layout: Layout, target: int, actions: Float32[np.ndarray, "step 2"]) -> Play:
    """Execute the actions until the episode ends."""
    world = World(layout)
    positions = [world.position]
    for action in actions:
        world.move(action)
        positions.append(world.position)
        if world.touched is not None or world.outside:
            break
    return Play(layout, target, np.array(positions), actions[: len(positions) - 1], world.touched)


def detour(layout: Layout, target: int, rng: np.random.Generator, attempt: int) -> Curve:
    """The smallest bend that clears the other squares, to a random side first, and jittered; an arc at random if none clears them."""
    bends = _BENDS * (1, rng.choice([-1.0, 1.0]))
    curves = _bent(layout, target, bends)
    others, end = np.delete(layout.squares, target, axis=0), layout.squares[target]
    gaps = np.linalg.norm(to_world(curves)[:, :, None] - others, axis=-1).min(2)
    on_the_way = np.linalg.norm(to_world(curves) - end, axis=-1) > _ARRIVED
    clear = np.where(on_the_way, gaps, np.inf).min(1) > _CLEARANCE - 2 * attempt
    chosen = bends[clear.argmax() if clear.any() else rng.integers(len(_ARCS))]
    jitter = rng.uniform(-1, 1) * rng.choice([0.02, 0.1])
    return _bent(layout, target, chosen[None] + np.array([0, 2 / 3 * jitter]))[0]


def winding(layout: Layout, target: int, rng: np.random.Generator, attempt: int) -> Curve:
    """Through 0-2 random places, whatever lies in the way."""
    waypoints = rng.uniform(-0.9, 0.9, (rng.integers(3), 2))
    controls = np.concatenate([to_normalised(layout.agent[None]), waypoints, to_normalised(layout.squares[target][None])])
    return bezier(controls[None], _SAMPLES)[0]


PATHS: dict[str, PathMaker] = {"detour": detour, "winding": winding}


def bezier(controls: Float[np.ndarray, "curve control 2"], samples: int) -> Float[np.ndarray, "curve {samples} 2"]:
    """Points on Bezier curves, by de Casteljau's repeated interpolation of the control points."""
    share = np.linspace(0, 1, samples)[:, None, None]
    points = np.repeat(controls[:, None], samples, axis=1)  # (curve, sample, control, 2)
    while points.shape[2] > 1:
        points = (1 - share) * points[:, :, :-1] + share * points[:, :, 1:]
    return points[:, :, 0]


def _bent(layout: Layout, target: int, bends: Float[np.ndarray, "curve 2 2"]) -> Float[np.ndarray, "curve point 2"]:
    """Curves from the agent to the target; their waypoints are given along and beside the straight line, in its lengths."""
    start, end = to_normalised(layout.agent), to_normalised(layout.squares[target])
    along = end - start
    across = np.array([-along[1], along[0]])
    waypoints = np.clip(start + bends @ np.stack([along, across]), -_EDGE, _EDGE)
    ends = np.broadcast_to(np.stack([start, end]), waypoints.shape)
    return bezier(np.concatenate([ends[:, :1], waypoints, ends[:, 1:]], 1), _SAMPLES)


def _paced(curve: Curve, rng: np.random.Generator) -> Float32[np.ndarray, "step 2"]:
    """Aims along the curve at constant speed, with noise, and a wait at its end."""
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    steps = max(_SHORTEST, int(lengths[-1] * STEPS_PER_UNIT))
    along = np.concatenate([np.linspace(0, lengths[-1], steps), np.full(_HOLD, lengths[-1])])
    aims = np.stack([np.interp(along, lengths, curve[:, axis]) for axis in (0, 1)], 1)
    noisy = aims + rng.uniform(-ACTION_NOISE, ACTION_NOISE, aims.shape)
    return np.clip(noisy, -1, 1).astype(np.float32)
