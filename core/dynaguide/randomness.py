"""Every random draw follows from one seed and from what it is drawn for, never from what was drawn before it."""

import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def mixed(*numbers: int) -> int:
    """One 63-bit seed out of several numbers; near numbers give unrelated seeds."""
    return int(np.random.SeedSequence([number % 2**63 for number in numbers]).generate_state(1, np.uint64)[0] >> 1)


def seed_everything(*numbers: int) -> None:
    """Python's, numpy's and torch's global generators."""
    import torch

    seed = mixed(*numbers)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (other people's code draws from it)
    torch.manual_seed(seed)


def generator(*numbers: int) -> "torch.Generator":
    """A CPU generator of its own; the draws are the same on every device."""
    import torch

    return torch.Generator().manual_seed(mixed(*numbers))
