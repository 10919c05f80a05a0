"""A trained dynamics model with its encoder: what a picture is in its space, and how the scene will look after an action chunk."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dynaguide import checkpoint
from dynaguide.config import parse
from dynaguide.decoder import DecoderConfig, PictureDecoder
from dynaguide.dynamics import DynamicsConfig, DynamicsModel, Tokens
from dynaguide.encoders import dinov2, found_again, open_encoder, rebuilt
from dynaguide.encoders.base import OutcomeEncoder
from dynaguide.errors import UserError
from dynaguide.types import ChunkFunction, Observation

KIND = "dynamics model"
_CARRIED = ("patch encoder",)  # encoders small enough to travel inside the checkpoint


@dataclass(frozen=True)
class Dynamics:
    """Frozen. `dynamics.given(obs)(actions)` are the tokens of the predicted outcome.

    decoder    draws tokens as a picture, one camera at a time; None if it was not trained
    env_meta   the environment that the training data came from
    """

    model: DynamicsModel
    encoder: OutcomeEncoder
    decoder: PictureDecoder | None = None
    env_meta: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> DynamicsConfig:
        return self.model.config

    def embed(self, obs: Observation) -> Tokens:
        """Tokens of the last frame of every camera. (batch, cameras x tokens, features)"""
        missing = [camera for camera in self.config.cameras if camera not in obs]
        if missing:
            raise UserError(f"the dynamics model looks through the camera {missing[0]!r}, which is not there (given: {', '.join(obs)})")
        with torch.no_grad():
            return torch.cat([self.encoder(obs[camera][:, -1]) for camera in self.config.cameras], dim=1)

    def proprio(self, obs: Observation) -> Tensor | None:
        """Of the last frame; None where the model does without."""
        key = self.config.proprio_key
        if key is None:
            return None
        if key not in obs:
            raise UserError(f"the dynamics model needs the observation {key!r} (given: {', '.join(obs)})")
        return obs[key][:, -1]

    def given(self, obs: Observation) -> ChunkFunction:
        return self.model.given(self.embed(obs), self.proprio(obs))

    @torch.no_grad()
    def pictures(self, tokens: Tokens) -> Float[Tensor, "batch camera 3 rows columns"]:
        """What the tokens look like, in [0, 1]."""
        if self.decoder is None:
            raise UserError("this dynamics model was trained without a picture decoder: it cannot draw what it predicts")
        one = tokens.unflatten(1, (len(self.config.cameras), -1)).flatten(0, 1)
        return self.decoder(one).clamp(0, 1).unflatten(0, (len(tokens), -1))

    def to(self, device: torch.device | str) -> "Dynamics":
        for module in (self.model, self.encoder, self.decoder):
            if module is not None:
                module.to(device)
        return self

    def frozen(self) -> "Dynamics":
        for module in (self.model, self.encoder, self.decoder):
            if module is not None:
                module.requires_grad_(False).eval()
        return self


def save_dynamics(path: Path, dynamics: Dynamics) -> None:
    """Our format: safetensors, with the configuration in the header. A small encoder travels along, DINOv2 is named by its fingerprint."""
    parts = {"model": dynamics.model, "decoder": dynamics.decoder, "encoder": dynamics.encoder if dynamics.encoder.kind in _CARRIED else None}
    weights = {f"{name}.{key}": value for name, part in parts.items() if part is not None for key, value in part.state_dict().items()}
    config = {
        "dynamics": asdict(dynamics.config),
        "decoder": None if dynamics.decoder is None else asdict(dynamics.decoder.config),
        "encoder": dynamics.encoder.describe(),
        "env_meta": dynamics.env_meta,
    }
    checkpoint.save(path, KIND, config, weights)


def load_dynamics(path: Path | str, *, encoder: str | None = None, device: torch.device | str = "cpu") -> Dynamics:
    """Frozen, from our format or from a published state dict (which carries DINOv2). encoder: where DINOv2's weights lie, if not in a cache."""
    if checkpoint.is_ours(path):
        return _ours(path, encoder).frozen().to(device)
    return published_dynamics(checkpoint.load_pytorch(path, "dynamics checkpoint"), f"dynamics checkpoint {path}").frozen().to(device)


