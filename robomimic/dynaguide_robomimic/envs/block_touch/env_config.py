"""The published way to name the environment and its observations: a JSON file with `env_meta`, `shape_meta` and `obs_specs` (touchcubes.json)."""

from pathlib import Path
from typing import Any

from dynaguide.environments import names_of
from dynaguide.errors import UserError, unknown_name
from dynaguide.files import read_json
from dynaguide_robomimic.envs import BLOCK_TOUCH

NAMES = names_of(BLOCK_TOUCH)
ENV_KWARGS = ("image_size", "layout", "target")
_SIZES = {"agent_pos": [2], "states": [8], "label": [1]}  # the image's size is free


def read_env_config(path: Path | str) -> dict[str, Any]:
    """The keyword arguments for `BlockTouch` that the file asks for; whatever contradicts the environment is refused."""
    config = read_json(path, "--env_config")
    meta = _group(config, "env_meta", path)
    if meta.get("env_name") not in NAMES:
        raise UserError(f"{path}: {unknown_name('environment', str(meta.get('env_name')), NAMES)}")
    if "shape_meta" in config:
        _check_shapes(_group(config, "shape_meta", path), path)
    kwargs = _group(meta, "env_kwargs", path) if "env_kwargs" in meta else {}
    for key, value in kwargs.items():
        if key not in ENV_KWARGS:
            raise UserError(f"{path}, env_kwargs: {unknown_name('setting', key, list(ENV_KWARGS))}")
        if type(value) is not (str if key == "layout" else int):
            raise UserError(f"{path}, env_kwargs: {key} must be {'a name' if key == 'layout' else 'a whole number'}, not {value!r}")
    return dict(kwargs)


def env_meta(**kwargs: Any) -> dict[str, Any]:
    """What a data file says about the environment that made it."""
    return {"env_name": BLOCK_TOUCH, "type": 2, "env_kwargs": kwargs}


def _check_shapes(shapes: dict[str, Any], path: Path | str) -> None:
    if shapes.get("ac_dim", 2) != 2:
        raise UserError(f"{path}, shape_meta: ac_dim is {shapes['ac_dim']}, but an action of BlockTouch has 2 numbers")
    if shapes.get("use_depths", False):
        raise UserError(f"{path}, shape_meta: use_depths is set, but BlockTouch has no depth camera")
    for key, shape in _group(shapes, "all_shapes", path).items():
        if key not in (*_SIZES, "image"):
            raise UserError(f"{path}, shape_meta: {unknown_name('observation', key, [*_SIZES, 'image'])}")
        square = isinstance(shape, list) and len(shape) == 3 and shape[0] == 3 and shape[1] == shape[2]
        if not (square if key == "image" else shape == _SIZES[key]):
            raise UserError(f"{path}, shape_meta: {key} has the shape {shape}, expected {_SIZES.get(key, '[3, side, side]')}")


def _group(config: Any, key: str, path: Path | str) -> dict[str, Any]:
    if not isinstance(config, dict) or not isinstance(config.get(key), dict):
        raise UserError(f"{path} is not an environment's configuration: expected an object {key!r} (see toy_squares_experiment/touchcubes.json)")
    return dict(config[key])
