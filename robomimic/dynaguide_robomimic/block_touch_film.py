"""A film of BlockTouch runs side by side, made from the paths in their results."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dynaguide.recorders import Video
from dynaguide_robomimic.block_touch_pictures import RecordedRun, layout_of, path_of
from dynaguide_robomimic.envs.block_touch.env import RENDER_SIZE
from dynaguide_robomimic.envs.block_touch.physics import CONTROL_HZ
from dynaguide_robomimic.envs.block_touch.render import Picture
from dynaguide_robomimic.envs.block_touch.world import COLORS, SIZE, Layout

Frame = NDArray[np.uint8]
CAPTION, GAP = 30, 4  # pixels
GRAY = 225  # of the gaps
STILL_FRAMES = CONTROL_HZ  # a second, at the beginning of each layout and at its end
_GROUND, _INK, _TRAIL = (225, 225, 225), (20, 20, 20), (120, 120, 120)


def write_film(path: Path | str, runs: Sequence[RecordedRun], *, layouts: int, columns: int = 3) -> Path:
    """The first layouts one after another, all runs at once, one a panel; whoever is done stands still."""
    episodes = [run.by_seed() for run in runs]
    seeds = sorted(set.intersection(*(set(one) for one in episodes)))[:layouts]
    video = Video(path, fps=CONTROL_HZ)
    try:
        for seed in seeds:
            panels = [_panel(run, of[seed].behaviors[:1], layout_of(of[seed]), path_of(of[seed])) for run, of in zip(runs, episodes, strict=True)]
            for frame in _together(panels, columns):
                video.show(frame)
    finally:
        video.close()
    return Path(path)


def _panel(run: RecordedRun, touched: Sequence[str], layout: Layout, path: NDArray[np.float64]) -> list[Frame]:
    """One episode under its caption; the caption says at the end what was touched."""
    pictures = _trailed(Picture(layout, RENDER_SIZE, samples=4).frames(path), path)
    under_way, at_the_end = _caption(run, ""), _caption(run, touched[0] if touched else "nothing")
    return [*(np.concatenate([under_way, picture]) for picture in pictures[:-1]), np.concatenate([at_the_end, pictures[-1]])]


def _trailed(pictures: NDArray[np.uint8], path: NDArray[np.float64]) -> list[Frame]:
    """The pictures with a line where the agent came from."""
    places = [tuple(place) for place in path * RENDER_SIZE / SIZE]
    made = []
    for time, picture in enumerate(pictures):
        image = Image.fromarray(picture)
        ImageDraw.Draw(image).line(places[: time + 1], fill=_TRAIL, width=2)
        made.append(np.asarray(image))
    return made


def _caption(run: RecordedRun, outcome: str) -> Frame:
    """The arm's name, a swatch of the colour that it is about, and what was touched."""
    image = Image.new("RGB", (RENDER_SIZE, CAPTION), _GROUND)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    named = run.target or run.avoided
    if named and run.arm != "base":
        pen.rectangle((7, 7, 23, 23), fill=COLORS[named], outline=_INK)
        if run.avoided:
            pen.line((5, 25, 25, 5), fill=_INK, width=2)
    pen.text((32, 6), run.name, fill=_INK, font=font)
    if outcome:
        pen.text((RENDER_SIZE - 6, 6), outcome, fill=_INK, font=font, anchor="ra")
    return np.asarray(image)


def _together(panels: Sequence[list[Frame]], columns: int) -> Iterator[Frame]:
    """The panels in rows of `columns`, frame by frame, with a still second at either end."""
    longest = max(len(panel) for panel in panels)
    for time in [*[0] * STILL_FRAMES, *range(longest), *[longest - 1] * STILL_FRAMES]:
        shown = [np.pad(panel[min(time, len(panel) - 1)], ((0, GAP), (0, GAP), (0, 0)), constant_values=GRAY) for panel in panels]
        shown += [np.full_like(shown[0], GRAY)] * (-len(shown) % columns)
        rows = [np.concatenate(shown[start : start + columns], axis=1) for start in range(0, len(shown), columns)]
        yield np.concatenate(rows)
