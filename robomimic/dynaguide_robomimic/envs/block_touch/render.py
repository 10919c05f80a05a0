"""The picture of BlockTouch: four squares that never move, drawn once an episode, and a disc that is drawn into a copy of them."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from dynaguide_robomimic.envs.block_touch.world import AGENT_COLOR, AGENT_RADIUS, COLORS, GROUND_COLOR, SIZE, SQUARE_SIDE, Layout


class _Patches(NamedTuple):
    """Equally large parts of the picture, one around each centre, and their samples' offsets from it in world units."""

    rows: NDArray[np.int64]  # (n, side, 1)
    columns: NDArray[np.int64]  # (n, 1, side)
    dx: NDArray[np.float64]  # (n, 1, side * samples)
    dy: NDArray[np.float64]  # (n, side * samples, 1)

    def only(self, index: int) -> "_Patches":
        one = slice(index, index + 1)
        return _Patches(self.rows[one], self.columns[one], self.dx[one], self.dy[one])


class Picture:
    """Pictures of one layout, `size` pixels a side.

    A pixel shows what is at its centre; with `samples` > 1 it is the mean over samples x samples points, which smooths the edges.
    """

    def __init__(self, layout: Layout, size: int, *, samples: int = 1) -> None:
        self._layout, self._size, self._samples = layout, size, samples

    def frames(self, agents: Float[np.ndarray, "frame 2"]) -> UInt8[np.ndarray, "frame {self._size} {self._size} 3"]:
        """One picture for each place of the agent, (frame, height, width, channel)."""
        pictures = np.repeat(self.background[None], len(agents), axis=0)
        patches = self._patches(agents, AGENT_RADIUS)
        disc = patches.dx**2 + patches.dy**2 < AGENT_RADIUS**2
        self._paint(pictures, np.arange(len(agents)), patches, disc, AGENT_COLOR)
        return pictures

    @cached_property
    def background(self) -> UInt8[np.ndarray, "{self._size} {self._size} 3"]:
        """The squares without the agent."""
        picture = np.empty((1, self._size, self._size, 3), np.uint8)
        picture[:] = GROUND_COLOR
        half = SQUARE_SIDE / 2
        patches = self._patches(self._layout.squares, half * np.sqrt(2))
        cos, sin = np.cos(self._layout.rotations)[:, None, None], np.sin(self._layout.rotations)[:, None, None]
        along, across = cos * patches.dx + sin * patches.dy, cos * patches.dy - sin * patches.dx
        inside = (np.abs(along) < half) & (np.abs(across) < half)
        for index, color in enumerate(COLORS.values()):
            self._paint(picture, np.zeros(1, np.int64), patches.only(index), inside[index : index + 1], color)
        return picture[0]

    def _patches(self, centres: NDArray[np.float64], reach: float) -> _Patches:
        """Patches that hold everything within `reach` of the centres, as far as the picture shows it."""
        pixel = SIZE / self._size
        side = min(self._size, int(np.ceil(2 * reach / pixel)) + 1)
        corner = np.clip(np.floor((centres - reach) / pixel), 0, self._size - side).astype(np.int64)  # (n, 2): column, row
        points = (np.arange(side * self._samples) + 0.5) / self._samples
        dx, dy = ((corner[:, axis, None] + points) * pixel - centres[:, axis, None] for axis in (0, 1))
        columns, rows = (corner[:, axis, None] + np.arange(side) for axis in (0, 1))
        return _Patches(rows[:, :, None], columns[:, None, :], dx[:, None, :], dy[:, :, None])

    def _paint(self, pictures: NDArray[np.uint8], which: NDArray[np.int64], at: _Patches, mask: NDArray[np.bool_], color: tuple[int, ...]) -> None:
        """Lay a colour over the pictures `which` where the mask of samples says so."""
        place = (which[:, None, None], at.rows, at.columns)
        if self._samples == 1:
            pictures[place] = np.where(mask[..., None], np.array(color, np.uint8), pictures[place])
            return
        n, side = len(mask), at.rows.shape[1]
        cover = mask.reshape(n, side, self._samples, side, self._samples).mean((2, 4))[..., None]
        pictures[place] = np.rint(pictures[place] * (1 - cover) + np.array(color) * cover).astype(np.uint8)
