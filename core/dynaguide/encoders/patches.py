"""A small patch encoder that a user trains on their own pictures in minutes, for machines without DINOv2's weights.

An autoencoder with as many tokens as the picture has patches. Its reconstruction counts pixels by how much they change over the data, so that a
small thing that moves is worth as much as the wall behind it. Tokens are standardised: each patch's mean is removed and each number has variance 1,
so that distances between pictures are about what changes.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dynaguide.chunks import Batch
from dynaguide.encoders.base import OutcomeEncoder, resized
from dynaguide.errors import UserError
from dynaguide.types import to_float_image

KIND = "patch encoder"


@dataclass(frozen=True)
class PatchEncoderConfig:
    """channels: of the convolutions, each of which halves the picture; the last one's are the numbers a token. merge: patches a side in one token"""

    image_size: int = 64
    channels: tuple[int, ...] = (16, 32, 64)
    merge: int = 1

    def __post_init__(self) -> None:
        if not self.channels or self.merge < 1 or self.image_size % (2 ** len(self.channels) * self.merge):
            raise UserError(f"a patch encoder's images must be a multiple of {2 ** len(self.channels) * self.merge} pixels a side: {self}")


class PatchEncoder(OutcomeEncoder):
    """(batch, 3, size, size) -> (batch, tokens, width)"""

    kind = KIND
    mean: Tensor
    scale: Tensor

    def __init__(self, config: PatchEncoderConfig) -> None:
        super().__init__()
        self.config, self.image_size = config, config.image_size
        side = config.image_size // 2 ** len(config.channels)
        self.count, self.width = (side // config.merge) ** 2, config.channels[-1] * config.merge**2
        self.trunk = _convolutions((3, *config.channels))
        self.register_buffer("mean", torch.zeros(config.channels[-1], side, side))
        self.register_buffer("scale", torch.ones(config.channels[-1], 1, 1))

    def features(self, images: Tensor) -> Tensor:
        """Before they are standardised: what the decoder of the training sees. (batch, channel, side, side)"""
        return self.trunk(images)

    def tokens(self, images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch token width"]:
        standard = (self.features(images) - self.mean) / self.scale
        return functional.pixel_unshuffle(standard, self.config.merge).flatten(2).transpose(1, 2)

    def standardise_on(self, images: Tensor) -> None:
        """Take the mean of each patch and the spread of each number from these pictures (floats, at `image_size`)."""
        with torch.no_grad():
            features = torch.cat([self.features(part) for part in images.split(64)])
            self.mean.copy_(features.mean(0))
            self.scale.copy_((features - self.mean).square().mean((0, 2, 3)).sqrt().clamp_min(1e-4)[:, None, None])


class PatchAutoencoder(nn.Module):
    """The encoder with the decoder that trains it, and the training's loss."""

    weights: Tensor

    def __init__(self, encoder: PatchEncoder, weights: Float[Tensor, "camera size size"]) -> None:
        super().__init__()
        self.encoder = encoder
        channels = encoder.config.channels[::-1]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(channels, (*channels[1:], 3), strict=True):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.GELU()]
        self.decoder = nn.Sequential(*layers[:-1])
        self.register_buffer("weights", weights)

    def forward(self, images: Tensor, camera: int = 0) -> Tensor:
        """The weighted squared error of each picture's reconstruction, averaged. images: floats at the encoder's size, all of one camera"""
        return ((self.reconstruct(images) - images).square().mean(1) * self.weights[camera]).mean()

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder.features(images))


def change_weights(images: Float[Tensor, "batch 3 size size"], *, floor: float = 0.1) -> Float[Tensor, "size size"]:
    """How much each pixel counts: its spread over the pictures, never under `floor` of the mean spread; 1 on average."""
    spread = images.std(0).mean(0)
    weights = spread.clamp_min(floor * spread.mean().clamp_min(1e-6))
    return weights / weights.mean()


def _convolutions(channels: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class PictureObjective(nn.Module):
    """The autoencoder's loss over the pictures of a training batch."""

    def __init__(self, autoencoder: PatchAutoencoder, cameras: tuple[str, ...]) -> None:
        super().__init__()
        self.autoencoder, self.cameras = autoencoder, cameras

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        size = self.autoencoder.encoder.image_size
        seen = [resized(to_float_image(batch.obs[camera][:, -1]), size) for camera in self.cameras]
        return {"loss": torch.stack([self.autoencoder(pictures, index) for index, pictures in enumerate(seen)]).mean()}
