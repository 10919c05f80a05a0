"""Models together with everything needed to rebuild them: one safetensors file whose header holds the configuration as JSON.

Other people's PyTorch files are read with `weights_only=True`: nothing here ever unpickles code.
"""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dynaguide.errors import UserError
from dynaguide.files import existing_file, written_whole

_HEADER = "dynaguide"


class Checkpoint(NamedTuple):
    """What a file holds: the kind of model, the configuration that rebuilds it, and its weights."""

    kind: str
    config: dict[str, Any]
    weights: dict[str, Tensor]


def save(path: Path | str, kind: str, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Write the file whole; an existing one is replaced at once or not at all."""
    header = {_HEADER: json.dumps({"kind": kind, "config": config})}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with written_whole(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata=header)


def load(path: Path | str, kind: str) -> Checkpoint:
    """Read a file written by `save`, if it holds the wanted kind of model."""
    found, config = _described(path)
    if found != kind:
        raise UserError(f"checkpoint {path} holds a {found}, not a {kind}")
    with safetensors.safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    return Checkpoint(kind, config, weights)


def save_halved(source: Path | str, target: Path | str) -> None:
    """A copy with its weights in half precision, for shipping; models load it as they load any other."""
    kind, config = _described(source)
    weights = load(source, kind).weights
    save(target, kind, config, {name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in weights.items()})


def kind_of(path: Path | str) -> str | None:
    """What a safetensors file holds; None if somebody else wrote it."""
    path = existing_file(path, "checkpoint")
    return _described(path)[0] if _header(path) is not None else None


def _described(path: Path | str) -> tuple[str, dict[str, Any]]:
    header = _header(existing_file(path, "checkpoint"))
    if header is None:
        raise UserError(f"checkpoint {path} holds weights but no configuration: it was not written by this project")
    described = json.loads(header)
    return described["kind"], described["config"]


def _header(path: Path) -> str | None:
    try:
        with safetensors.safe_open(path, "pt") as file:
            return (file.metadata() or {}).get(_HEADER)
    except safetensors.SafetensorError as error:
        raise UserError(f"checkpoint {path} is truncated or not a safetensors file ({error})") from error


def is_ours(path: Path | str) -> bool:
    """Whether the file's name says that it is one of ours rather than a PyTorch file."""
    return Path(path).suffix == ".safetensors"


def load_pytorch(path: Path | str, what: str) -> Any:
    """The content of a `torch.save` file, without running code from it."""
    path = existing_file(path, what)
    if not zipfile.is_zipfile(path):
        raise UserError(f"{what} {path} is truncated or not a PyTorch file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{what} {path} would run code when loaded, so it is refused: only tensors and plain values are read") from error
    except (RuntimeError, EOFError, OSError) as error:
        raise UserError(f"{what} {path} is truncated or damaged") from error


def fit_weights(module: torch.nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """`load_state_dict`, strictly, with what does not fit named in one line."""
    expected = module.state_dict()
    missing, extra = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or extra:
        told = [f"lacks {len(missing)} tensors, as {missing[0]}"] if missing else []
        told += [f"has {len(extra)} that the model lacks, as {extra[0]}"] if extra else []
        raise UserError(f"{where} does not belong to this architecture: it {' and '.join(told)}")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise UserError(f"{where}: {name} has shape {tuple(tensor.shape)}, the model needs {tuple(expected[name].shape)}")
    module.load_state_dict(weights)
