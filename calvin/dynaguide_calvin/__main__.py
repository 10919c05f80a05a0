"""Look at the play table: one scripted behaviour, in a window where there is a display, and otherwise as an MP4."""

import time
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import numpy as np

from dynaguide import cli
from dynaguide.errors import UserError
from dynaguide.recorders import Video
from dynaguide_calvin import scene as facts
from dynaguide_calvin.bullet import PhysicsError, has_display
from dynaguide_calvin.env import PlayTableEnv
from dynaguide_calvin.players import Played, play_behavior

_STARTS = {  # the end at which a behaviour's part has to be
    "button": ("green_light", "on", "off"),
    "switch": ("switch", "on", "off"),
    "drawer": ("drawer", "open", "closed"),
    "door": ("sliding_door", "left", "right"),
}
ATTEMPTS = 10


class _AtTheSpeedOfLife(PlayTableEnv):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(1 / facts.CONTROL_HZ)
        return super().step(action)


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python -m dynaguide_calvin --behavior drawer_open --scene B")
    made.add_argument("--behavior", default="drawer_open", help=f"one of {', '.join(facts.BEHAVIORS)}")
    made.add_argument("--scene", default="D", help="A, B, C or D")
    made.add_argument("--assets", help="a folder with the public CALVIN files (default: our own primitives)")
    made.add_argument("--renderer", default="auto", help="gl, tiny, or auto: gl where it works")
    made.add_argument("--video_path", help="write an MP4 here, also where there is a display (default without one: play_table.mp4)")
    cli.add_seed(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    facts.behavior_named(args.behavior)
    if args.video_path or not has_display():
        film(args, args.video_path or "play_table.mp4")
    else:
        watch(args)


def film(args: Namespace, path: str) -> None:
    env = PlayTableEnv(scene=args.scene, assets=args.assets, renderer=args.renderer)
    played = play(env, args.behavior, args.seed)
    video = Video(path, fps=facts.CONTROL_HZ)
    for obs in played.observations:
        video.show(side_by_side(obs[facts.THIRD_PERSON], obs[facts.EYE_IN_HAND]))
    video.close()
    env.close()


def watch(args: Namespace) -> None:
    """In pybullet's window, until it is closed."""
    env = _AtTheSpeedOfLife(scene=args.scene, assets=args.assets, cameras=(), render_mode="human")
    try:
        play(env, args.behavior, args.seed)
        while env.world.bullet.isConnected():
            time.sleep(0.1)
    except PhysicsError:
        if env.world.bullet.isConnected():
            raise


def play(env: PlayTableEnv, behavior: str, seed: int) -> Played:
    """The first successful attempt."""
    for attempt in range(ATTEMPTS):
        env.reset(seed=seed + attempt, options={"setup": starting_setup(behavior), "cubes": "table_only"})
        played = play_behavior(env, behavior, np.random.default_rng([seed, attempt]))
        if played.success:
            return played
    raise UserError(f"{behavior} did not succeed in {ATTEMPTS} attempts; try another --seed")


def starting_setup(behavior: str) -> dict[str, str]:
    """Everything at its low end, but the part that the behaviour moves where it can be moved."""
    setup = {name: words[0] for name, words in facts.SETUP_WORDS.items()}
    part, _, way = behavior.partition("_")
    if part in _STARTS:
        name, high, low = _STARTS[part]
        setup[name] = low if way in ("on", "open", "left") else high
    return setup


def side_by_side(third_person: np.ndarray, eye_in_hand: np.ndarray) -> np.ndarray:
    """Both cameras at the height of the first."""
    size = len(third_person)
    index = np.arange(size) * len(eye_in_hand) // size
    return np.concatenate([third_person, eye_in_hand[index][:, index]], axis=1)


if __name__ == "__main__":
    main()
