"""A small patch encoder that a user trains on their own pictures in minutes, for machines without DINOv2's weights.

An autoencoder with as many tokens as the picture has patches. Its reconstruction counts pixels by how much they change over the data, so that a
small thing that moves is worth as much as the wall behind it. Tokens are standardised: each patch's mean is removed and each number has variance 1,
so that distances between pictures are about what changes.

With labels there is one more token, of the whole picture: what a classifier of the episodes' ends looks at. Two ends of the same behaviour are near
each other in it wherever on the table it was done, which patches cannot see.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from dynaguide.chunks import Batch
from dynaguide.encoders.base import OutcomeEncoder, resized
from dynaguide.errors import UserError
from dynaguide.types import to_float_image

KIND = "patch encoder"
HIDDEN = 128  # numbers between the patches and the token of the whole picture
LABELS_WEIGH = 0.02  # of the classifier's loss beside the reconstruction's, whose numbers are that much smaller


@dataclass(frozen=True)
class PatchEncoderConfig:
    """channels      of the convolutions, each of which halves the picture; the last one's are the numbers a token
    merge         patches a side in one token
    labels        behaviours that the token of the whole picture tells apart; none: there is no such token. Not in the repr, which fingerprints hold:
                  the weights already say whether there are labels
    """

    image_size: int = 64
    channels: tuple[int, ...] = (16, 32, 64)
    merge: int = 1
    labels: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.channels or self.merge < 1 or self.image_size % (2 ** len(self.channels) * self.merge):
            raise UserError(f"a patch encoder's images must be a multiple of {2 ** len(self.channels) * self.merge} pixels a side: {self}")


class PatchEncoder(OutcomeEncoder):
    """(batch, 3, size, size) -> (batch, tokens, width)"""

    kind = KIND
    mean: Tensor
    scale: Tensor
    whole_mean: Tensor
    whole_scale: Tensor  # how much the token of the whole picture counts in distances

    def __init__(self, config: PatchEncoderConfig) -> None:
        super().__init__()
        self.config, self.image_size = config, config.image_size
        side = config.image_size // 2 ** len(config.channels)
        self.count, self.width = (side // config.merge) ** 2 + bool(config.labels), config.channels[-1] * config.merge**2
        self.trunk = _convolutions((3, *config.channels))
        if config.labels:
            self.whole: nn.Module = _whole_picture(config.channels[-1], side, self.width)
            self.register_buffer("whole_mean", torch.zeros(self.width))
            self.register_buffer("whole_scale", torch.ones(()))
        self.register_buffer("mean", torch.zeros(config.channels[-1], side, side))
        self.register_buffer("scale", torch.ones(config.channels[-1], 1, 1))

    def features(self, images: Tensor) -> Tensor:
        """Before they are standardised: what the decoder of the training sees. (batch, channel, side, side)"""
        return self.trunk(images)

    def tokens(self, images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch token width"]:
        features = self.features(images)
        standard = (features - self.mean) / self.scale
        patches = functional.pixel_unshuffle(standard, self.config.merge).flatten(2).transpose(1, 2)
        if not self.config.labels:
            return patches
        whole = self.whole_scale * (self.whole(features) - self.whole_mean)
        return torch.cat([patches, whole[:, None]], dim=1)

    def standardise_on(self, images: Tensor) -> None:
        """Take the mean of each patch and the spread of each number from these pictures (floats, at `image_size`)."""
        with torch.no_grad():
            features = torch.cat([self.features(part) for part in images.split(64)])
            self.mean.copy_(features.mean(0))
            self.scale.copy_((features - self.mean).square().mean((0, 2, 3)).sqrt().clamp_min(1e-4)[:, None, None])
            if self.config.labels:
                self.whole_mean.copy_(self.whole(features).mean(0))


class PatchAutoencoder(nn.Module):
    """The encoder with the decoder and, with labels, the classifier that train it, and the training's losses."""

    weights: Tensor

    def __init__(self, encoder: PatchEncoder, weights: Float[Tensor, "camera size size"]) -> None:
        super().__init__()
        self.encoder = encoder
        channels = encoder.config.channels[::-1]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(channels, (*channels[1:], 3), strict=True):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.GELU()]
        self.decoder = nn.Sequential(*layers[:-1])
        labels = encoder.config.labels
        self.classify = nn.Linear(encoder.width, len(labels) + 1) if labels else None  # the last class: nothing has come about yet
        self.register_buffer("weights", weights)

    def forward(self, images: Tensor, camera: int = 0, classes: Int[Tensor, " batch"] | None = None) -> dict[str, Tensor]:
        """`picture`: the weighted squared error of the reconstructions; `label`: with classes, the classifier's cross entropy, -1 counting nothing.

        images: floats at the encoder's size, all of one camera
        """
        features = self.encoder.features(images)
        losses = {"picture": ((self.decoder(features) - images).square().mean(1) * self.weights[camera]).mean()}
        if self.classify is not None and classes is not None:
            known = classes >= 0
            told = self.classify(self.encoder.whole(features[known]))
            losses["label"] = functional.cross_entropy(told, classes[known]) if known.any() else told.sum()
        return losses

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


def _whole_picture(channels: int, side: int, width: int) -> nn.Sequential:
    """Features of all patches -> one vector of length sqrt(width)."""
    return nn.Sequential(
        nn.GELU(),
        nn.Conv2d(channels, channels, 4, stride=2, padding=1),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(channels * (side // 2) ** 2, HIDDEN),
        nn.GELU(),
        nn.Linear(HIDDEN, width),
        nn.LayerNorm(width, elementwise_affine=False),
    )


class PictureObjective(nn.Module):
    """The autoencoder's loss over the pictures of a training batch.

    classes   of every frame of the data, -1 where it has none; for an encoder with labels
    """

    def __init__(self, autoencoder: PatchAutoencoder, cameras: tuple[str, ...], classes: Int[Tensor, " frame"] | None = None) -> None:
        super().__init__()
        self.autoencoder, self.cameras, self._classes = autoencoder, cameras, classes

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        size = self.autoencoder.encoder.image_size
        classes = None if self._classes is None else self._classes[batch.windows.cpu()].to(batch.windows.device)
        seen = [resized(to_float_image(batch.obs[camera][:, -1]), size) for camera in self.cameras]
        parts = [self.autoencoder(pictures, index, classes) for index, pictures in enumerate(seen)]
        losses = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        if classes is None:
            return {"loss": losses["picture"]}
        shown = {f"{name}_loss": value.detach() for name, value in losses.items()}
        return {"loss": losses["picture"] + LABELS_WEIGH * losses["label"], **shown}
