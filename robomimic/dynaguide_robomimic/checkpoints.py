"""Policies on disk: our own format, and robomimic's, which the published code reads and writes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynaguide import checkpoint
from dynaguide.encoders import blank
from dynaguide.errors import UserError
from dynaguide.files import existing_file, written_whole
from dynaguide_robomimic.config import ActionFrame, config_from
from dynaguide_robomimic.policy import DiffusionPolicy, Shapes

KIND = "diffusion policy"


class LoadedPolicy(NamedTuple):
    """A frozen policy, and the environment that its data came from (env_name, type, env_kwargs)."""

    policy: DiffusionPolicy
    env_meta: dict[str, Any]


def save_policy(path: Path, policy: DiffusionPolicy, env_meta: dict[str, Any]) -> None:
    """Our own format: safetensors, with configuration, shapes and environment in the header."""
    config = {
        "policy": policy.config.to_dict(),
        "action": policy.shapes.action,
        "obs": [[key, list(shape)] for key, shape in policy.shapes.obs.items()],
        "goal": [[key, list(shape)] for key, shape in policy.shapes.goal.items()],
        "places": policy.shapes.places,
        "frozen": {camera: encoder.describe() for camera, encoder in policy.frozen.items()},
        "env_meta": env_meta,
    }
    checkpoint.save(path, KIND, config, policy.state_dict())


def load_policy(path: Path | str, device: torch.device | str = "cpu") -> LoadedPolicy:
    """Ours (.safetensors) or robomimic's (.pth, with its averaged weights), frozen and in evaluation mode."""
    existing_file(path, "policy checkpoint")
    loaded = _load_ours(path) if checkpoint.is_ours(path) else _load_robomimic(path)
    loaded.policy.requires_grad_(False).eval().to(device)
    return loaded


def _load_ours(path: Path | str) -> LoadedPolicy:
    stored = checkpoint.load(path, KIND)
    config = config_from(stored.config["policy"], str(path))
    shapes = Shapes(stored.config["action"], _shapes(stored.config["obs"]), _shapes(stored.config["goal"]), stored.config.get("places", 0))
    frozen = {camera: blank(description, f"checkpoint {path}") for camera, description in stored.config.get("frozen", {}).items()}
    policy = DiffusionPolicy(_without_pretraining(config), shapes, frozen)
    checkpoint.fit_weights(policy, stored.weights, f"checkpoint {path}")
    return LoadedPolicy(policy, stored.config["env_meta"])


def _shapes(pairs: list[Any]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in pairs}


def _without_pretraining(config: Any) -> Any:
    """A checkpoint's weights replace the pretrained ones: nothing is downloaded to load it."""
    text = json.loads(json.dumps(config.to_dict()))
    text["observation"]["encoder"]["rgb"]["core_kwargs"]["backbone_kwargs"]["pretrained"] = False
    return config_from(text, "checkpoint")


# robomimic's format


def export_robomimic(path: Path, policy: DiffusionPolicy, env_meta: dict[str, Any]) -> None:
    """robomimic's .pth, which the published code loads: our averaged weights as both its weights and its average."""
    _exportable(policy)
    nets = dict(_robomimic_state(policy))
    parameters = [parameter.detach().cpu() for _, parameter in _robomimic_parameters(policy)]
    ema = {"decay": 0.9999, "min_decay": 0.0, "optimization_step": 0, "update_after_step": 0, "use_ema_warmup": True, "inv_gamma": 1.0, "power": 0.75}
    content = {
        "model": {"nets": nets, "ema": {**ema, "shadow_params": parameters}},
        "config": json.dumps(policy.config.to_dict()),
        "algo_name": "diffusion_policy",
        "env_metadata": env_meta,
        "shape_metadata": {
            "ac_dim": policy.shapes.action,
            "all_shapes": {key: list(shape) for key, shape in policy.shapes.obs.items()},
            "all_obs_keys": list(policy.shapes.obs),
            "goal_shapes": {key: list(shape) for key, shape in policy.shapes.goal.items()},
            "use_images": any(len(shape) == 3 for shape in policy.shapes.obs.values()),
            "use_depths": False,
        },
    }
    with written_whole(path) as temporary:
        torch.save(content, temporary)


def _exportable(policy: DiffusionPolicy) -> None:
    """The published code knows only the U-Net that predicts the noise of the environment's own actions."""
    algo = policy.config.algo
    ours = {
        "algo.mlp": algo.mlp.enabled,
        "algo.scene_mlp": algo.scene_mlp.enabled,
        "algo.action_frame": algo.action_frame != ActionFrame(),
        "algo.predicts": algo.predicts != "noise",
    }
    for name, used in ours.items():
        if used:
            raise UserError(f"a policy with {name} cannot be exported to robomimic's format, which has no place for it")


def _load_robomimic(path: Path | str) -> LoadedPolicy:
    content = checkpoint.load_pytorch(path, "policy checkpoint")
    where = f"policy checkpoint {path}"
    if not isinstance(content, dict) or not {"model", "config", "shape_metadata"} <= content.keys():
        raise UserError(f"{where} is a checkpoint of another kind: robomimic's have 'model', 'config' and 'shape_metadata'")
    if content.get("algo_name", "diffusion_policy") != "diffusion_policy":
        raise UserError(f"{where} holds a {content['algo_name']}, not a diffusion_policy")
    if not isinstance(content["model"], dict) or "nets" not in content["model"]:
        raise UserError(f"{where} has no 'nets' in its model: it is not a diffusion policy")
    config = _without_pretraining(config_from(json.loads(content["config"]), where))
    policy = DiffusionPolicy(config, _published_shapes(content["shape_metadata"], config, where))
    _take_weights(policy, content["model"], where)
    _take_normalisation(policy, content.get("obs_normalization_stats"))
    return LoadedPolicy(policy, dict(content.get("env_metadata") or {}))


