"""Configurations are strict; checkpoints carry what rebuilds them, and never run code."""

import os
from dataclasses import dataclass, field

import pytest
import torch

from dynaguide import UserError, checkpoint
from dynaguide.config import parse


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    steps: int = 3
    inner: Inner = field(default_factory=Inner)
    note: str | None = None


def read(data, **more):
    return parse(Outer, data, "file.json", **more)


def test_values_arrive_with_their_types():
    config, passed_over = read({"name": "x", "inner": {"rate": 1, "sizes": [2, 3]}, "note": None})
    assert config == Outer("x", 3, Inner(1.0, (2, 3)), None)
    assert passed_over == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "x", "stpes": 3}, "file.json: unknown key 'stpes'; did you mean 'steps'"),
        ({"name": "x", "inner": {"rates": 3}}, "unknown key in inner 'rates'; did you mean 'rate'"),
        ({"steps": 3}, "the key name is missing"),
        ({"name": "x", "steps": "3"}, "steps must be a whole number, not str '3'"),
        ({"name": "x", "steps": True}, "steps must be a whole number, not bool True"),
        ({"name": "x", "inner": {"sizes": [1, "b"]}}, r"inner.sizes\[1\] must be a whole number"),
        ({"name": "x", "inner": 3}, "inner must be an object"),
        ([], "the whole file must be an object"),
    ],
)
def test_error_with_a_wrong_key_or_type(data, message):
    with pytest.raises(UserError, match=message):
        read(data)


def test_keys_that_do_not_apply_are_listed():
    assert read({"name": "x", "inner": {"old": 1}}, ignored=frozenset({"inner.old"}))[1] == ["inner.old"]


WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1)}


def test_a_checkpoint_carries_weights_and_configuration(tmp_path):
    checkpoint.save(tmp_path / "m.safetensors", "thing", {"width": [1, 2]}, WEIGHTS)
    loaded = checkpoint.load(tmp_path / "m.safetensors", "thing")
    assert loaded.config == {"width": [1, 2]}
    assert all(torch.equal(loaded.weights[name], WEIGHTS[name]) for name in WEIGHTS)


def test_a_halved_checkpoint_is_half_as_large_and_loads_as_any_other(tmp_path):
    weights = {"weight": torch.randn(64, 64), "count": torch.tensor(3)}
    checkpoint.save(tmp_path / "full.safetensors", "toy", {"width": 64}, weights)
    checkpoint.save_halved(tmp_path / "full.safetensors", tmp_path / "half.safetensors")
    half, full = tmp_path / "half.safetensors", tmp_path / "full.safetensors"
    assert half.stat().st_size < 0.6 * full.stat().st_size
    loaded = checkpoint.load(half, "toy")
    assert loaded.config == {"width": 64} and loaded.weights["count"] == 3
    layer = torch.nn.Linear(64, 64, bias=False)
    checkpoint.fit_weights(layer, {"weight": loaded.weights["weight"]}, "the copy")
    assert layer.weight.dtype == torch.float32 and torch.allclose(layer.weight, weights["weight"], atol=2e-3)


def test_error_with_a_checkpoint_of_another_kind(tmp_path):
    checkpoint.save(tmp_path / "m.safetensors", "thing", {}, WEIGHTS)
    with pytest.raises(UserError, match="holds a thing, not a diffusion policy"):
        checkpoint.load(tmp_path / "m.safetensors", "diffusion policy")


def test_error_with_a_truncated_checkpoint(tmp_path):
    path = tmp_path / "m.safetensors"
    checkpoint.save(path, "thing", {}, WEIGHTS)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="truncated"):
        checkpoint.load(path, "thing")
    torch.save({"a": torch.ones(1000)}, tmp_path / "m.pth")
    (tmp_path / "m.pth").write_bytes((tmp_path / "m.pth").read_bytes()[:500])
    with pytest.raises(UserError, match="truncated"):
        checkpoint.load_pytorch(tmp_path / "m.pth", "checkpoint")


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_error_with_a_checkpoint_that_would_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Harmful()}, "m.pth")
    with pytest.raises(UserError, match="would run code"):
        checkpoint.load_pytorch("m.pth", "checkpoint")
    assert not (tmp_path / "harm").exists()


def test_error_with_weights_of_another_architecture():
    model = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match="lacks 1 tensors, as weight and has 1 that the model lacks, as wight"):
        checkpoint.fit_weights(model, {"wight": torch.ones(2, 2), "bias": torch.ones(2)}, "file")
    with pytest.raises(UserError, match=r"weight has shape \(3, 2\), the model needs \(2, 2\)"):
        checkpoint.fit_weights(model, {"weight": torch.ones(3, 2), "bias": torch.ones(2)}, "file")