def _ours(path: Path | str, encoder: str | None) -> Dynamics:
    where = f"checkpoint {path}"
    stored = checkpoint.load(path, KIND)
    config, _ = parse(DynamicsConfig, stored.config["dynamics"], where)
    model = DynamicsModel(config)
    checkpoint.fit_weights(model, _part(stored.weights, "model."), where)
    decoder = None
    if stored.config["decoder"] is not None:
        decoder = PictureDecoder(parse(DecoderConfig, stored.config["decoder"], where)[0])
        checkpoint.fit_weights(decoder, _part(stored.weights, "decoder."), where)
    described = stored.config["encoder"]
    carried = _part(stored.weights, "encoder.")
    found = rebuilt(described, carried, where) if carried else found_again(described, encoder, where)
    if carried and encoder is not None and open_encoder(encoder).fingerprint != found.fingerprint:
        raise UserError(f"{where} carries its own encoder ({found.fingerprint}), which is not {encoder}")
    return Dynamics(model, found, decoder, stored.config["env_meta"])


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


_PUBLISHED = (
    (r"^pos_embedding$", "positions"),
    (r"^action_embedder\.patch_embed\.", "read_action."),
    (r"^proprio_embedder\.", "read_proprio."),
    (r"^state_decoder_transformer\.", ""),
)
_EXPECTED = ("pos_embedding", "action_embedder.patch_embed.weight", "state_decoder_transformer.layers.0.linear1.weight")
_UNUSED = ("action_embedder.out_project.", "reconstruction_model.quantize_b.")  # in the file, without an effect on what it computes
_HALVES = ("reconstruction_model.upsample_b.blocks.", "reconstruction_model.dec.blocks.")


def published_dynamics(state: Any, where: str, *, cameras: tuple[str, ...] | None = None) -> Dynamics:
    """A published state dict. Its sizes follow from its tensors; what it does not say (the cameras' names, the window) is the paper's."""
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    missing = [key for key in _EXPECTED if not isinstance(state, Mapping) or key not in state]
    if missing:
        raise UserError(f"{where} is not a published dynamics model: it has no {missing[0]}")
    encoder = dinov2.dinov2_from_weights(_part(state, "state_encoder."), where)
    config = _published_config(state, encoder, cameras, where)
    model = DynamicsModel(config)
    checkpoint.fit_weights(model, _model_weights(state), where)
    return Dynamics(model, encoder, _published_decoder(state, encoder, where))


def _published_config(state: Mapping[str, Tensor], encoder: OutcomeEncoder, cameras: tuple[str, ...] | None, where: str) -> DynamicsConfig:
    numbers, action_dim = state["action_embedder.patch_embed.weight"].shape[:2]
    proprio = state.get("proprio_embedder.weight")
    width = state["pos_embedding"].shape[-1]
    count, rest = divmod(state["pos_embedding"].shape[1] - 1 - (proprio is not None), encoder.count)
    names = cameras or ("third_person", "eye_in_hand")[:count]
    if rest or len(names) != count:
        raise UserError(f"{where} looks through {count} cameras of {encoder.count} tokens, named are {len(names)}")
    return DynamicsConfig(
        cameras=names,
        action_dim=action_dim,
        tokens=encoder.count,
        features=encoder.width,
        proprio_key=None if proprio is None else "proprio",
        proprio_dim=0 if proprio is None else proprio.shape[1],
        width=width,
        layers=1 + max(int(match[1]) for match in map(re.compile(r"state_decoder_transformer\.layers\.(\d+)\.").match, state) if match),
        feed_forward=state["state_decoder_transformer.layers.0.linear1.weight"].shape[0],
        action_numbers=numbers,
    )


def _model_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The transformer's own, under our names."""
    weights = {}
    for key, value in state.items():
        if key.startswith(("state_encoder.", "reconstruction_model.", *_UNUSED)):
            continue
        for pattern, replacement in _PUBLISHED:
            key = re.sub(pattern, replacement, key)
        weights[key] = value.squeeze(-1) if key == "read_action.weight" else value
    return weights


def _published_decoder(state: Mapping[str, Tensor], encoder: OutcomeEncoder, where: str) -> PictureDecoder | None:
    """The decoder without its unused quantisation; None if the file has none."""
    weights: dict[str, Tensor] = {}
    for index, prefix in enumerate(_HALVES):
        weights |= {f"stages.{index}.blocks.{key}": value for key, value in _part(state, prefix).items()}
    if not weights:
        return None
    decoder = PictureDecoder(DecoderConfig(features=encoder.width, side=encoder.side))
    checkpoint.fit_weights(decoder, weights, where)
    return decoder
