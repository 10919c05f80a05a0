"""Crops of image batches: random while training, centred otherwise."""

import torch
from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "batch channel height width"]
Crops = Float[Tensor, "batch channel cropped_height cropped_width"]


def centre_crop(images: Images, size: tuple[int, int]) -> Crops:
    top, left = ((images.shape[-2] - size[0]) // 2, (images.shape[-1] - size[1]) // 2)
    return images[..., top : top + size[0], left : left + size[1]]


def random_crop(images: Images, size: tuple[int, int]) -> Crops:
    """A window of its own for each image."""
    batch, _, height, width = images.shape
    top = torch.randint(0, height - size[0] + 1, (batch, 1), device=images.device)
    left = torch.randint(0, width - size[1] + 1, (batch, 1), device=images.device)
    rows = top + torch.arange(size[0], device=images.device)  # (B, h)
    columns = left + torch.arange(size[1], device=images.device)  # (B, w)
    index = torch.arange(batch, device=images.device)[:, None, None]
    return images.movedim(1, -1)[index, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
