"""What a user is told who mixes up cameras, encoders, conditions, feature caches or weights: one line each, exit status 2."""

import json
import shutil

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from dot_world import HORIZON, WINDOWS, write_rollouts

from dynaguide import checkpoint, cli
from dynaguide.dynamics import DynamicsConfig
from dynaguide.encoders import dinov2, open_encoder, save_patch_encoder
from dynaguide.encoders.patches import PatchEncoder, PatchEncoderConfig
from dynaguide.episodes import EpisodeFile, EpisodeWriter
from dynaguide.features import FeatureCache
from dynaguide.outcome_training import new_dynamics
from dynaguide.outcomes import load_dynamics, save_dynamics
from dynaguide.scores import Conditions, goal_score, outcome_metric
from scripts import mistake

SIZES = {"width": 16, "layers": 1, "heads": 2, "feed_forward": 16, "action_numbers": 2}


def patch_encoder(seed=0, channels=(4, 8)):
    torch.manual_seed(seed)
    return PatchEncoder(PatchEncoderConfig(32, channels)).requires_grad_(False).eval()


def untrained(path, encoder, **changes):
    settings = {"cameras": ("camera",), "picture_sizes": ((32, 32),), "windows": WINDOWS, "proprio_key": None, "proprio_dim": 0, **SIZES, **changes}
    config = DynamicsConfig(action_dim=2, tokens=encoder.count, features=encoder.width, **settings)
    dynamics = new_dynamics(config, encoder, decoder_width=0, env_meta={})
    save_dynamics(path, dynamics)
    return dynamics


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    write_rollouts(folder / "data.hdf5", 12, 0)
    untrained(folder / "model.safetensors", patch_encoder())
    return folder


@pytest.fixture
def examining(folder, tmp_path, capsys):
    """What test_dynaguide_embedding.py says with some flags changed."""

    def say(**changes):
        given = {"good_hdf5": folder / "data.hdf5", "mixed_hdf5": folder / "data.hdf5", "checkpoint": folder / "model.safetensors"}
        given |= {"exp_dir": tmp_path / "out", "feature_dir": tmp_path / "features", "key": "corner_1", "device": "cpu", **changes}
        said = mistake(capsys, "test_dynaguide_embedding.py", *[part for flag, value in given.items() for part in (f"--{flag}", value)])
        assert not (tmp_path / "out" / "health.json").exists()
        return said

    return say


@pytest.fixture
def training(folder, tmp_path, capsys):
    """What train_dynaguide.py says with some flags changed."""
    save_patch_encoder(tmp_path / "encoder.safetensors", patch_encoder())

    def say(*more, **changes):
        given = {"exp_dir": tmp_path / "out", "train_hdf5": folder / "data.hdf5", "encoder": tmp_path / "encoder.safetensors", "size": "tiny"}
        given |= {"cameras": "camera", "feature_dir": tmp_path / "features", "decoder_width": 0, "action_chunk_length": HORIZON, "device": "cpu"}
        given |= {"num_epochs": 1, "workers": 1, **changes}
        said = mistake(capsys, "train_dynaguide.py", "--no_proprio", *more, *[part for flag, value in given.items() for part in (f"--{flag}", value)])
        assert not (tmp_path / "out" / "model.safetensors").exists()
        return said

    return say


@pytest.fixture
def told(capsys):
    """The one line that a function's mistake becomes on the command line."""

    def say(work):
        with pytest.raises(SystemExit) as stopped:
            cli.run(lambda args: work(), cli.parser("", example=""), [])
        assert stopped.value.code == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        return line

    return say


@pytest.fixture(scope="module")
def dino():
    """DINOv2's small variant with weights at random."""
    torch.manual_seed(0)
    return dinov2.DinoV2(dinov2.DinoConfig("vits14")).requires_grad_(False).eval()


def rewritten(source, target, change):
    """The episodes of a file with their observations changed."""
    with EpisodeFile(source) as file, EpisodeWriter(target, file.env_meta) as writer:
        for episode in file:
            writer.add(episode.actions, change(episode.obs), **{key: value for key, value in episode.attrs.items() if key != "num_samples"})
    return target


def test_conditions_and_data_of_another_camera(folder, examining, tmp_path):
    elsewhere = rewritten(folder / "data.hdf5", tmp_path / "wrist.hdf5", lambda obs: {"wrist": obs["camera"], "place": obs["place"]})
    assert "no pictures of the camera 'camera'" in examining(good_hdf5=elsewhere)
    assert "no pictures of the camera 'camera'" in examining(mixed_hdf5=elsewhere)


def test_conditions_and_data_of_another_size(folder, examining, tmp_path):
    smaller = rewritten(folder / "data.hdf5", tmp_path / "small.hdf5", lambda obs: {**obs, "camera": obs["camera"][:, ::2, ::2]})
    assert "pictures of 'camera' are 16x16, the dynamics model was trained on 32x32" in examining(good_hdf5=smaller)
    assert "pictures of 'camera' are 16x16, the dynamics model was trained on 32x32" in examining(mixed_hdf5=smaller)


