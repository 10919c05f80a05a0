"""Steer a frozen diffusion policy at inference time. Knows no simulator and no policy; see docs/architecture.md."""

from dynaguide.errors import UserError
from dynaguide.guidance import Guidance, ascend, no_guidance
from dynaguide.selectors import best_of
from dynaguide.steering import Steering, denoise, gaussian, moment, sample_actions
from dynaguide.types import ActionChunk, BoundPolicy, Denoising, GuidedStep, Observation, Score, Selector

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
