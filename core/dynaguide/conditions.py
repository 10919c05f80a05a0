"""Guidance conditions: the last observations of episodes that ended as wanted, or as unwanted, as tokens of a dynamics model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dynaguide.dynamics import Tokens
from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError, unknown_name
from dynaguide.outcomes import Dynamics
from dynaguide.types import Observation

Embedding = Literal["encoder", "dynamics"]
EMBEDDINGS = ("encoder", "dynamics")


def read_conditions(path: Path | str, dynamics: Dynamics, *, max_examples: int | None = None, embed: Embedding = "encoder") -> Tokens:
    """The tokens of the last frame of every episode of a file.

    max_examples   take so many of the episodes, evenly over the file
    embed          encoder: the picture itself, phi(g), as the paper writes; dynamics: what the model predicts from that frame and the episode's last
                   actions, as the published code does
    """
    if max_examples is not None and max_examples < 1:
        raise UserError(f"--max_examples must be at least 1, not {max_examples}")
    with EpisodeFile(path) as file:
        check_pictures(file, dynamics, f"conditions {path}")
        names = file.names
        if max_examples is not None and max_examples < len(names):
            names = [names[i] for i in np.linspace(0, len(names) - 1, max_examples).round().astype(int)]
        obs, actions = _last(file, names, dynamics)
    return embedded(dynamics, obs, actions, embed=embed)


@torch.no_grad()
def embedded(dynamics: Dynamics, obs: Observation, actions: torch.Tensor | None, *, embed: Embedding = "encoder") -> Tokens:
    """The tokens of the last frames of `obs`, a few at a time. actions: (batch, horizon, action), needed for embed="dynamics" """
    if embed not in EMBEDDINGS:
        raise unknown_name("embedding of conditions", embed, list(EMBEDDINGS))
    device = next(dynamics.model.parameters()).device
    tokens = []
    for start in range(0, len(next(iter(obs.values()))), 16):
        part = {key: value[start : start + 16].to(device) for key, value in obs.items()}
        if embed == "encoder":
            tokens.append(dynamics.embed(part))
            continue
        if actions is None:
            raise UserError("conditions embedded through the dynamics model need the episodes' last actions")
        tokens.append(dynamics.given(part)(actions[start : start + 16].to(device)))
    return torch.cat(tokens)


def check_pictures(file: EpisodeFile, dynamics: Dynamics, where: str) -> None:
    """What is compared with a model's predictions must come from its cameras, at its pictures' size, drawn by the same renderer."""
    config, shapes = dynamics.config, file.obs_shapes
    for index, camera in enumerate(config.cameras):
        if camera not in shapes or not file.is_image(camera):
            raise UserError(f"{where}: no pictures of the camera {camera!r} that the dynamics model looks through")
        if config.picture_sizes and tuple(shapes[camera][:2]) != tuple(config.picture_sizes[index]):
            size, expected = "x".join(map(str, shapes[camera][:2])), "x".join(map(str, config.picture_sizes[index]))
            raise UserError(f"{where}: pictures of {camera!r} are {size}, the dynamics model was trained on {expected}")
    check_renderer(config.renderer, file.env_meta, where)


def check_renderer(trained_on: str | None, env_meta: dict[str, Any], where: str) -> None:
    """Pictures of two renderers do not compare; where nobody noted one, nothing is said."""
    found = env_meta.get("env_kwargs", {}).get("renderer")
    if trained_on is not None and found is not None and found != trained_on:
        raise UserError(f"{where} were drawn by the renderer {found!r}, the dynamics model was trained on pictures of {trained_on!r}")


def _last(file: EpisodeFile, names: Sequence[str], dynamics: Dynamics) -> tuple[Observation, torch.Tensor]:
    """The last frame of each episode, and the chunk around it: its last actions, the last one again."""
    config = dynamics.config
    keys = [*config.cameras, *([config.proprio_key] if config.proprio_key else [])]
    obs: dict[str, list[torch.Tensor]] = {key: [] for key in keys}
    chunks = []
    for name in names:
        actions = file.actions(name)
        if actions.shape[1] != config.action_dim:
            raise UserError(f"conditions {file.path}, {name}: {actions.shape[1]} numbers an action, the dynamics model takes {config.action_dim}")
        for key in keys:
            frame = torch.from_numpy(file.read(name, key, len(actions) - 1))
            obs[key].append(frame.movedim(-1, 0) if frame.ndim == 3 else frame.float())
        steps = len(actions) - 1 + config.windows.offset + np.arange(config.windows.horizon)
        chunks.append(torch.from_numpy(actions[steps.clip(0, len(actions) - 1)]))
    return {key: torch.stack(value)[:, None] for key, value in obs.items()}, torch.stack(chunks)