def test_conditions_of_another_renderer(folder, examining, tmp_path):
    untrained(tmp_path / "model.safetensors", patch_encoder(), renderer="egl")
    with EpisodeFile(folder / "data.hdf5") as file, EpisodeWriter(tmp_path / "tiny.hdf5", {"env_kwargs": {"renderer": "tiny"}}) as writer:
        for episode in file:
            writer.add(episode.actions, episode.obs, behavior="corner_1")
    said = examining(checkpoint=tmp_path / "model.safetensors", good_hdf5=tmp_path / "tiny.hdf5")
    assert "drawn by the renderer 'tiny', the dynamics model was trained on pictures of 'egl'" in said


def test_conditions_of_another_encoder(folder, told):
    dynamics = load_dynamics(folder / "model.safetensors")
    other = patch_encoder(channels=(4, 16))(torch.zeros(2, 3, 32, 32))
    assert "the conditions' tokens have the shape (64, 16), the dynamics model predicts (64, 8)" in told(
        lambda: goal_score(dynamics, Conditions(other), 1.0)
    )
    assert "the conditions' tokens have the shape" in told(lambda: goal_score(dynamics, Conditions(negative=other), 1.0))


def test_empty_and_absent_conditions(told, examining, tmp_path):
    some, none = torch.zeros(2, 4, 8), torch.zeros(0, 4, 8)
    assert "the set of pictures of wanted outcomes is empty" in told(lambda: Conditions(none, some))
    assert "the set of pictures of unwanted outcomes is empty" in told(lambda: Conditions(some, none))
    assert "there are neither" in told(lambda: Conditions())
    EpisodeWriter(tmp_path / "empty.hdf5", {}).close()
    assert "has no episodes" in examining(good_hdf5=tmp_path / "empty.hdf5")
    assert "has no episodes" in examining(mixed_hdf5=tmp_path / "empty.hdf5")
    assert "--max_examples must be at least 1, not 0" in examining(max_examples=0)


@pytest.mark.parametrize("sigma", [0, -1, float("nan"), float("inf")])
def test_a_sigma_that_is_not_positive(told, examining, sigma):
    assert "must be positive" in told(lambda: outcome_metric(Conditions(torch.zeros(2, 4, 8)), float(sigma)))
    assert f"sigma (--alpha) must be positive, not {float(sigma)}" in examining(alpha=sigma)


def test_a_behaviour_that_nobody_shows(folder, examining, tmp_path):
    assert "no examined episode shows 'corner_9'" in examining(key="corner_9")
    with EpisodeFile(folder / "data.hdf5") as file, EpisodeWriter(tmp_path / "plain.hdf5", file.env_meta) as writer:
        for episode in file:
            writer.add(episode.actions, episode.obs)
    assert "no attribute 'behavior'" in examining(mixed_hdf5=tmp_path / "plain.hdf5")
    assert "--max_windows must be at least 1" in examining(max_windows=0)


def test_a_chunk_length_that_is_not_the_models(examining):
    assert f"--action_chunk_length 3, but the model was trained on chunks of {HORIZON}" in examining(action_chunk_length=3)


def filled_cache(folder, where):
    """A cache as training leaves it."""
    return FeatureCache(folder / "data.hdf5", "camera", patch_encoder(), where / "data").complete().folder


def test_a_feature_cache_that_is_truncated(folder, training, tmp_path):
    tokens = filled_cache(folder, tmp_path / "features") / "tokens.bin"
    with open(tokens, "r+b") as file:
        file.truncate(1000)
    assert "is truncated (1000 bytes, expected" in training()
    tokens.unlink()
    assert "is truncated (0 bytes" in training()


