"""Every command line, on tiny data, as a user calls it; and what each says to a user's mistake."""

import json
import os
import subprocess
import sys

import h5py
import pytest
from worlds import GOAL_CONDITIONED, tiny, write_config, write_episodes

from dynaguide import checkpoint
from dynaguide.episodes import EpisodeFile
from scripts import ROOT, mistake, script

CPU = ["--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    write_episodes(folder / "data.hdf5")
    write_config(folder / "config.json", tiny())
    train(folder, "base")
    return folder


def train(folder, name, *flags, config="config.json"):
    data, output = str(folder / "data.hdf5"), str(folder)
    script("train_base_policy.py").main(["--config", str(folder / config), "--dataset", data, "--output", output, "--name", name, *CPU, *flags])


def test_training_leaves_a_policy_and_its_metrics(folder):
    assert (folder / "base" / "model.safetensors").exists()
    entries = [json.loads(line) for line in (folder / "base" / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "valid_loss"} <= {key for entry in entries for key in entry}


def test_a_goal_conditioned_policy_is_trained_and_exported(folder):
    write_config(folder / "gc.json", tiny(**GOAL_CONDITIONED))
    train(folder, "gc", "--export", config="gc.json")
    assert (folder / "gc" / "model.pth").exists()


@pytest.mark.parametrize("image", ["ResNet18Conv", "PixelConv"])
def test_debug_trains_ten_steps(folder, image):
    config = tiny(**{"train.num_epochs": 1000, "observation.encoder.rgb.core_kwargs.backbone_class": image})
    write_config(folder / "long.json", config)
    train(folder, f"debug_{image}", "--debug", config="long.json")
    last = (folder / f"debug_{image}" / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["step"] == 10


def test_resuming_a_finished_run_changes_nothing(folder):
    before = checkpoint.load(folder / "base" / "model.safetensors", "diffusion policy").weights
    train(folder, "base", "--resume")
    after = checkpoint.load(folder / "base" / "model.safetensors", "diffusion policy").weights
    assert all(bool((before[name] == after[name]).all()) for name in before)


def test_a_policy_is_rolled_out(folder, capsys):
    outputs = {"--json_path": "r.json", "--dataset_path": "r.hdf5", "--video_path": "r.mp4", "--trace_path": "traces"}
    flags = [part for flag, name in outputs.items() for part in (flag, str(folder / name))]
    agent = ["--agent", str(folder / "base" / "model.safetensors"), "--n_rollouts", "3", "--horizon", "20", "--n_envs", "2", "--seed", "5"]
    script("run_trained_agent.py").main([*agent, *flags, "--dataset_obs", *CPU])
    assert "success" in capsys.readouterr().out
    stored = json.loads((folder / "r.json").read_text())
    assert [episode["seed"] for episode in stored["episodes"]] == [5, 6, 7]
    assert stored["config"]["horizon"] == 20
    with EpisodeFile(folder / "r.hdf5") as file:
        assert len(file) == 3
        assert file.obs_shapes["image"] == (16, 16, 3)
    assert (folder / "r.mp4").stat().st_size > 0
    assert len(list((folder / "traces").iterdir())) == 3


def test_a_file_is_split(folder, capsys):
    script("data_processing_calvin/split_train_val.py").main(["--dataset", str(folder / "data.hdf5"), "--ratio", "0.3", "--seed", "0"])
    assert "4 episodes to train on, 2 to validate on" in capsys.readouterr().out


SCRIPTS = [
    path
    for pattern in (
        "*.py",
        "data_processing_calvin/*.py",
        "examples/*.py",
        "toy_squares_experiment/*.py",
        "figure_generation/*.py",
        "benchmarks/*.py",
    )
    for path in ROOT.glob(pattern)
]


@pytest.mark.parametrize("path", sorted(str(path.relative_to(ROOT)) for path in SCRIPTS if path.name != "setup.py"))
def test_help_shows_an_example_that_parses(path, capsys):
    with pytest.raises(SystemExit) as stopped:
        script(path).main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "example:" in text
    assert f"python {path}" in text


def base(folder, **changes):
    flags = {"--config": folder / "config.json", "--dataset": folder / "data.hdf5", "--output": folder, "--name": "bad"}
    flags.update({f"--{name}": value for name, value in changes.items()})
    return [part for flag, value in flags.items() for part in (flag, value)]


def test_mistakes_in_training(folder, tmp_path, capsys):
    say = lambda **changes: mistake(capsys, "train_base_policy.py", *base(folder, **changes))  # noqa: E731
    assert "does not exist" in say(dataset=tmp_path / "none.hdf5")
    assert "does not exist" in say(config=tmp_path / "none.json")
    truncated = tmp_path / "short.hdf5"
    truncated.write_bytes((folder / "data.hdf5").read_bytes()[:5000])
    assert "truncated" in say(dataset=truncated)
    assert "unknown key in train 'bach_size'; did you mean 'batch_size'" in say(
        config=write_config(tmp_path / "c.json", tiny(**{"train.bach_size": 3}))
    )
    assert "must be a whole number" in say(config=write_config(tmp_path / "c.json", tiny(**{"train.batch_size": 1.5})))
    assert "unknown observation 'imag'" in say(config=write_config(tmp_path / "c.json", tiny(**{"observation.modalities.obs.rgb": ["imag"]})))
    assert "is configured as an image" in say(config=write_config(tmp_path / "c.json", tiny(**{"observation.modalities.obs.rgb": ["agent_pos"]})))
    (tmp_path / "file").write_text("")
    assert "cannot write" in say(output=tmp_path / "file")
    assert "no such device" in say(device="cuda:9")
    assert "already holds a run" in say(name="base")
    assert not (folder / "bad" / "model.safetensors").exists()


def test_mistakes_in_data(folder, tmp_path, capsys):
    spoiled = tmp_path / "nan.hdf5"
    spoiled.write_bytes((folder / "data.hdf5").read_bytes())
    with h5py.File(spoiled, "r+") as file:
        file["data/demo_1/actions"][3, 0] = float("nan")
    assert "demo_1: actions has a NaN" in mistake(capsys, "train_base_policy.py", *base(folder, dataset=spoiled))
    assert "between 0 and 1" in mistake(capsys, "data_processing_calvin/split_train_val.py", "--dataset", spoiled, "--ratio", "2")


def test_mistakes_in_rolling_out(folder, tmp_path, capsys):
    say = lambda *flags: mistake(capsys, "run_trained_agent.py", *flags)  # noqa: E731
    agent = folder / "base" / "model.safetensors"
    assert "does not exist" in say("--agent", tmp_path / "none.pth")
    assert "unknown environment 'TwoWay'" in say("--agent", agent, "--env", "TwoWay")
    assert "between 1 and 15" in say("--agent", agent, "--replan_every", "16")
    (tmp_path / "file").write_text("")
    assert "cannot write" in say("--agent", agent, "--json_path", tmp_path / "file" / "r.json")
    short = tmp_path / "short.safetensors"
    short.write_bytes(agent.read_bytes()[:3000])
    assert "truncated" in say("--agent", short)


def test_a_mistake_shows_no_traceback_to_the_shell(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "run_trained_agent.py", "--agent", tmp_path / "none.pth"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
