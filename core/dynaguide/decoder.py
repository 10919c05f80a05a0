"""The picture of a predicted outcome, for people to look at. Nothing is steered by it and no gradient goes through it."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from dynaguide.errors import UserError

GROWTH = 4  # every stage makes the picture so many times as large


@dataclass(frozen=True)
class DecoderConfig:
    """side: tokens a side; stages: each makes the picture four times as large; blocks: residual ones in a stage"""

    features: int
    side: int
    width: int = 128
    stages: int = 2
    blocks: int = 4

    def __post_init__(self) -> None:
        if min(self.features, self.side, self.width, self.stages) < 1 or self.blocks < 0:
            raise UserError(f"a picture decoder needs positive sizes, not {self}")

    @property
    def picture_size(self) -> int:
        return self.side * GROWTH**self.stages


class PictureDecoder(nn.Module):
    """The published architecture: (batch, side x side, features) -> (batch, 3, picture_size, picture_size), about [0, 1]. Tokens of the whole image,
    which some encoders put behind the patches, are left out."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        inputs = [config.features] + [config.width] * (config.stages - 1)
        outputs = [config.width] * (config.stages - 1) + [3]
        self.stages = nn.ModuleList(_Stage(i, config.width, o, config.blocks) for i, o in zip(inputs, outputs, strict=True))

    def forward(self, tokens: Float[Tensor, "batch token features"]) -> Float[Tensor, "batch 3 height width"]:
        side = self.config.side
        x = tokens[:, : side**2].transpose(1, 2).unflatten(2, (side, side))
        for stage in self.stages:
            x = stage(x)
        return x


class _Stage(nn.Module):
    def __init__(self, inputs: int, width: int, outputs: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            nn.Conv2d(inputs, width, 3, padding=1),
            *[_Residual(width) for _ in range(blocks)],
            nn.ReLU(),
            nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width // 2, outputs, 4, stride=2, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)