def _published_shapes(metadata: dict[str, Any], config: Any, where: str) -> Shapes:
    """Features are ordered as the checkpoint's `all_shapes`; goals have the shape of the observation of the same name."""
    modalities = config.observation.modalities
    wanted = {*modalities.obs.low_dim, *modalities.obs.rgb}
    stored = {key: tuple(shape) for key, shape in metadata["all_shapes"].items()}
    missing = wanted - stored.keys()
    if missing:
        raise UserError(f"{where} gives no shape for the observation {min(missing)!r}")
    goals = (*modalities.goal.low_dim, *modalities.goal.rgb)
    return Shapes(int(metadata["ac_dim"]), {key: shape for key, shape in stored.items() if key in wanted}, {key: stored[key] for key in goals})


def _take_weights(policy: DiffusionPolicy, model: dict[str, Any], where: str) -> None:
    """The averaged weights where there are any. A tensor listed under two names has the value of the later one."""
    state = model["nets"]
    renamed = [(name, ours) for name in state if (ours := _our_name(name)) is not None]
    weights = {ours: state[name] for name, ours in renamed}
    buffers = {name: value for name, value in policy.state_dict().items() if name.rpartition(".")[2].startswith(("mean_", "std_"))}
    checkpoint.fit_weights(policy, {**buffers, **weights}, where)
    if model.get("ema"):
        averaged = model["ema"]["shadow_params"]
        parameters = _parameters_in_order(policy, [ours for _, ours in renamed])
        if len(averaged) != len(parameters) or any(a.shape != b.shape for a, b in zip(averaged, parameters, strict=True)):
            raise UserError(f"{where}: its averaged weights do not fit its model ({len(averaged)} tensors for {len(parameters)} parameters)")
        with torch.no_grad():
            for parameter, value in zip(parameters, averaged, strict=True):
                parameter.copy_(value)


def _parameters_in_order(policy: DiffusionPolicy, names: list[str]) -> list[Tensor]:
    """The parameters as the file lists them, each once: the order of its averaged weights."""
    parameters = dict(policy.named_parameters())
    return [parameters[name] for name in dict.fromkeys(names) if name in parameters]


def _take_normalisation(policy: DiffusionPolicy, stats: Any) -> None:
    for key, entry in (stats or {}).items():
        if key in policy.shapes.obs and len(policy.shapes.obs[key]) == 1:
            mean, std = (torch.as_tensor(entry[name]).float().reshape(-1) for name in ("mean", "std"))
            policy.encoders["obs"].normalise(key, mean, std)  # type: ignore[operator]


_CAMERA = re.compile(r"policy\.obs_encoder\.nets\.(?P<group>obs|goal)\.obs_nets\.(?P<key>\w+)\.(?P<rest>.+)")
_PARTS = (("nets.0.", "backbone."), ("nets.1.", "pool."), ("nets.3.", "project."), ("backbone.", "backbone."), ("pool.", "pool."))


def _our_name(name: str) -> str | None:
    """robomimic's name of a tensor -> ours; None for what is recomputed."""
    if name.startswith("policy.noise_pred_net."):
        return name.removeprefix("policy.")
    match = _CAMERA.fullmatch(name)
    if match is None:
        return name
    for theirs, ours in _PARTS:
        if match["rest"].startswith(theirs):
            return f"encoders.{match['group']}.obs_nets.{match['key']}.{ours}{match['rest'].removeprefix(theirs)}"
    return name


def _robomimic_state(policy: DiffusionPolicy) -> Iterator[tuple[str, Tensor]]:
    """Our tensors under robomimic's names, in its order, those of a camera twice as it lists them."""
    state = {name: value.detach().cpu() for name, value in policy.state_dict().items()}
    for group, encoder in policy.encoders.items():
        for key in encoder.obs_nets:  # type: ignore[union-attr]
            ours = f"encoders.{group}.obs_nets.{key}."
            theirs = f"policy.obs_encoder.nets.{group}.obs_nets.{key}."
            for target, source in (
                ("backbone.", "backbone."),
                ("pool.", "pool."),
                ("nets.0.", "backbone."),
                ("nets.1.", "pool."),
                ("nets.3.", "project."),
            ):
                for name in state:
                    if name.startswith(ours + source):
                        yield theirs + target + name.removeprefix(ours + source), state[name]
    for name, value in state.items():
        if name.startswith("noise_pred_net."):
            yield f"policy.{name}", value


def _robomimic_parameters(policy: DiffusionPolicy) -> Iterator[tuple[str, Tensor]]:
    """The parameters in the order of the exported state, each once."""
    parameters = dict(policy.named_parameters())
    names = [_our_name(name) for name, _ in _robomimic_state(policy)]
    return ((name, parameters[name]) for name in dict.fromkeys(names) if name is not None and name in parameters)
