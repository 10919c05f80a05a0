"""Steer a frozen diffusion policy at inference time. Knows no simulator and no policy; see docs/architecture.md.

The names below are imported when they are first used: a script that only reads and writes data does not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynaguide.errors import UserError
    from dynaguide.guidance import Guidance, ascend, no_guidance
    from dynaguide.selectors import best_of
    from dynaguide.steering import Steering, denoise, gaussian, moment, sample_actions
    from dynaguide.types import ActionChunk, BoundPolicy, Denoising, GuidedStep, Observation, Score, Selector

_NAMES = {
    "errors": ("UserError",),
    "guidance": ("Guidance", "ascend", "no_guidance"),
    "selectors": ("best_of",),
    "steering": ("Steering", "denoise", "gaussian", "moment", "sample_actions"),
    "types": ("ActionChunk", "BoundPolicy", "Denoising", "GuidedStep", "Observation", "Score", "Selector"),
}
_MODULE = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "ActionChunk",
    "BoundPolicy",
    "Denoising",
    "Guidance",
    "GuidedStep",
    "Observation",
    "Score",
    "Selector",
    "Steering",
    "UserError",
    "ascend",
    "best_of",
    "denoise",
    "gaussian",
    "moment",
    "no_guidance",
    "sample_actions",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'dynaguide' has no attribute {name!r}")
    return getattr(import_module(f"dynaguide.{_MODULE[name]}"), name)
