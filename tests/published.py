"""The published implementation's weights, made by the formula that its golden values were computed with."""

import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

SHARED = Path(os.environ.get("DYNAGUIDE_SHARED", Path(__file__).parents[2] / "shared"))
needs_golden = pytest.mark.skipif(not (SHARED / "golden" / "golden.npz").exists(), reason="the golden values are not on this machine")
_GRIDS = {"eye_in_hand": 3, "third_person": 7}  # side of the feature map, 84 and 200 pixels over 32


def golden() -> dict[str, Tensor]:
    with np.load(SHARED / "golden" / "golden.npz") as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored}


def golden_tensor(key: str, shape: list[int]) -> Tensor:
    last = key.split(".")[-1]
    x = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        return torch.from_numpy(x / np.sqrt(np.prod(shape[1:])).astype(np.float32))
    return torch.from_numpy(1 + 0.1 * x if last in ("weight", "gamma") else 0.05 * x)


def policy_checkpoint(path: Path, *, averaged: bool = True) -> Path:
    """A file in the published format with the golden weights; with `averaged` they are in its EMA and the plain weights are zeros."""
    shapes = json.loads((SHARED / "golden" / "policy_state_dict_shapes.json").read_text())
    weights = {key: _policy_tensor(key, shape) for key, shape in shapes.items()}
    in_force = {key: value for key, value in weights.items() if ".backbone.nets." not in key and ".pool." not in key}
    order = _parameter_order(list(weights))
    content = {
        "model": {
            "nets": {key: torch.zeros_like(value) if averaged and key in order else value for key, value in weights.items()},
            "ema": {"decay": 0.99, "optimization_step": 7, "shadow_params": [in_force[key] for key in order]} if averaged else None,
        },
        "config": (SHARED / "formats" / "diffusion_policy_image_calvin_ddim.json").read_text(),
        "algo_name": "diffusion_policy",
        "env_metadata": {"env_name": "PlayTable", "type": 1, "env_kwargs": {}},
        "shape_metadata": {
            "ac_dim": 7,
            "all_shapes": {"eye_in_hand": [3, 84, 84], "third_person": [3, 200, 200], "proprio": [15]},
            "all_obs_keys": ["eye_in_hand", "third_person", "proprio"],
            "use_images": True,
            "use_depths": False,
        },
    }
    torch.save(content, path)
    return path


def dynamics_checkpoint(path: Path) -> Path:
    """A dynamics model's state dict in the published format, with the golden weights."""
    shapes = json.loads((SHARED / "golden" / "dynamics_state_dict_shapes.json").read_text())
    floats = {key: golden_tensor(key, shape) for key, (shape, dtype) in shapes.items() if dtype == "torch.float32"}
    torch.save(floats | {key: torch.zeros(shape, dtype=torch.long) for key, (shape, dtype) in shapes.items() if dtype != "torch.float32"}, path)
    return path


def _policy_tensor(key: str, shape: list[int]) -> Tensor:
    last = key.split(".")[-1]
    if last == "temperature":
        return torch.ones(1)
    if last in ("pos_x", "pos_y"):
        side = next(size for camera, size in _GRIDS.items() if camera in key)
        x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
        return torch.from_numpy((x if last == "pos_x" else y).reshape(1, -1).astype(np.float32))
    return golden_tensor(key, shape)


def _parameter_order(keys: list[str]) -> list[str]:
    """robomimic's parameter order, each tensor once, under the name whose value is in force."""
    final = {"backbone.": "nets.0.", "pool.": "nets.1."}
    order = []
    for key in keys:
        if key.split(".")[-1] in ("temperature", "pos_x", "pos_y"):
            continue
        for first, later in final.items():
            for camera in _GRIDS:
                key = key.replace(f"obs_nets.{camera}.{first}", f"obs_nets.{camera}.{later}")
        order.append(key)
    return list(dict.fromkeys(order))
