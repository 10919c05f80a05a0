"""Untrained BlockTouch models, small enough for tests."""

from pathlib import Path
from typing import Any

import torch
from worlds import tiny

from dynaguide.chunks import Windows
from dynaguide.classifier import ClassifierConfig, EndStateClassifier, save_classifier
from dynaguide_robomimic.checkpoints import save_policy
from dynaguide_robomimic.config import config_from
from dynaguide_robomimic.envs.block_touch.env_config import env_meta
from dynaguide_robomimic.envs.block_touch.world import COLOR_NAMES
from dynaguide_robomimic.policy import DiffusionPolicy, Shapes

SIZE = 16


def write_policy(path: Path, meta: dict[str, Any] | None = None, size: int = SIZE) -> Path:
    torch.manual_seed(0)
    policy = DiffusionPolicy(config_from(tiny(), "test"), Shapes(2, {"agent_pos": (2,), "image": (3, size, size)}, {}))
    save_policy(path, policy, env_meta(image_size=size) if meta is None else meta)
    return path


def write_classifier(
    path: Path, meta: dict[str, Any] | None = None, size: int = SIZE, classes: tuple[str, ...] = COLOR_NAMES, horizon: int = 16
) -> Path:
    torch.manual_seed(0)
    config = ClassifierConfig(classes, image_size=size, windows=Windows(2, horizon, -1, "repeat", None), channels=4, width=8)
    save_classifier(path, EndStateClassifier(config), env_meta(image_size=size) if meta is None else meta)
    return path
