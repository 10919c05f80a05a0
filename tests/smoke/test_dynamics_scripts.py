"""The dynamics model's command lines, from pictures to a verdict, on tiny data: what they leave behind, and that they resume."""

import json

import imageio.v2 as imageio
import numpy as np
import pytest
from dot_world import HORIZON, write_rollouts

from dynaguide import checkpoint
from dynaguide.outcomes import load_dynamics
from scripts import script

ENCODER = ["--cameras", "camera", "--image_size", "32", "--channels", "4", "8", "--steps", "20", "--batch_size", "4", "--device", "cpu"]
SHORT = ["--cameras", "camera", "--proprio_key", "place", "--history", "1", "--size", "tiny", "--decoder_width", "8", "--batch_size", "4"]
SHORT += ["--action_chunk_length", str(HORIZON), "--num_epochs", "1", "--noised", "--workers", "1", "--device", "cpu"]
QUESTIONS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dynamics")
    write_rollouts(folder / "train.hdf5", 12, 0)
    write_rollouts(folder / "valid.hdf5", 30, 1)
    script("train_patch_encoder.py").main(["--dataset", str(folder / "train.hdf5"), "--output", str(folder / "encoder"), *ENCODER])
    train(folder, "run")
    return folder


def train(folder, name, *flags):
    data = ["--train_hdf5", str(folder / "train.hdf5"), "--test_hdf5", str(folder / "valid.hdf5")]
    encoder = ["--encoder", str(folder / "encoder" / "model.safetensors")]
    script("train_dynaguide.py").main(["--exp_dir", str(folder / name), *data, *encoder, *SHORT, *flags])


def examine(folder, output, *flags):
    data = ["--good_hdf5", str(folder / "train.hdf5"), "--mixed_hdf5", str(folder / "valid.hdf5"), "--key", "corner_1"]
    model = ["--checkpoint", str(folder / "run" / "model.safetensors"), "--action_chunk_length", str(HORIZON), "--max_windows", "40"]
    script("test_dynaguide_embedding.py").main(["--exp_dir", str(output), *data, *model, "--device", "cpu", *flags])


def is_drawn(path):
    picture = imageio.imread(path)
    return len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 20


def weights(path, kind="dynamics model"):
    return checkpoint.load(path, kind).weights


def test_an_encoder_is_trained_and_resumed(folder):
    assert is_drawn(folder / "encoder" / "pictures.png")
    before = weights(folder / "encoder" / "model.safetensors", "patch encoder")
    script("train_patch_encoder.py").main(["--dataset", str(folder / "train.hdf5"), "--output", str(folder / "encoder"), *ENCODER, "--resume"])
    after = weights(folder / "encoder" / "model.safetensors", "patch encoder")
    assert all(bool((before[name] == after[name]).all()) for name in before)


def test_training_leaves_a_model_its_metrics_and_a_film_strip(folder):
    assert is_drawn(folder / "run" / "film.png")
    entries = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "valid_loss", "valid_copy_loss", "valid_picture_loss"} <= {key for entry in entries for key in entry}
    config = load_dynamics(folder / "run" / "model.safetensors").config
    assert (config.action_dim, config.proprio_dim, config.windows.horizon, config.picture_sizes) == (2, 2, HORIZON, ((32, 32),))
    assert {path.name for path in folder.glob("*.features")} == {"train.features", "valid.features"}


def test_training_resumes(folder):
    before = weights(folder / "run" / "model.safetensors")
    train(folder, "run", "--resume")
    after = weights(folder / "run" / "model.safetensors")
    assert all(bool((before[name] == after[name]).all()) for name in before)


def test_training_without_proprioception_without_a_cache_on_the_outcome_after_the_chunk(folder):
    train(folder, "plain", "--no_proprio", "--no_cache", "--outcome", "chunk", "--debug")
    config = load_dynamics(folder / "plain" / "model.safetensors").config
    assert config.proprio_key is None
    assert config.windows.outcome == "chunk"


def test_the_examination_leaves_a_verdict_for_every_question(folder, tmp_path, capsys):
    examine(folder, tmp_path)
    found = json.loads((tmp_path / "health.json").read_text())
    assert len(found["questions"]) == QUESTIONS
    assert all(answer["verdict"] in ("yes", "no", "unknown") and answer["because"] for answer in found["questions"].values())
    assert found["can_steer"] is False  # after a hundred steps
    assert is_drawn(tmp_path / "health.png")
    assert is_drawn(tmp_path / "film.png")
    said = capsys.readouterr().out
    assert all(question in said for question in found["questions"])
    assert "can steer: no" in said


def test_the_examination_is_repeatable(folder, tmp_path):
    for name in ("one", "other"):
        examine(folder, tmp_path / name, "--seed", "3")
    one, other = ((tmp_path / name / "health.json").read_text() for name in ("one", "other"))
    assert one == other


def test_the_examination_scores_as_it_is_told(folder, tmp_path, capsys):
    true = "true outcomes separate the behaviour"
    flags = {"plain": [], "weighted": ["--distance", "weighted"], "contrasted": ["--bad_hdf5", str(folder / "valid.hdf5")]}
    scores = []
    for name, given in flags.items():
        examine(folder, tmp_path / name, "--compare", "camera", *given)
        found = json.loads((tmp_path / name / "health.json").read_text())["questions"]
        scores.append(found[true]["numbers"]["scores"]["corner_1"])
    assert len({tuple(values) for values in scores}) == len(flags)
    for given, message in (("--distance=manhattan", "invalid choice: 'manhattan'"), ("--compare=fisheye", "unknown camera to compare by")):
        with pytest.raises(SystemExit) as stopped:
            examine(folder, tmp_path / "refused", given)
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


def test_strict_fails_a_script_when_the_model_cannot_steer(folder, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        examine(folder, tmp_path, "--strict")
    assert stopped.value.code == 1
    assert (tmp_path / "health.json").exists()
