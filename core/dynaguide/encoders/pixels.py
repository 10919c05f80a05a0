"""A small trainable encoder of pixels."""

from torch import nn

CELL = 4  # pixels a side of one cell of `pixel_trunk`


def pixel_trunk(channels: int) -> nn.Sequential:
    """A small encoder that learns fast, one cell for 4 x 4 pixels: (batch, 3, height, width) -> (batch, channels, height / 4, width / 4).

    There is a non-linearity for each pixel before any of them are mixed: strided convolutions of raw pixels confuse colours.
    """
    return nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.ReLU(),
        nn.Conv2d(8, channels, CELL, stride=CELL),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
    )