@pytest.mark.parametrize("change", ["actions", "pictures", "length"])
def test_a_feature_cache_of_other_data(folder, training, tmp_path, change):
    filled_cache(folder, tmp_path / "features")
    (tmp_path / "new").mkdir()
    other = tmp_path / "new" / "data.hdf5"
    if change == "actions":
        write_rollouts(other, 12, 1)
    elif change == "length":
        write_rollouts(other, 9, 0)
    else:
        rewritten(folder / "data.hdf5", other, lambda obs: {**obs, "camera": obs["camera"] // 2})
    said = training(train_hdf5=other)
    assert "belongs to other data than" in said or "belongs to other shape than" in said
    assert "--feature_dir" in said


def test_a_feature_cache_under_the_wrong_encoders_name(folder, training, tmp_path):
    right = filled_cache(folder, tmp_path / "features")
    manifest = json.loads((right / "manifest.json").read_text())
    manifest["encoder"]["fingerprint"] = "0" * 16
    (right / "manifest.json").write_text(json.dumps(manifest))
    assert "belongs to other encoder than" in training()


def test_dimensions_and_cameras_that_the_data_contradicts(training):
    assert "--action_dim 7, but the data has 2" in training(action_dim=7)
    assert "--proprio_dim 3, but the data has 0" in training(proprio_dim=3)
    assert "camera" in training(cameras="top")
    assert "place" in training(cameras="place")


def test_weight_files_of_another_architecture(folder, examining, told, tmp_path):
    save_patch_encoder(tmp_path / "encoder.safetensors", patch_encoder())
    assert "holds a patch encoder, not a dynamics model" in examining(checkpoint=tmp_path / "encoder.safetensors")
    assert "does not hold DINOv2 weights" in told(lambda: open_encoder(str(folder / "model.safetensors")))
    stored = checkpoint.load(folder / "model.safetensors", "dynamics model")
    stored.config["dynamics"]["layers"] = 2
    checkpoint.save(tmp_path / "deep.safetensors", stored.kind, stored.config, stored.weights)
    assert "does not belong to this architecture: it lacks 12 tensors" in examining(checkpoint=tmp_path / "deep.safetensors")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    assert "is not a published dynamics model" in examining(checkpoint=tmp_path / "resnet.pth")
    torch.save({"weights": np.zeros(1)}, tmp_path / "code.pth")
    assert "only tensors and plain values are read" in examining(checkpoint=tmp_path / "code.pth")
    shutil.copyfile(folder / "model.safetensors", tmp_path / "short.safetensors")
    with open(tmp_path / "short.safetensors", "r+b") as file:
        file.truncate(2000)
    assert "truncated" in examining(checkpoint=tmp_path / "short.safetensors")


def test_published_checkpoints_of_another_architecture(dino, examining, tmp_path):
    encoder = {f"state_encoder.{key}": value for key, value in dino.state_dict().items()}
    read = {"action_embedder.patch_embed.weight": torch.zeros(24, 7, 1), "proprio_embedder.weight": torch.zeros(384, 15)}
    torch.save({**encoder, **read, "pos_embedding": torch.zeros(1, 258, 384)}, tmp_path / "headless.pth")
    assert "it has no state_decoder_transformer" in examining(checkpoint=tmp_path / "headless.pth")
    layer = {"state_decoder_transformer.layers.0.linear1.weight": torch.zeros(64, 384)}
    torch.save({**encoder, **read, **layer, "pos_embedding": torch.zeros(1, 300, 384)}, tmp_path / "tokens.pth")
    assert "cameras of 256 tokens" in examining(checkpoint=tmp_path / "tokens.pth")
    torch.save({**encoder, **read, **layer, "pos_embedding": torch.zeros(1, 258, 384)}, tmp_path / "parts.pth")
    assert "does not belong to this architecture: it lacks" in examining(checkpoint=tmp_path / "parts.pth")


def test_encoder_weights_of_another_architecture(dino, training, tmp_path):
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    assert "does not hold DINOv2 weights" in training(encoder=tmp_path / "resnet.pth")
    own = dino.state_dict()
    torch.save({**own, "register_tokens": torch.zeros(1, 4, 384)}, tmp_path / "registers.pth")
    assert "register tokens" in training(encoder=tmp_path / "registers.pth")
    torch.save({key: value for key, value in own.items() if not key.startswith("blocks.11.")}, tmp_path / "shallow.pth")
    assert "of width 384 and 11 blocks; known are vits14" in training(encoder=tmp_path / "shallow.pth")
    torch.save({key: value for key, value in own.items() if key != "norm.bias"}, tmp_path / "part.pth")
    assert "lacks 1 tensors, as norm.bias" in training(encoder=tmp_path / "part.pth")
    (tmp_path / "short.pth").write_bytes((tmp_path / "part.pth").read_bytes()[:10_000])
    assert "truncated" in training(encoder=tmp_path / "short.pth")


def test_missing_dinov2_weights_name_three_ways_to_get_them(dino, training, examining, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hugging_face"))

    def unreachable(url, target, **_):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    untrained(tmp_path / "model.safetensors", dino)
    for said in (training(encoder="dinov2_vits14"), examining(checkpoint=tmp_path / "model.safetensors")):
        assert "no DINOv2 weights (vits14) on this machine" in said
        assert all(f"({number})" in said for number in (1, 2, 3))
        assert "dinov2_vits14_pretrain.pth" in said
        assert "facebook/dinov2-small" in said
        assert "published dynamics checkpoint" in said
        assert "train_patch_encoder.py" in said
    assert not (tmp_path / "hub" / "checkpoints" / "dinov2_vits14_pretrain.pth").exists()
    assert "unknown DINOv2 variant 'vits15'; did you mean 'vits14'" in training(encoder="dinov2_vits15")
    assert "does not exist" in training(encoder=tmp_path / "none.pth")


def test_a_dynamics_model_with_another_dinov2_than_it_was_trained_with(dino, examining, tmp_path):
    untrained(tmp_path / "model.safetensors", dino)
    others = {key: value + (key == "norm.bias") for key, value in dino.state_dict().items()}
    torch.save(others, tmp_path / "other.pth")
    assert "was trained with another encoder" in examining(checkpoint=tmp_path / "model.safetensors", encoder=tmp_path / "other.pth")
