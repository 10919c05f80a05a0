"""Scripted episodes in any number: each layout's randomness follows from the seed and its number alone, however many processes share the work."""

import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynaguide.episodes import EpisodeWriter
from dynaguide.errors import UserError, unknown_name
from dynaguide.randomness import mixed
from dynaguide_robomimic.envs.block_touch.env import IMAGE_SIZE, SMALLEST_IMAGE, observe
from dynaguide_robomimic.envs.block_touch.render import Picture
from dynaguide_robomimic.envs.block_touch.scripted import PATHS, Play, play
from dynaguide_robomimic.envs.block_touch.world import COLOR_NAMES, COLORS, LAYOUTS, draw_layout

_LAYOUTS_AHEAD = 8  # a process: enough to keep it busy, few enough to fit into memory however slow the disk is
_LAYOUT_SECONDS = 60  # a layout takes milliseconds; a process that is silent for so long has been killed


@dataclass(frozen=True)
class Collection:
    """What to collect.

    rollouts       scripted episodes in all
    every_target   play each layout once for every colour; otherwise once, for a colour at random
    path           how the player moves: detour or winding (see `scripted`)
    horizon        steps after which a rollout ends
    with_images    render what is seen; without it only numbers are collected
    """

    rollouts: int
    seed: int = 0
    layout: str = "random"
    image_size: int = IMAGE_SIZE
    every_target: bool = True
    path: str = "detour"
    horizon: int = 150
    with_images: bool = True

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise unknown_name("layout", self.layout, list(LAYOUTS))
        if self.path not in PATHS:
            raise unknown_name("path", self.path, list(PATHS))
        for name, least in (("rollouts", 1), ("image_size", SMALLEST_IMAGE), ("horizon", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, not {getattr(self, name)}")

    @property
    def layouts(self) -> int:
        return -(-self.rollouts // len(COLORS)) if self.every_target else self.rollouts


class Collected(NamedTuple):
    """One rollout; `reset(options={"layout_seed": layout_seed})` of the environment shows its layout again."""

    play: Play
    layout_seed: int
    obs: dict[str, NDArray[Any]]  # as the environment shows it, and `label` (step, 1): the target's index


def rollouts(wanted: Collection, *, processes: int = 1) -> Iterator[Collected]:
    """All rollouts, in their order."""
    if processes < 1:
        raise UserError(f"the number of processes must be at least 1, not {processes}")
    with _interrupts_held() as interrupt_if_asked:
        for made in _in_processes(wanted, processes) if processes > 1 else _here(wanted):
            for rollout in made:
                interrupt_if_asked()
                yield rollout


def _here(wanted: Collection) -> Iterator[list[Collected]]:
    return (of_layout(wanted, number) for number in range(wanted.layouts))


def _in_processes(wanted: Collection, processes: int) -> Iterator[list[Collected]]:
    """The rollouts of each layout, made by several processes that never run far ahead."""
    running: deque[Any] = deque()
    with multiprocessing.Pool(processes, initializer=_leave_interrupts_to_the_parent) as pool:
        for number in range(wanted.layouts):
            running.append(pool.apply_async(of_layout, (wanted, number)))
            if len(running) >= _LAYOUTS_AHEAD * processes:
                yield _result(running.popleft())
        while running:
            yield _result(running.popleft())


def _result(running: Any) -> list[Collected]:
    try:
        return running.get(_LAYOUT_SECONDS)
    except multiprocessing.TimeoutError as error:
        raise UserError(f"a process was silent for {_LAYOUT_SECONDS} s: it was killed, perhaps for want of memory; try fewer --processes") from error


@contextmanager
def _interrupts_held() -> Iterator[Callable[[], None]]:
    """Ctrl-C takes effect when the function that is given says so: raised while HDF5 frees an object, Python would print it and go on."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # Python delivers interrupts elsewhere
        return

    def interrupt_if_asked() -> None:
        if asked.is_set():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        yield interrupt_if_asked
    finally:
        signal.signal(signal.SIGINT, before)


def of_layout(wanted: Collection, number: int) -> list[Collected]:
    """The rollouts of one layout."""
    layout_seed = mixed(wanted.seed, number)
    if wanted.every_target:
        targets = list(range(min(len(COLORS), wanted.rollouts - number * len(COLORS))))
    else:
        targets = [mixed(wanted.seed, number, len(COLORS)) % len(COLORS)]
    made = []
    for target in targets:
        layout = draw_layout(wanted.layout, np.random.default_rng(layout_seed), target=target)
        player = np.random.default_rng(mixed(wanted.seed, number, target))
        played = play(layout, target, player, path=wanted.path, horizon=wanted.horizon)
        made.append(Collected(played, layout_seed, _observations(played, wanted)))
    return made


def _observations(played: Play, wanted: Collection) -> dict[str, NDArray[Any]]:
    picture = Picture(played.layout, wanted.image_size) if wanted.with_images else None
    label = np.full((len(played.actions), 1), played.target, np.float32)
    return {**observe(played.layout, picture, played.positions[:-1]), "label": label}


class Tally:
    """Counts what came of the rollouts."""

    def __init__(self) -> None:
        self.rollouts = 0
        self.touched = dict.fromkeys(COLOR_NAMES, 0)
        self.failed = {"touched another colour": 0, "touched nothing": 0}
        self.lengths: list[int] = []

    def add(self, played: Play, *, kept: bool) -> None:
        self.rollouts += 1
        if not played.successful:
            self.failed["touched nothing" if played.touched is None else "touched another colour"] += 1
        if kept:
            self.lengths.append(len(played.actions))
            if played.touched is not None:
                self.touched[COLOR_NAMES[played.touched]] += 1

    def summary(self) -> dict[str, Any]:
        """For JSON: rollouts tried and failed; episodes kept, their colours and lengths."""
        lengths = self.lengths or [0]
        return {
            "rollouts": self.rollouts,
            "failed": self.failed,
            "episodes": len(self.lengths),
            "touched": self.touched,
            "frames": sum(self.lengths),
            "length": {"mean": round(float(np.mean(lengths)), 2), "shortest": min(lengths), "longest": max(lengths)},
        }


def write_episode(writer: EpisodeWriter, rollout: Collected) -> None:
    """Append a rollout in robomimic's schema.

    Its attributes are `behavior` (the colour that was touched), `target` (the colour that was meant), `success` and `layout_seed`.
    """
    played = rollout.play
    ended = np.zeros(len(played.actions))
    ended[-1] = played.touched is not None
    writer.add(
        played.actions,
        rollout.obs,
        rewards=ended,
        dones=ended,
        behavior=None if played.touched is None else COLOR_NAMES[played.touched],
        target=COLOR_NAMES[played.target],
        success=played.successful,
        layout_seed=rollout.layout_seed,
    )


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
