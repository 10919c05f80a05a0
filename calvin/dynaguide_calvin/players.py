"""Scripted players: each behaviour is a plan of waypoints for the gripper, varied at random, and one player follows any plan with relative actions.

Cubes are reached where they lie on the table; those in the cabinet are out of reach.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from dynaguide_calvin import scene as facts
from dynaguide_calvin.detector import achieved
from dynaguide_calvin.env import Observation, PlayTableEnv
from dynaguide_calvin.robot import Pose
from dynaguide_calvin.scene import (
    ALONG_SLOPE,
    CUBE_EULERS,
    CUBE_POSITIONS,
    CUBES,
    DOOR,
    DRAWER,
    EULER_STEP,
    LED,
    POSITION_STEP,
    SWITCH,
    TABLE_TOP,
    TCP,
    Array,
    Scene,
)
from dynaguide_calvin.table import HALF_CAVITY

LONGEST = 160  # steps
AHEAD = np.pi / 2  # yaw of a gripper that looks away from the robot
_CLOSED, _OPEN = -1.0, 1.0
_FINGERS_APART, _FINGER_ROOM = 0.045, 0.045  # metres from an open finger to the middle; and what it needs to another cube's centre
_LIFT_ROOM = 0.06  # metres between the centres of a cube that is to be lifted and any other
_CORNER = (0.085, 0.056)  # a cube's centre nearer than this to the cabinet's side wall, and to y = 0, jams the door
_FARTHEST_TURN = 1.7  # radians to either side that the wrist turns for a cube
_LETTING_GO, _STILL, _LEAVING = 15, 5, 6  # steps after a behaviour: to open the fingers, to let things come to rest, to leave
_TRIES = 2  # plans for one behaviour, as long as there are steps left
_FLAT_HAND = ((-0.05, 0.1), (-0.15, 0.05))  # how far from straight down, roll and pitch
_TILTED_HAND = ((0.15, 0.3), (-0.6, -0.45))  # for the switch, which a straight hand does not reach


@dataclass(frozen=True)
class Waypoint:
    """Where the gripper goes next.

    speed      share of the largest action; None: the player's own
    tolerance  metres at which it counts as reached; None: only the limit or the end of the behaviour stops it
    limit      steps after which the player goes on all the same
    """

    position: Array
    yaw: float = AHEAD
    gripper: float = _CLOSED
    speed: float | None = None
    tolerance: float | None = 0.012
    limit: int = 80
    turn_tolerance: float = 0.08
    wait: int = 0  # steps to stay there, for the fingers


@dataclass(frozen=True)
class Plan:
    """Waypoints, and when the behaviour is over: `over(states)`."""

    waypoints: list[Waypoint]
    over: Callable[[Array], bool]
    tilt: tuple[tuple[float, float], tuple[float, float]] = _FLAT_HAND


class Played(NamedTuple):
    """What a player did: one more observation than there are actions, the last one at the end.

    targets   where each action told the gripper to be, position and Euler angles
    over      the moment at which the behaviour was over; what follows is rest
    """

    behavior: str
    actions: Array  # (T, 7)
    observations: list[Observation]  # T + 1
    states: Array  # (T + 1, 24)
    proprio: Array  # (T + 1, 15)
    targets: Array  # (T, 6)
    over: int

    @property
    def success(self) -> bool:
        return achieved(self.behavior, self.states[0], self.states[self.over], self.proprio[self.over])


@dataclass(frozen=True)
class Manner:
    """How a player moves.

    speed    share of the largest action; None: drawn anew for each behaviour
    noise    standard deviation added to its direction, in actions
    rest     afterwards it lets go, moves away and waits until nothing moves, so that the next behaviour can begin
    """

    speed: float | None = None
    noise: float = 0.05
    longest: int = LONGEST
    images: bool = True
    rest: bool = False


def feasible(states: Array, scene: Scene) -> list[str]:
    """What can be done from here: parts that nothing jams can go to their other end, cubes on the table can be pushed and lifted."""
    parts = {LED: ("button_on", "button_off"), SWITCH: ("switch_on", "switch_off"), DRAWER: ("drawer_open", "drawer_close")}
    parts[DOOR] = ("door_left", "door_right")
    found = [names[int(states[index] > facts.MIDPOINTS[index])] for index, names in parts.items()]
    found = [name for name in found if not (name in parts[DOOR] and door_is_jammed(name, states, scene))]
    reachable = [cube for cube in CUBES if on_the_table(states, cube)]
    return [*found, *(f"{cube}_displace" for cube in reachable), *(f"{cube}_lift" for cube in reachable if has_room(states, cube))]


def door_is_jammed(behavior: str, states: Array, scene: Scene) -> bool:
    """Whether a cube lies in the front corner of the cabinet that the door goes to, where the door wedges it against the wall."""
    side = -1 if behavior == "door_left" else 1
    x, y = np.array([states[CUBE_POSITIONS[cube]][:2] for cube in CUBES]).T
    to_wall = HALF_CAVITY - side * (x - scene.cabinet_x)
    return bool(((to_wall > 0) & (to_wall < _CORNER[0]) & (y > 0) & (y < _CORNER[1])).any())


def on_the_table(states: Array, cube: str) -> bool:
    x, y, z = states[CUBE_POSITIONS[cube]]
    return bool(-0.05 < x < 0.4 and -0.17 < y < 0.0 and abs(z - TABLE_TOP - 0.02) < 0.03)


def has_room(states: Array, cube: str) -> bool:
    """Whether fingers fit beside it."""
    at = states[CUBE_POSITIONS[cube]]
    return all(np.linalg.norm(states[CUBE_POSITIONS[other]] - at) >= _LIFT_ROOM for other in CUBES if other != cube)


def play_behavior(env: PlayTableEnv, behavior: str, rng: np.random.Generator, manner: Manner | None = None) -> Played:
    """Carry out one behaviour from where the environment stands; `Played.success` says whether it came about."""
    facts.behavior_named(behavior)
    manner = manner or Manner()
    manner = replace(manner, speed=manner.speed or rng.uniform(0.35, 0.75))
    hand = _Hand(env, rng, manner)
    for _ in range(_TRIES):
        if hand.follow(plan_for(behavior, env.scene, env.states, Pose(env.target.position, env.target.euler), rng)):
            break
    over = len(hand.actions)
    if manner.rest:
        hand.rest(behavior)
    return hand.played(behavior, over)


def plan_for(behavior: str, scene: Scene, states: Array, start: Pose, rng: np.random.Generator) -> Plan:
    """The waypoints of a behaviour in a scene, drawn at random within what works."""
    part, _, way = behavior.partition("_")
    drawn = _Draw(rng)
    makers = {"button": _button, "switch": _switch, "drawer": _drawer, "door": _door}
    if part in makers:
        return makers[part](way, scene, states, start, drawn)
    return (_lift if way == "lift" else _displace)(part, states, drawn)


class _Draw(NamedTuple):
    rng: np.random.Generator

    def __call__(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))


def _button(way: str, scene: Scene, states: Array, start: Pose, draw: _Draw) -> Plan:
    wanted = float(way == "on")
    x, y = np.asarray(scene.button) + (draw(-0.012, 0.012), draw(-0.012, 0.012))
    above, yaw = draw(0.53, 0.57), AHEAD + draw(-0.2, 0.2)
    points = [
        Waypoint(np.array((x, y, max(above, start.position[2] - 0.02))), yaw),
        Waypoint(np.array((x, y, above))),
        Waypoint(np.array((x, y, 0.475)), speed=draw(0.25, 0.45), tolerance=None, limit=40),
    ]
    return Plan(points, lambda now: bool(now[LED] == wanted))


def _switch(way: str, scene: Scene, states: Array, start: Pose, draw: _Draw) -> Plan:
    bar, yaw, speed = scene.switch_handle(states[SWITCH]) + (draw(-0.03, 0.03), 0, 0), AHEAD + draw(-0.15, 0.15), draw(0.2, 0.4)
    if way == "on":
        below = bar + (0, -0.055, -0.02 + draw(-0.005, 0.005))
        height = max(min(start.position[2], 0.6), 0.56)
        points = [
            Waypoint(np.array((bar[0] - 0.03, min(below[1] - 0.05, -0.06), height)), yaw, tolerance=0.03),
            Waypoint(below, yaw),
            Waypoint(bar + (0, -0.022, -0.012), yaw, tolerance=0.006, limit=20),
            Waypoint(bar + (0, -0.015, 0) + 0.12 * ALONG_SLOPE, yaw, speed=speed, tolerance=None, limit=60),
        ]
        return Plan(points, lambda now: bool(now[SWITCH] > 0.08), _TILTED_HAND)
    points = [
        Waypoint(np.array((bar[0] - 0.03, -0.06, 0.64)), yaw, tolerance=0.03),
        Waypoint(bar + (0, -0.015, 0.06), yaw, tolerance=0.015),
        Waypoint(bar + (0, -0.008, 0.03), yaw, tolerance=0.006, limit=15),
        Waypoint(bar + (0, -0.008, 0.03) - 0.14 * ALONG_SLOPE, yaw, speed=speed, tolerance=None, limit=70),
    ]
    return Plan(points, lambda now: bool(now[SWITCH] < 0.008), _TILTED_HAND)


def _drawer(way: str, scene: Scene, states: Array, start: Pose, draw: _Draw) -> Plan:
    x, yaw, speed = scene.drawer_x + draw(-0.05, 0.05), AHEAD + draw(-0.15, 0.15), draw(0.3, 0.55)
    if way == "open":
        y = -0.215 - states[DRAWER]  # between the handle and the front
        points = [
            Waypoint(np.array((min(x, 0.2), -0.14, 0.56)), yaw, tolerance=0.03),
            Waypoint(np.array((x, y, 0.5)), yaw, tolerance=0.01),
            Waypoint(np.array((x, y, 0.385)), yaw, tolerance=0.006),
            Waypoint(np.array((x, y - 0.215, 0.385)), yaw, speed=speed, tolerance=None, limit=70),
        ]
        return Plan(points, lambda now: bool(now[DRAWER] >= 0.155))
    y = -0.25 - states[DRAWER] - draw(0.04, 0.06)
    points = [
        Waypoint(np.array((x, -0.2, 0.56)), yaw, tolerance=0.03),
        Waypoint(np.array((x, y, 0.5)), yaw, tolerance=0.02),
        Waypoint(np.array((x, y, draw(0.372, 0.385))), yaw, tolerance=0.01),
        Waypoint(np.array((x, -0.2, 0.38)), yaw, speed=speed, tolerance=None, limit=80),
    ]
    return Plan(points, lambda now: bool(now[DRAWER] < 0.01))


def _door(way: str, scene: Scene, states: Array, start: Pose, draw: _Draw) -> Plan:
    side = -1.0 if way == "left" else 1.0
    handle, yaw, z = scene.door_handle(states[DOOR])[0], AHEAD + draw(-0.15, 0.15), draw(0.54, 0.56)
    y, beside = (z - 0.55) / 1.732 + draw(-0.004, 0.004), handle - side * draw(0.055, 0.07)
    points = [
        Waypoint(np.array((beside, -0.09, max(start.position[2], 0.57))), yaw, tolerance=0.02),
        Waypoint(np.array((beside, -0.05, z)), yaw, tolerance=0.015),
        Waypoint(np.array((beside, y, z)), yaw, tolerance=0.006),
        Waypoint(np.array((handle + side * 0.31, y, z)), yaw, speed=draw(0.3, 0.6), tolerance=None, limit=90),
    ]
    if way == "left":
        return Plan(points, lambda now: bool(now[DOOR] > 0.265))
    return Plan(points, lambda now: bool(now[DOOR] < 0.012))


def _lift(cube: str, states: Array, draw: _Draw) -> Plan:
    at, yaw = states[CUBE_POSITIONS[cube]], _grasp(cube, states)
    points = [
        Waypoint(at + (0, 0, draw(0.08, 0.12)), yaw, _OPEN, tolerance=0.006, turn_tolerance=0.05),
        Waypoint(at + (0, 0, draw(0.0, 0.006)), yaw, _OPEN, speed=0.35, tolerance=0.005),
        Waypoint(at + (0, 0, 0.003), yaw, _CLOSED, tolerance=None, limit=0, wait=8),
        Waypoint(at + (0, 0, 0.12), yaw, _CLOSED, speed=draw(0.3, 0.5), tolerance=None, limit=40),
    ]
    index = CUBE_POSITIONS[cube].start + 2
    return Plan(points, lambda now: bool(now[index] > at[2] + 0.04))


def _grasp(cube: str, states: Array) -> float:
    """A yaw at which the fingers close across the cube without landing on another, as close to straight ahead as that leaves."""
    at, turned = states[CUBE_POSITIONS[cube]][:2], states[CUBE_EULERS[cube]][2]
    same = np.pi if cube == "pink" else np.pi / 2  # pink is too long to be held lengthwise
    nearest = turned + same * np.round((AHEAD - turned) / same)
    others = [states[CUBE_POSITIONS[other]][:2] for other in CUBES if other != cube]

    def badness(yaw: float) -> float:
        across = _FINGERS_APART * np.array((-np.sin(yaw), np.cos(yaw)))
        room = min(float(np.linalg.norm(at + side * across - other)) for other in others for side in (1, -1))
        return abs(yaw - AHEAD) + 10 * max(0.0, _FINGER_ROOM - room) / _FINGER_ROOM

    turns = [nearest + same * turn for turn in (-1, 0, 1)]
    return float(min((yaw for yaw in turns if abs(yaw - AHEAD) < _FARTHEST_TURN), key=badness, default=nearest))


def _displace(cube: str, states: Array, draw: _Draw) -> Plan:
    at = states[CUBE_POSITIONS[cube]]
    way = _free_way(cube, states, draw)
    yaw, beside = AHEAD + draw(-0.3, 0.3), at - 0.075 * way
    points = [
        Waypoint(beside + (0, 0, draw(0.08, 0.1)), yaw, tolerance=0.015),
        Waypoint(beside + (0, 0, 0.005), yaw, tolerance=0.01),
        Waypoint(at + 0.06 * way + (0, 0, 0.005), yaw, speed=draw(0.25, 0.5), tolerance=None, limit=40),
    ]
    plane = slice(CUBE_POSITIONS[cube].start, CUBE_POSITIONS[cube].start + 2)
    return Plan(points, lambda now: bool(np.linalg.norm(now[plane] - at[:2]) > 0.03))


def _free_way(cube: str, states: Array, draw: _Draw) -> Array:
    """A direction to push in whose beginning lies on the open table, and away from other cubes if one is found."""
    at = states[CUBE_POSITIONS[cube]]
    others = [states[CUBE_POSITIONS[other]][:2] for other in CUBES if other != cube]
    best, room = np.array((1.0, 0.0, 0.0)), -np.inf
    for _ in range(20):
        angle = draw(-np.pi, np.pi)
        way = np.array((np.cos(angle), np.sin(angle), 0.0))
        beside, beyond = (at - 0.075 * way)[:2], (at + 0.06 * way)[:2]
        on_table = beside[1] < 0.0 and beside[0] > -0.05
        clear = min(float(np.linalg.norm(other - place)) for other in others for place in (beside, beyond))
        if on_table and clear > 0.09:
            return way
        if on_table and clear > room:
            best, room = way, clear
    return best


class _Hand:
    """Follows a plan with relative actions, and keeps what was seen and done."""

    def __init__(self, env: PlayTableEnv, rng: np.random.Generator, manner: Manner) -> None:
        self.env, self.rng, self.manner = env, rng, manner
        self.tilt = [0.0, 0.0]
        env.images = manner.images
        self.actions: list[Array] = []
        self.observations = [env.observe(images=manner.images)]
        self.states, self.proprio = [env.states], [env.proprio]
        self.targets: list[Array] = []

    def follow(self, plan: Plan) -> bool:
        """Whether there is nothing more to do: the behaviour is over, or there are no steps left."""
        self.tilt = [self.rng.uniform(low, high) for low, high in plan.tilt]
        for action in self._course(plan.waypoints):
            self._act(action)
            if plan.over(self.env.states) or len(self.actions) >= self.manner.longest:
                return True
        return False

    def rest(self, behavior: str) -> None:
        """Open the fingers if they hold something, wait until nothing moves, and leave the way that drags nothing along."""
        held = self.env.last_gripper < 0 and self.env.proprio[facts.WIDTH] > 0.01
        gripper = _OPEN if held else _CLOSED
        away = np.array((0, -0.6, 0) if behavior.startswith(("switch", "door")) else (0, 0, 0.6))
        course = [np.zeros(3)] * (_LETTING_GO if held else _STILL) + [away] * _LEAVING
        for way in course:
            self._act(self._action(way, np.zeros(3), gripper))

    def played(self, behavior: str, over: int) -> Played:
        actions, targets = np.array(self.actions, np.float32).reshape(-1, facts.ACTIONS), np.array(self.targets).reshape(-1, 6)
        return Played(behavior, actions, self.observations, np.array(self.states), np.array(self.proprio), targets, over)

    def _course(self, waypoints: list[Waypoint]) -> Iterator[Array]:
        """The actions towards one waypoint after another."""
        for point in waypoints:
            for _ in range(point.limit):
                if self._reached(point):
                    break
                yield self._towards(point)
            for _ in range(point.wait):
                yield self._action(np.zeros(3), np.zeros(3), point.gripper)

    def _reached(self, point: Waypoint) -> bool:
        if point.tolerance is None:
            return False
        away = np.abs(point.position - self.env.target.position).max()
        lag = np.linalg.norm(point.position - self.env.proprio[TCP])
        return bool(away < point.tolerance and lag < 3 * point.tolerance and abs(self._turn(point)[2]) < point.turn_tolerance)

    def _towards(self, point: Waypoint) -> Array:
        way = (point.position - self.env.target.position) / POSITION_STEP
        fastest = np.abs(way).max()
        speed = point.speed or self.manner.speed or 0.5
        if fastest > speed:
            way *= speed / fastest
        way = way + self.manner.noise * self.rng.normal(size=3)
        return self._action(way, np.clip(self._turn(point) / EULER_STEP, -0.6, 0.6), point.gripper)

    def _turn(self, point: Waypoint) -> Array:
        """The Euler angles still to turn; roll is the same at pi and -pi."""
        roll, pitch, yaw = self.env.target.euler
        straight = np.pi if roll > 0 else -np.pi
        away = (point.yaw - yaw + np.pi) % (2 * np.pi) - np.pi
        return np.array((straight - self.tilt[0] - roll, self.tilt[1] - pitch, away))

    def _action(self, way: Array, turn: Array, gripper: float) -> Array:
        return np.append(np.clip(np.concatenate([way, turn]), -1, 1), gripper).astype(np.float32)

    def _act(self, action: Array) -> None:
        observation, *_ = self.env.step(action)
        self.actions.append(action)
        self.observations.append(observation)
        self.states.append(self.env.states)
        self.proprio.append(self.env.proprio)
        self.targets.append(np.concatenate([self.env.target.position, self.env.target.euler]))
