"""The world of BlockTouch: its measures, its colours and where things stand when an episode begins.

World coordinates run from 0 to 512, x to the right and y *down*, as in the picture; observations and actions are normalised to [-1, 1] on both axes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from dynaguide.errors import UserError, unknown_name

SIZE = 512.0
AGENT_RADIUS = 20.0
SQUARE_SIDE = 40.0
START_GAP = 60.0  # between the centres of the agent and any square, when an episode begins
COLORS = {"blue": (0, 0, 255), "red": (255, 0, 0), "green": (0, 255, 0), "yellow": (255, 255, 0)}  # in the order of the labels 0-3
COLOR_NAMES = tuple(COLORS)
AGENT_COLOR = (0, 0, 0)
GROUND_COLOR = (255, 255, 255)

Coordinates = Float[np.ndarray, "*points 2"]


class Layout(NamedTuple):
    """Where an episode begins, in world coordinates; the squares are in the order of the colours."""

    agent: Float[np.ndarray, "2"]
    squares: Float[np.ndarray, "4 2"]
    rotations: Float[np.ndarray, "4"]  # radians, from x towards y


def to_world(normalised: Coordinates) -> Coordinates:
    return 0.5 * (normalised + 1) * SIZE


def to_normalised(world: Coordinates) -> Coordinates:
    return world / (SIZE / 2) - 1


def color_index(name: str) -> int:
    """The label of a colour."""
    if name not in COLORS:
        raise unknown_name("colour", name, list(COLORS))
    return COLOR_NAMES.index(name)


def draw_layout(name: str, rng: np.random.Generator, *, target: int = 0) -> Layout:
    """A layout of the kind `name` in which nothing overlaps. `target` is the label that `cube_blockade` and `around_the_column` are built around."""
    if name not in LAYOUTS:
        raise unknown_name("layout", name, list(LAYOUTS))
    if not 0 <= target < len(COLORS):
        raise UserError(f"the target must be a colour's index from 0 to {len(COLORS) - 1}, not {target}")
    while True:
        layout = LAYOUTS[name](rng, target)
        gaps = np.linalg.norm(layout.squares - layout.agent, axis=1)
        if gaps.min() >= START_GAP and not squares_overlap(layout):
            return layout


def squares_overlap(layout: Layout) -> bool:
    """Whether any two squares share ground: two rotated squares are apart exactly when a side of one of them separates them."""
    first, second = np.triu_indices(len(COLORS), k=1)
    between = layout.squares[second] - layout.squares[first]  # (pair, 2)
    cos, sin = np.cos(layout.rotations), np.sin(layout.rotations)
    sides = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)  # (square, side, 2)
    along = np.abs(np.einsum("psx,px->ps", np.concatenate([sides[first], sides[second]], 1), between)).max(1)
    turn = layout.rotations[second] - layout.rotations[first]
    reach = SQUARE_SIDE / 2 * (1 + np.abs(np.cos(turn)) + np.abs(np.sin(turn)))
    return bool((along < reach).any())


def _random(rng: np.random.Generator, target: int) -> Layout:
    """Five points anywhere, at least `START_GAP` apart."""
    while True:
        points = rng.uniform(40, 470, (5, 2))
        gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
        if gaps[np.triu_indices(5, k=1)].min() >= START_GAP:
            return Layout(points[0], points[1:], _rotations(rng))


def _early_decision(rng: np.random.Generator, target: int) -> Layout:
    """A square in each quarter, the agent in the middle."""
    places = np.array([(128, 128), (128, 384), (384, 384), (384, 128)]) + 90 * _unit(rng, 4, 2)
    return Layout(np.array([255, 255]) + 70 * _unit(rng, 2), rng.permutation(places), _rotations(rng))


def _late_decision(rng: np.random.Generator, target: int) -> Layout:
    """All squares in one corner, closer together than in `random`, and the agent in the opposite one."""
    spread = np.array([(0, 25), (0, 25), (25, 0), (25, 0)])
    places = np.array([(100, 340), (100, 420), (150, 460), (230, 460)]) + spread * _unit(rng, 4, 2)
    return Layout(np.array([420, 120]) + 70 * _unit(rng, 2), rng.permutation(places), _rotations(rng))


def _cube_blockade(rng: np.random.Generator, target: int) -> Layout:
    """The target at the far side, the others, in the order of the colours, as a fence before it."""
    places = np.array([(60, 250), (320, 250), (320, 450), (320, 60)]) + 60 * _unit(rng, 4, 2)
    squares = np.empty((4, 2))
    squares[[target, *(color for color in range(4) if color != target)]] = places
    return Layout(np.array([450, 250]) + 60 * _unit(rng, 2), squares, _rotations(rng))


def _around_the_column(rng: np.random.Generator, target: int) -> Layout:
    """A block of two by two squares; the agent in the world's corner behind the square diagonally opposite the target."""
    corners = rng.permutation(np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]))
    squares = 270 + 30 * corners + 25 * _unit(rng, 4, 2)
    return Layout(270 - 190 * corners[target] + 25 * _unit(rng, 2), squares, _rotations(rng))


LAYOUTS: dict[str, Callable[[np.random.Generator, int], Layout]] = {
    "random": _random,
    "early_decision": _early_decision,
    "late_decision": _late_decision,
    "cube_blockade": _cube_blockade,
    "around_the_column": _around_the_column,
}


def _unit(rng: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    return rng.uniform(-1, 1, shape)


def _rotations(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.uniform(-np.pi, np.pi, len(COLORS))
