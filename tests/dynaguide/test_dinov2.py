"""DINOv2's weights: from facebookresearch's files, under Hugging Face's names, out of a cache; every variant."""

import re

import huggingface_hub.constants
import pytest
import safetensors.torch
import torch

from dynaguide.dynamics import DynamicsConfig
from dynaguide.encoders import dinov2, open_encoder
from dynaguide.encoders.dinov2 import HUGGING_FACE, VARIANTS, DinoConfig, DinoV2, Variant
from dynaguide.errors import UserError
from dynaguide.outcome_training import new_dynamics
from dynaguide.outcomes import load_dynamics, save_dynamics

SIZES = {  # of the released weights, in millions of parameters
    "vits14": 22.1,
    "vitb14": 86.6,
    "vitl14": 304.4,
    "vitg14": 1136.5,
}


@pytest.fixture
def tiny(monkeypatch):
    """Two blocks of width 32, one variant with an MLP and one gated: files of a few kilobytes."""
    monkeypatch.setitem(VARIANTS, "vits14", Variant(32, 2, 2))
    monkeypatch.setitem(VARIANTS, "vitg14", Variant(48, 2, 2, gated=True))


@pytest.fixture
def caches(monkeypatch, tmp_path):
    """Empty caches, and no network."""
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hugging_face"))
    monkeypatch.setattr(dinov2, "_downloaded", lambda variant: False)
    return tmp_path


def random(variant="vits14"):
    torch.manual_seed(0)
    encoder = DinoV2(DinoConfig(variant)).requires_grad_(False).eval()
    for parameter in encoder.parameters():
        parameter.normal_(std=0.2)
    return encoder


def hugging_face(encoder):
    """The weights under the names in Hugging Face's files, written out here independently of how ours are read."""
    width, renamed = encoder.width, {}
    outside = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    inside = {
        "attn.proj": "attention.output.dense",
        "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1",
        "mlp.w12": "mlp.weights_in",
        "mlp.w3": "mlp.weights_out",
    }
    for key, value in encoder.state_dict().items():
        match = re.match(r"blocks\.(\d+)\.(.*)", key)
        if match is None:
            renamed[outside[key]] = value
        elif match[2].startswith("attn.qkv."):
            kind = match[2].split(".")[-1]
            for index, part in enumerate(("query", "key", "value")):
                rows = value[index * width : (index + 1) * width].clone()
                renamed[f"encoder.layer.{match[1]}.attention.attention.{part}.{kind}"] = rows
        else:
            name = match[2]
            for ours, theirs in inside.items():
                name = name.replace(ours, theirs)
            renamed[f"encoder.layer.{match[1]}.{name}"] = value
    return renamed


def same(one, other):
    assert one.fingerprint == other.fingerprint
    images = torch.rand(1, 3, 20, 30)
    torch.testing.assert_close(one(images), other(images), atol=0, rtol=0)


@pytest.mark.parametrize("variant", ["vits14", "vitg14"])
def test_facebookresearchs_file(tiny, tmp_path, variant):
    torch.save(random(variant).state_dict(), tmp_path / "weights.pth")
    found = open_encoder(str(tmp_path / "weights.pth"))
    assert found.config == DinoConfig(variant)
    assert not any(parameter.requires_grad for parameter in found.parameters())
    same(found, random(variant))


@pytest.mark.parametrize("variant", ["vits14", "vitg14"])
@pytest.mark.parametrize("prefix", ["", "dinov2."])
def test_hugging_faces_names_give_the_same_encoder(tiny, tmp_path, variant, prefix):
    weights = {prefix + key: value for key, value in hugging_face(random(variant)).items()}
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    for name in ("model.safetensors", "pytorch_model.bin"):
        same(open_encoder(str(tmp_path / name)), random(variant))


def test_the_patch_tokens_or_the_class_token(tiny, tmp_path):
    torch.save(random().state_dict(), tmp_path / "weights.pth")
    images = torch.rand(2, 3, 40, 40)
    patches, one = (dinov2.load_dinov2(tmp_path / "weights.pth", tokens=tokens)(images) for tokens in ("patches", "cls"))
    assert patches.shape == (2, 256, 32)
    assert one.shape == (2, 1, 32)


def test_a_published_dynamics_checkpoint_carries_it(tiny, tmp_path):
    inside = {f"state_encoder.{key}": value for key, value in random().state_dict().items()}
    torch.save({**inside, "pos_embedding": torch.zeros(1)}, tmp_path / "dynamics.pth")
    same(open_encoder(str(tmp_path / "dynamics.pth")), random())


def test_the_torch_hubs_cache(tiny, caches):
    with pytest.raises(UserError, match="Three ways"):
        open_encoder("dinov2_vits14")
    torch.save(random().state_dict(), caches / "hub" / "checkpoints" / "dinov2_vits14_pretrain.pth")
    same(open_encoder("dinov2_vits14"), random())


@pytest.mark.parametrize("variant", ["vits14", "vitg14"])
def test_hugging_faces_cache(tiny, caches, variant):
    snapshot = caches / "hugging_face" / f"models--facebook--{HUGGING_FACE[variant]}" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    safetensors.torch.save_file(hugging_face(random(variant)), snapshot / "model.safetensors")
    same(open_encoder(f"dinov2_{variant}"), random(variant))


def test_a_dynamics_model_finds_it_again(tiny, caches):
    sizes = {"width": 16, "layers": 1, "heads": 2, "feed_forward": 16, "action_numbers": 1}
    config = DynamicsConfig(("camera",), 2, features=32, proprio_key=None, proprio_dim=0, **sizes)
    save_dynamics(caches / "model.safetensors", new_dynamics(config, random(), decoder_width=0, env_meta={}))
    torch.save(random().state_dict(), caches / "weights.pth")
    same(load_dynamics(caches / "model.safetensors", encoder=str(caches / "weights.pth")).encoder, random())
    (caches / "weights.pth").rename(caches / "hub" / "checkpoints" / "dinov2_vits14_pretrain.pth")
    same(load_dynamics(caches / "model.safetensors").encoder, random())


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_every_variant_has_the_size_of_its_released_weights(variant):
    with torch.device("meta"):
        encoder = DinoV2(DinoConfig(variant))
    assert sum(parameter.numel() for parameter in encoder.parameters()) / 1e6 == pytest.approx(SIZES[variant], abs=0.1)
    assert ("blocks.0.mlp.w12.weight" in encoder.state_dict()) == (variant == "vitg14")
    assert encoder.count == 256


def test_the_variant_follows_from_the_weights(tiny):
    with pytest.raises(UserError, match="width 32 and 3 blocks"):
        dinov2.dinov2_from_weights(random().state_dict() | {"blocks.2.norm1.weight": torch.zeros(32)}, "weights")


@pytest.mark.parametrize("size", [(224, 224), (200, 200), (84, 84), (30, 50)])
def test_pictures_of_any_size_as_bytes_or_floats(tiny, size):
    encoder = random()
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    torch.testing.assert_close(encoder(images), encoder(images / 255))
    with pytest.raises(UserError, match="shape"):
        encoder(torch.rand(2, *size, 3))
