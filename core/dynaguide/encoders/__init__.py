"""Frozen image encoders: what an outcome is compared in."""

from pathlib import Path
from typing import Any

from torch import Tensor

from dynaguide import checkpoint
from dynaguide.config import parse
from dynaguide.encoders import dinov2, patches
from dynaguide.encoders.base import OutcomeEncoder
from dynaguide.errors import UserError, unknown_name

_CLASSES: dict[str, tuple[Any, Any]] = {
    dinov2.KIND: (dinov2.DinoV2, dinov2.DinoConfig),
    patches.KIND: (patches.PatchEncoder, patches.PatchEncoderConfig),
}


def open_encoder(name: str) -> OutcomeEncoder:
    """`dinov2_vits14` and its larger siblings, or a file: DINOv2's weights, a published dynamics checkpoint, or a patch encoder of our own."""
    if name.startswith("dinov2_") and not Path(name).exists():
        return dinov2.find_dinov2(name.removeprefix("dinov2_"))
    if checkpoint.is_ours(name) and checkpoint.kind_of(name) == patches.KIND:
        return load_patch_encoder(name)
    return dinov2.load_dinov2(name)


def save_patch_encoder(path: Path, encoder: patches.PatchEncoder) -> None:
    """Our format: safetensors, with the configuration in the header."""
    checkpoint.save(path, patches.KIND, encoder.describe(), encoder.state_dict())


def load_patch_encoder(path: Path | str) -> OutcomeEncoder:
    """Frozen and in evaluation mode."""
    stored = checkpoint.load(path, patches.KIND)
    return rebuilt(stored.config, stored.weights, f"checkpoint {path}")


def blank(description: dict[str, Any], where: str) -> OutcomeEncoder:
    """The encoder that `OutcomeEncoder.describe` described, without its weights."""
    if description["kind"] not in _CLASSES:
        raise UserError(f"{where}: {unknown_name('encoder', description['kind'], list(_CLASSES))}")
    make, configuration = _CLASSES[description["kind"]]
    config, _ = parse(configuration, description["config"], where)
    encoder: OutcomeEncoder = make(config)
    return encoder


def rebuilt(description: dict[str, Any], weights: dict[str, Tensor], where: str) -> OutcomeEncoder:
    """The encoder that `OutcomeEncoder.describe` described, with its weights, frozen."""
    encoder = blank(description, where)
    checkpoint.fit_weights(encoder, weights, where)
    encoder = encoder.requires_grad_(False).eval()
    if encoder.fingerprint != description["fingerprint"]:
        raise UserError(f"{where}: the encoder's weights are not those it was saved with ({encoder.fingerprint}, not {description['fingerprint']})")
    return encoder


def found_again(description: dict[str, Any], source: str | None, where: str) -> OutcomeEncoder:
    """The encoder that a model was trained with, when the model does not carry it: from `source`, or by its name."""
    config, _ = parse(dinov2.DinoConfig, description["config"], where)
    if source and source.startswith("dinov2_"):
        source = None
    encoder = dinov2.load_dinov2(source, tokens=config.tokens) if source else dinov2.find_dinov2(config.variant, tokens=config.tokens)
    if encoder.fingerprint != description["fingerprint"]:
        raise UserError(f"{where} was trained with another encoder (fingerprint {description['fingerprint']}) than {source or config.variant}")
    return encoder
