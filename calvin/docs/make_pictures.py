"""The README's pictures: every behaviour as a strip of frames, and the scenes, lights and renderers side by side."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw

from dynaguide import cli
from dynaguide_calvin import scene as facts
from dynaguide_calvin.__main__ import play, side_by_side
from dynaguide_calvin.env import PlayTableEnv

SIZE, FRAMES, CAPTION = 150, 3, 16
HIGH = {"sliding_door": "left", "drawer": "open", "switch": "on", "green_light": "on"}
LOW = {"sliding_door": "right", "drawer": "closed", "switch": "off", "green_light": "off"}


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python calvin/docs/make_pictures.py")
    made.add_argument("--folder", default=str(Path(__file__).parent), help="where they go")
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    iio.imwrite(Path(args.folder) / "behaviors.jpg", behaviors(), quality=75)
    iio.imwrite(Path(args.folder) / "scenes.jpg", scenes(), quality=88)


def behaviors() -> np.ndarray:
    """Two columns of strips: first, middle and last frame from both cameras."""
    env = PlayTableEnv(cameras={facts.THIRD_PERSON: SIZE, facts.EYE_IN_HAND: SIZE // 2})
    strips = [strip(env, name) for name in facts.BEHAVIORS]
    env.close()
    half = len(strips) // 2
    return np.concatenate([np.concatenate(strips[:half]), np.concatenate(strips[half:])], axis=1)


def strip(env: PlayTableEnv, behavior: str) -> np.ndarray:
    played = play(env, behavior, 0)
    chosen = np.linspace(played.over * 0.35, played.over, FRAMES).astype(int)
    frames = [played.observations[index] for index in chosen]
    return captioned(np.concatenate([side_by_side(obs[facts.THIRD_PERSON], obs[facts.EYE_IN_HAND]) for obs in frames], axis=1), behavior)


def scenes() -> np.ndarray:
    """The four scenes; scene D dark, lit, by TinyRenderer, and from the hand."""
    first = [picture(f"scene {name}", LOW | {"drawer": "open"} if name in "AC" else LOW, scene=name) for name in facts.SCENES]
    second = [
        picture("everything at its low end", LOW),
        picture("everything at its high end", HIGH),
        picture("the same by TinyRenderer", HIGH, renderer="tiny"),
        picture("the same from the hand", HIGH, camera=facts.EYE_IN_HAND),
    ]
    return np.concatenate([np.concatenate(first, axis=1), np.concatenate(second, axis=1)])


def picture(caption: str, setup: dict[str, str], *, scene: str = "D", renderer: str = "auto", camera: str = facts.THIRD_PERSON) -> np.ndarray:
    env = PlayTableEnv(scene=scene, renderer=renderer, cameras={camera: 240})
    obs, _ = env.reset(seed=4, options={"setup": setup, "cubes": "table_only"})
    env.close()
    return captioned(obs[camera], caption)


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """With a white line of text above."""
    made = Image.new("RGB", (image.shape[1], image.shape[0] + CAPTION), "white")
    made.paste(Image.fromarray(image), (0, CAPTION))
    ImageDraw.Draw(made).text((4, 2), text, fill="black")
    return np.asarray(made)


if __name__ == "__main__":
    main()
