"""The one behaviour detector: it labels demonstrations, ends rollouts, counts results and cuts play into segments. `docs/calvin.md` says how it
differs from the published code.

Everything compares states (24) and proprio (15) as `scene` describes them, one moment or a whole trajectory, (..., 24) and (..., 15).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynaguide_calvin import scene as facts
from dynaguide_calvin.scene import BUTTON, CUBE_EULERS, CUBE_POSITIONS, CUBES, DOOR, DRAWER, LED, SWITCH, TCP, Array

Flags = NDArray[np.bool_]
UP = {DOOR: "door_left", DRAWER: "drawer_open", SWITCH: "switch_on", LED: "button_on"}  # what it is called when the state grows
DOWN = {DOOR: "door_right", DRAWER: "drawer_close", SWITCH: "switch_off", LED: "button_off"}
NO_BEHAVIOR = "no_behavior"
OTHER = "other"


@dataclass(frozen=True)
class Rule:
    """When a part counts as moved.

    travel       how far a part must have come; None: from one side of its midpoint to the other
    cube_travel  how far a cube must have come, in the plane of the table
    cube_reach   and how close the gripper must be to it
    """

    travel: Mapping[int, float] | None
    cube_travel: float
    cube_reach: float


DONE = Rule(None, 0.001, 0.06)  # ends a rollout, and counts it: past halfway, or a cube touched
TOUCHED = Rule(MappingProxyType({DOOR: 0.05, DRAWER: 0.05, SWITCH: 0.02, LED: 0.01}), 0.001, 0.1)  # anything noticeable
UNDISTURBED = MappingProxyType({DOOR: 0.05, DRAWER: 0.05, SWITCH: 0.02, LED: 0.01})
CUBE_UNDISTURBED = 0.005

_FAR = {"button": (LED, 0.2, 0.8), "switch": (SWITCH, 0.01, 0.07), "drawer": (DRAWER, 0.05, 0.10), "door": (DOOR, 0.05, 0.25)}  # below, then above
DISPLACED, LIFTED, HELD = 0.01, 0.03, 0.06  # metres in the plane; metres up; gripper to cube


def happened(first: Array, states: Array, proprio: Array, rule: Rule = DONE) -> dict[str, Flags]:
    """Behaviour -> whether it has happened, for each moment of (..., 24) states."""
    found: dict[str, Flags] = {}
    for index in UP:
        up, down = _moved(first, states, index, rule)
        found[UP[index]], found[DOWN[index]] = up, down
    for cube in CUBES:
        at = states[..., CUBE_POSITIONS[cube]]
        travelled = np.linalg.norm(at[..., :2] - first[CUBE_POSITIONS[cube]][:2], axis=-1) > rule.cube_travel
        found[f"{cube}_displace"] = travelled & (np.linalg.norm(proprio[..., TCP] - at, axis=-1) < rule.cube_reach)
    return found


def _moved(first: Array, states: Array, index: int, rule: Rule) -> tuple[Flags, Flags]:
    now, before = states[..., index], first[index]
    if rule.travel is None:
        high = facts.MIDPOINTS[index]
        return np.asarray((now > high) & (before <= high)), np.asarray((now <= high) & (before > high))
    return np.asarray(now - before > rule.travel[index]), np.asarray(before - now > rule.travel[index])


def ended_by(first: Array, states: Array, proprio: Array) -> tuple[str, ...]:
    """What has happened by now that ends a rollout; nothing while it goes on."""
    return tuple(name for name, flag in happened(first, states, proprio).items() if flag)


def first_behavior(states: Array, proprio: Array, rule: Rule = DONE) -> tuple[str, ...]:
    """What happened first in a trajectory, against its first state: one behaviour, more when they come at the same moment, or none."""
    flags = happened(states[0], states, proprio, rule)
    began = {name: int(flag.argmax()) for name, flag in flags.items() if flag.any()}
    return tuple(name for name, moment in began.items() if moment == min(began.values()))


def achieved(behavior: str, first: Array, states: Array, proprio: Array) -> bool:
    """Whether a behaviour was carried through between two moments: from one end of its part to the other, a cube shifted, or held in the air."""
    part, _, way = facts.behavior_named(behavior).partition("_")
    if part in _FAR:
        index, low, high = _FAR[part]
        before, after = (first, states) if behavior in UP.values() else (states, first)
        return bool(before[index] < low and after[index] > high)
    at = CUBE_POSITIONS[part]
    if way == "lift":
        return bool(states[at][2] - first[at][2] > LIFTED and np.linalg.norm(proprio[TCP] - states[at]) < HELD)
    return bool(np.linalg.norm((states[at] - first[at])[:2]) > DISPLACED)


def label(first: Array, states: Array, proprio: Array) -> str:
    """The behaviour between two moments: an articulated one before a lift, a lift before a displacement; `other` if none was carried through."""
    ordered = (*facts.ARTICULATED, *(f"{cube}_lift" for cube in CUBES), *(f"{cube}_displace" for cube in CUBES))
    return next((name for name in ordered if achieved(name, first, states, proprio)), OTHER)


def disturbed(behavior: str, first: Array, states: Array, *, cubes: bool = False) -> tuple[str, ...]:
    """Parts that moved although they do not belong to the behaviour; cubes only if asked."""
    own = {"button": LED, "switch": SWITCH, "drawer": DRAWER, "door": DOOR}.get(behavior.partition("_")[0])
    moved = [UP[index] for index, least in UNDISTURBED.items() if index != own and abs(states[index] - first[index]) > least]
    if cubes:
        others = [cube for cube in CUBES if not behavior.startswith(cube)]
        moved += [cube for cube in others if np.abs(states[CUBE_POSITIONS[cube]] - first[CUBE_POSITIONS[cube]]).max() > CUBE_UNDISTURBED]
    return tuple(moved)


# --- play, cut into segments --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cutting:
    """How play is cut. Frames and metres.

    still          so many frames without motion end a segment in which something moved
    still_lit      and so many where the LED has changed: the next press may come soon
    shortest       a segment has so many frames at least
    joint_motion   a joint moves when it changes by more than this in a frame
    cube_motion    a cube does
    """

    still: int = 8
    still_lit: int = 2
    shortest: int = 16
    joint_motion: float = 1e-4
    cube_motion: float = 1e-3


class Segment(NamedTuple):
    """Frames [start, end) of play, and what happens in them."""

    start: int
    end: int
    behavior: str


def segments(states: Array, proprio: Array, cutting: Cutting | None = None) -> list[Segment]:
    """Cut where motion has come to rest, at once where a cube is held in the air, and at the end. (T, 24), (T, 15)

    What begins with a cube in the air (it is put down, or falls) is `other`.
    """
    rule = cutting or Cutting()
    moving, start, moved, still = _moving(states, rule), 0, False, 0
    found: list[Segment] = []
    for frame in range(1, len(states)):
        moved, still = moved or bool(moving[frame]), 0 if moving[frame] else still + 1
        lifted = _lifted(states[start], states[frame], proprio[frame])
        patience = rule.still_lit if states[frame][LED] != states[start][LED] else rule.still
        rested = moved and still >= patience and frame - start >= rule.shortest
        if lifted or rested:
            found.append(Segment(start, frame + 1, _named(states, proprio, start, frame)))
            start, moved, still = frame, False, 0
    if moved and len(states) - start >= rule.shortest:
        found.append(Segment(start, len(states), _named(states, proprio, start, len(states) - 1)))
    return found


def _named(states: Array, proprio: Array, start: int, end: int) -> str:
    in_the_air = any(states[start][CUBE_POSITIONS[cube]][2] > facts.CUBE_REST + LIFTED / 2 for cube in CUBES)
    return OTHER if in_the_air else label(states[start], states[end], proprio[end])


def _lifted(first: Array, states: Array, proprio: Array) -> bool:
    return any(achieved(f"{cube}_lift", first, states, proprio) for cube in CUBES)


def _moving(states: Array, rule: Cutting) -> Flags:
    """Whether anything moved between a frame and the one before it; lights are not motion."""
    change = np.abs(np.diff(states, axis=0, prepend=states[:1]))
    moving = (change[:, [DOOR, DRAWER, BUTTON, SWITCH]] > rule.joint_motion).any(1)
    for cube in CUBES:
        turned = np.abs(_wrapped(np.diff(states[:, CUBE_EULERS[cube]], axis=0, prepend=states[:1, CUBE_EULERS[cube]])))
        moving |= (change[:, CUBE_POSITIONS[cube]] > rule.cube_motion).any(1) | (turned > 10 * rule.cube_motion).any(1)
    return np.asarray(moving)


def _wrapped(angles: Array) -> Array:
    return np.asarray((angles + np.pi) % (2 * np.pi) - np.pi)


def counted(names: Sequence[str]) -> dict[str, int]:
    """How often each behaviour occurs, all of them named."""
    return {name: sum(found == name for found in names) for name in (*facts.BEHAVIORS, OTHER)}
