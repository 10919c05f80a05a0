"""What every frozen outcome encoder offers: images in, tokens out, and a fingerprint that says which weights made them."""

import hashlib
import math
from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dynaguide.errors import UserError
from dynaguide.types import to_float_image

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class OutcomeEncoder(nn.Module):
    """A frozen encoder of single images.

    kind         names the architecture, in checkpoints and caches
    image_size   pixels a side that it works at; other sizes are resized (bilinear)
    count        tokens an image, `side` squared where they are patches
    width        numbers a token
    """

    kind: str
    image_size: int
    count: int
    width: int
    config: Any  # a frozen dataclass that rebuilds it

    @property
    def side(self) -> int:
        """Patches a side; 1 where an image is one token. Tokens beyond side x side are of the whole image."""
        return math.isqrt(self.count)

    @property
    def fingerprint(self) -> str:
        """Of the configuration and the weights: equal fingerprints give equal tokens. Computed once where the weights are frozen."""
        frozen = not any(parameter.requires_grad for parameter in self.parameters())
        return self._fingerprint if frozen else self._computed_fingerprint()

    @cached_property
    def _fingerprint(self) -> str:
        return self._computed_fingerprint()

    def _computed_fingerprint(self) -> str:
        digest = hashlib.sha256(repr(self.config).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """What a checkpoint or a cache says about the encoder that it belongs to."""
        return {"kind": self.kind, "config": asdict(self.config), "fingerprint": self.fingerprint}

    def forward(self, images: Tensor) -> Float[Tensor, "batch token width"]:
        """images: (batch, 3, height, width), uint8 or float in [0, 1]"""
        if images.ndim != 4 or images.shape[1] != 3:
            raise UserError(f"the encoder needs images of shape (batch, 3, height, width), not {tuple(images.shape)}")
        return self.tokens(resized(to_float_image(images), self.image_size))

    def tokens(self, images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch token width"]:
        """Images at `image_size`, floats in [0, 1]."""
        raise NotImplementedError


def resized(images: Tensor, size: int) -> Tensor:
    """Bilinear, as the published code does it; larger images are not smoothed first."""
    if tuple(images.shape[-2:]) == (size, size):
        return images
    return functional.interpolate(images, (size, size), mode="bilinear", align_corners=False)


def imagenet_normalised(images: Tensor) -> Tensor:
    """Floats in [0, 1], normalised as ImageNet models expect."""
    mean, std = (torch.tensor(numbers, device=images.device, dtype=images.dtype)[:, None, None] for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std
