"""Tiny data and tiny configurations."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np

from dynaguide.episodes import EpisodeWriter, split

ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = {
    "algo_name": "diffusion_policy",
    "experiment": {"name": "tiny", "validate": True, "epoch_every_n_steps": 5, "validation_epoch_every_n_steps": 1},
    "train": {
        "hdf5_filter_key": "train",
        "hdf5_validation_filter_key": "valid",
        "hdf5_normalize_obs": True,
        "seq_length": 15,
        "frame_stack": 2,
        "batch_size": 4,
        "num_epochs": 2,
        "seed": 1,
    },
    "algo": {
        "horizon": {"observation_horizon": 2, "action_horizon": 8, "prediction_horizon": 16},
        "unet": {"diffusion_step_embed_dim": 8, "down_dims": [8, 16], "kernel_size": 3, "n_groups": 4},
        "ddim": {"enabled": True},
    },
    "observation": {
        "modalities": {"obs": {"low_dim": ["agent_pos"], "rgb": ["image"]}},
        "encoder": {
            "rgb": {
                "core_kwargs": {
                    "feature_dimension": 8,
                    "backbone_class": "PixelConv",
                    "backbone_kwargs": {"channels": 8},
                    "pool_kwargs": {"num_kp": 4},
                }
            }
        },
    },
}


def tiny(**changes: Any) -> dict[str, Any]:
    """TINY with some values changed: tiny(**{"train.batch_size": 2})."""
    config = copy.deepcopy(TINY)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = config
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return config


GOAL_CONDITIONED = {"observation.modalities.goal": {"rgb": ["image"]}, "train.goal_mode": "last"}


def write_config(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(json.dumps(config))
    return path


def write_episodes(path: Path, episodes: int = 6, size: int = 16, actions: int = 2) -> Path:
    """Random episodes with the observations of TwoWays."""
    rng = np.random.default_rng(0)
    meta = {"env_name": "dynaguide/TwoWays-v0", "type": 2, "env_kwargs": {"image_size": size}}
    with EpisodeWriter(path, meta) as writer:
        for _ in range(episodes):
            length = int(rng.integers(8, 20))
            obs = {
                "agent_pos": rng.uniform(-1, 1, (length, 2)).astype(np.float32),
                "image": rng.integers(0, 256, (length, size, size, 3), np.uint8),
            }
            writer.add(rng.uniform(-1, 1, (length, actions)).astype(np.float32), obs, behavior="left")
    split(path, ratio=0.3)
    return path
