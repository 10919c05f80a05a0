"""Scripted play in any number: demonstrations from random starts, or one behaviour after another as people played. What a piece of it looks like
follows from the seed and its number alone, however many processes share the work.
"""

import multiprocessing
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import BaseContext
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from dynaguide.errors import UserError
from dynaguide.randomness import mixed
from dynaguide_calvin import scene as facts
from dynaguide_calvin.detector import disturbed
from dynaguide_calvin.env import Observation, PlayTableEnv
from dynaguide_calvin.players import Manner, Played, feasible, play_behavior
from dynaguide_calvin.scene import Array

_AHEAD = 2  # pieces a process works ahead: enough to keep it busy, few enough to fit into memory


@dataclass(frozen=True)
class Wanted:
    """What is played.

    weights   how often a behaviour is chosen, 1 if it is not named, 0 leaves it out
    cameras   name -> pixels a side
    cubes     where cubes lie at the start: shuffle (anywhere) or table_only
    careful   drop demonstrations that moved anything else
    """

    seed: int = 0
    scenes: tuple[str, ...] = ("D",)
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    cameras: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({facts.THIRD_PERSON: 200, facts.EYE_IN_HAND: 84}))
    cubes: str = "shuffle"
    renderer: str = "auto"
    assets: str | None = None
    careful: bool = True
    behaviors: tuple[str, ...] = facts.BEHAVIORS

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            facts.behavior_named(name)
            if not 0 <= weight < float("inf"):
                raise UserError(f"the weight of {name} must be 0 or more, not {weight}")
        for name in self.behaviors:
            facts.behavior_named(name)
        if not any(self.weight(name) for name in facts.BEHAVIORS):
            raise UserError("every behaviour is left out: nothing to play")
        for scene in self.scenes:
            facts.scene_named(scene)

    def weight(self, behavior: str) -> float:
        return self.weights.get(behavior, 1.0) if behavior in self.behaviors else 0.0

    def env(self, scene: str) -> PlayTableEnv:
        return PlayTableEnv(scene=scene, cameras=self.cameras, renderer=self.renderer, assets=self.assets)

    def possible(self, states: Array, scene: facts.Scene) -> list[str]:
        """What can be done from here and is not left out."""
        return [name for name in feasible(states, scene) if self.weight(name)]


class Demonstration(NamedTuple):
    """One successful, undisturbed behaviour. number: of the start it was played from"""

    number: int
    played: Played


class Stretch(NamedTuple):
    """Play without a break. behaviors: what was played from which frame on, and whether it came about"""

    number: int
    observations: list[Observation]  # T + 1
    actions: Array  # (T, 7) relative
    states: Array  # (T + 1, 24)
    proprio: Array  # (T + 1, 15)
    targets: Array  # (T, 6)
    behaviors: list[tuple[int, str, bool]]


class Tried(NamedTuple):
    """Demonstrations of one start, and how many tries they took."""

    kept: list[Demonstration]
    tries: int


def demonstrations(wanted: Wanted, starts: range, *, per_start: int, processes: int = 1) -> Iterator[Tried]:
    """From each start (a random scene and pose) up to `per_start` different behaviours; the cubes lie the same for all of them."""
    yield from _spread(_from_start, wanted, [(number, per_start) for number in starts], processes)


def stretches(wanted: Wanted, numbers: range, *, length: int, processes: int = 1) -> Iterator[Stretch]:
    """Stretches of continuous play, each of `length` frames or a little more."""
    yield from _spread(_stretch, wanted, [(number, length) for number in numbers], processes)


def _from_start(wanted: Wanted, number: int, per_start: int) -> Tried:
    rng = np.random.default_rng(mixed(wanted.seed, number))
    env = _env_of(wanted, number)
    env.images = False
    env.reset(seed=mixed(wanted.seed, number), options={"setup": {}, "robot": "random", "cubes": wanted.cubes})
    start = env.save_state()
    chosen = _chosen(wanted, wanted.possible(env.states, env.scene), per_start, rng)
    kept = []
    for behavior in chosen:
        env.restore_state(start)
        played = play_behavior(env, behavior, rng)
        spoilt = wanted.careful and disturbed(behavior, played.states[0], played.states[-1], cubes=behavior in facts.CUBE_BEHAVIORS)
        if played.success and not spoilt:
            kept.append(Demonstration(number, played))
    return Tried(kept, len(chosen))


def _chosen(wanted: Wanted, possible: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Up to `count` different behaviours, by weight."""
    if not possible:
        return []
    weights = np.array([wanted.weight(name) for name in possible])
    picked = rng.choice(len(possible), min(count, len(possible)), replace=False, p=weights / weights.sum())
    return [possible[index] for index in picked]


def _stretch(wanted: Wanted, number: int, length: int) -> Stretch:
    rng = np.random.default_rng(mixed(wanted.seed, number))
    env = _env_of(wanted, number)
    env.images = False
    env.reset(seed=mixed(wanted.seed, number), options={"setup": {}, "robot": "random", "cubes": wanted.cubes})
    env.images = True
    made = Stretch(number, [env.observe()], np.zeros((0, facts.ACTIONS), np.float32), env.states[None], env.proprio[None], np.zeros((0, 6)), [])
    while len(made.actions) < length:
        behavior = _chosen(wanted, wanted.possible(env.states, env.scene), 1, rng)
        if not behavior:
            break
        played = play_behavior(env, behavior[0], rng, Manner(rest=True))
        made.behaviors.append((len(made.actions), behavior[0], played.success))
        made = made._replace(
            observations=made.observations + played.observations[1:],
            actions=np.concatenate([made.actions, played.actions]),
            states=np.concatenate([made.states, played.states[1:]]),
            proprio=np.concatenate([made.proprio, played.proprio[1:]]),
            targets=np.concatenate([made.targets, played.targets]),
        )
    return made


_envs: dict[Any, PlayTableEnv] = {}


def _env_of(wanted: Wanted, number: int) -> PlayTableEnv:
    """The environment of a piece's scene; each process makes it once."""
    scene = wanted.scenes[number % len(wanted.scenes)]
    key = (scene, tuple(wanted.cameras.items()), wanted.renderer, wanted.assets)
    if key not in _envs:
        _envs[key] = wanted.env(scene)
    return _envs[key]


def _spread(make: Any, wanted: Wanted, pieces: Sequence[tuple[int, int]], processes: int) -> Iterator[Any]:
    """`make(wanted, *piece)` for every piece, in their order, by several processes that never run far ahead."""
    if processes < 1:
        raise UserError(f"the number of processes must be at least 1, not {processes}")
    if processes == 1:
        yield from (make(wanted, *piece) for piece in pieces)
        return
    running: deque[Any] = deque()
    with _context().Pool(processes) as pool:
        for piece in pieces:
            running.append(pool.apply_async(make, (_picklable(wanted), *piece)))
            if len(running) >= _AHEAD * processes:
                yield running.popleft().get()
        while running:
            yield running.popleft().get()


def _context() -> BaseContext:
    """Processes that share what they import where the system can do that (torch alone takes 300 MB), and nothing else with this one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _picklable(wanted: Wanted) -> Wanted:
    """Read-only views do not travel between processes."""
    return Wanted(**{**wanted.__dict__, "weights": dict(wanted.weights), "cameras": dict(wanted.cameras)})
