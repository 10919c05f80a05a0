"""BlockTouch's command lines on untrained models: what they leave behind, and what they say to a user's mistake."""

import json
import os
import subprocess

import imageio.v2 as imageio
import numpy as np
import pytest
from touches import write_classifier, write_policy

from scripts import ROOT, mistake, script

GUIDED, SAMPLED = "toy_squares_experiment/classifier_guidance_pymunk.py", "toy_squares_experiment/rejection_sampling_pymunk.py"
SHORT = ["--n_rollouts", "3", "--horizon", "24", "--n_envs", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    policy, classifier = write_policy(folder / "policy.safetensors"), write_classifier(folder / "classifier.safetensors")
    return ["--agent", str(policy), "--guidance", str(classifier)]


def picture_is_drawn(path) -> bool:
    return len(np.unique(imageio.imread(path).reshape(-1, imageio.imread(path).shape[-1]), axis=0)) > 50


def test_a_guided_run_leaves_everything_that_was_asked_for(models, tmp_path, capsys):
    outputs = ["--output_folder", str(tmp_path), "--video_path", str(tmp_path / "v.mp4"), "--dataset_path", str(tmp_path / "d.hdf5"), "--dataset_obs"]
    script(GUIDED).main([*models, "--target_list", "1,-0.33,-0.33,-0.33", "--camera_names", "image", *SHORT, *outputs, "--render_visuals"])
    said = capsys.readouterr().out
    assert "success" in said
    assert "ms an episode" in said
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["config"]["arm"] == "guided"
    assert stored["config"]["weights"] == [1, -0.33, -0.33, -0.33]
    assert (tmp_path / "v.mp4").stat().st_size > 0
    assert (tmp_path / "d.hdf5").stat().st_size > 0
    drawn = sorted((tmp_path / "denoising").iterdir())
    assert len(drawn) == 3
    assert all(picture_is_drawn(path) for path in drawn)


def test_sampling_is_analyzed_and_drawn_beside_the_base_policy(models, tmp_path, capsys):
    for name, flags in (("base", models[:2]), ("red", [*models, "--target", "red"]), ("away", [*models, "--avoid", "red"])):
        script(SAMPLED).main([*flags, *SHORT, "--json_path", str(tmp_path / f"{name}.json"), "--paths"])
    results = [str(tmp_path / f"{name}.json") for name in ("base", "red", "away")]
    capsys.readouterr()
    tables = ["--markdown", str(tmp_path / "t.md"), "--json_path", str(tmp_path / "t.json")]
    script("toy_squares_experiment/analyze_pymunk_touch.py").main([*results, *tables])
    said = capsys.readouterr().out
    assert all(name in said for name in ("base policy", "sampling to red", "sampling away from red"))
    assert (tmp_path / "t.md").read_text().count("\n") == 5
    assert [entry["target"] for entry in json.loads((tmp_path / "t.json").read_text())] == [None, "red", None]
    script("figure_generation/block_touch.py").main([*results, "--output", str(tmp_path / "figures")])
    drawn = list((tmp_path / "figures").glob("*.png"))
    assert {path.stem for path in drawn} == {"outcomes", "trajectories"}
    assert all(picture_is_drawn(path) for path in drawn)


def test_diversity_is_measured_layout_by_layout(models, capsys):
    script("toy_squares_experiment/measure_diversity.py").main(["--agent", str(models[1]), "--layouts", "2", "--episodes", "3", "--device", "cpu"])
    said = capsys.readouterr().out
    assert "mean of 2 layouts" in said
    assert "touched:" in said


def test_the_demo_draws_and_films(models, tmp_path, capsys):
    flags = [*models, "--episodes", "2", "--horizon", "16", "--output", str(tmp_path), "--target", "red", "--device", "cpu"]
    script("toy_squares_experiment/demo.py").main(flags)
    said = capsys.readouterr().out
    assert all(name in said for name in ("base policy", "guided to red", "guided away from red", "steering.png", "steering.mp4"))
    assert picture_is_drawn(tmp_path / "steering.png")
    frames = [frame for frame in imageio.get_reader(tmp_path / "steering.mp4")]  # noqa: C416 (list() asks the reader for its length)
    assert len(frames) > 40
    assert {path.parent.name for path in tmp_path.glob("*/results.json")} == {"base", "to_red", "away"}
    again = [str(path) for path in sorted(tmp_path.glob("*/results.json"))]
    script("figure_generation/block_touch.py").main([*again, "--traces", str(tmp_path / "to_red" / "traces"), "--output", str(tmp_path / "figures")])
    assert picture_is_drawn(tmp_path / "figures" / "overview.png")


def test_the_experiment_skips_what_is_finished(models, tmp_path):
    bash = lambda name: subprocess.run(  # noqa: E731
        [ROOT / "toy_squares_experiment" / name], env={**os.environ, **settings}, capture_output=True, text=True, check=True
    )
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in --json_path|--markdown) : > "$2";; esac; shift; done\n')
    python.chmod(0o755)
    settings = {"PYTHON": str(python), "OUTPUT": str(tmp_path / "out"), "EPISODES": "2", "SCALES": "1 3"}
    first, second = bash("pymunk_exp.sh").stdout, bash("pymunk_exp.sh").stdout
    assert first.count("==") == 5 + 3 * 8 + 2 * 2 + 4
    assert second.count("==") == 0
    assert bash("pymunk_sweep.sh").stdout.count("==") == 1 + 9 * 2 * 4


@pytest.mark.parametrize("path", [GUIDED, SAMPLED])
def test_mistakes_in_what_is_wanted(models, path, capsys):
    say = lambda *flags: mistake(capsys, path, *models, *flags)  # noqa: E731
    assert "one weight for each of blue, red, green, yellow is needed: 4, not 2" in say("--target_list", "1,2")
    assert "not all zero" in say("--target_list", "0,0,0,0")
    assert "must be finite" in say("--target_list", "1,0,0,nan")
    assert "unknown meaning of a negative weight 'p'" in say("--target", "red", "--away", "p")
    assert "expected numbers with commas" in say("--target_list", "red")
    assert "unknown colour 'rde'; did you mean 'red'" in say("--target", "rde")
    assert "unknown colour" in say("--avoid", "pink")
    assert "give one of them" in say("--target", "red", "--avoid", "blue")
    assert "--target" in say()
    assert "unknown layout 'early'" in say("--target", "red", "--setup", "early")
    assert "unknown camera" in say("--target", "red", "--camera_names", "top")
    assert "between 1 and" in say("--target", "red", "--inference_steps", "0")
    assert "--n_rollouts must be at least 1" in say("--target", "red", "--n_rollouts", "0")
    assert "--render_visuals needs" in say("--target", "red", "--render_visuals")


def test_mistakes_in_guidance(models, capsys):
    say = lambda *flags: mistake(capsys, GUIDED, *models, "--target", "red", *flags)  # noqa: E731
    assert "unknown --on 'both'" in say("--on", "both")
    assert "--scale must be finite" in say("--scale", "nan")
    assert "repeats >= 1" in say("--ss", "0")
    assert "cap must be positive" in say("--cap", "0")


def test_mistakes_in_files(models, tmp_path, capsys, monkeypatch):
    say = lambda agent, guidance, *flags: mistake(capsys, GUIDED, "--agent", agent, "--guidance", guidance, "--target", "red", *flags)  # noqa: E731
    _, agent, _, classifier = models
    assert "does not exist" in say(tmp_path / "none", classifier)
    assert "does not exist" in say(agent, tmp_path / "none")
    assert "holds a" in say(classifier, classifier)
    assert "holds a" in say(agent, agent)
    elsewhere = {"env_name": "dynaguide/TwoWays-v0", "env_kwargs": {}}
    assert "is for the environment dynaguide/TwoWays-v0" in say(write_policy(tmp_path / "p.safetensors", elsewhere), classifier)
    assert "is for the environment dynaguide/TwoWays-v0" in say(agent, write_classifier(tmp_path / "c.safetensors", elsewhere))
    assert "trained on images of 32 x 32" in say(agent, write_classifier(tmp_path / "c.safetensors", size=32))
    assert "tells red, blue apart" in say(agent, write_classifier(tmp_path / "c.safetensors", classes=("red", "blue")))
    assert "reads chunks of 8 actions" in say(agent, write_classifier(tmp_path / "c.safetensors", horizon=8))
    (tmp_path / "file").write_text("")
    assert "cannot write" in say(agent, classifier, "--video_path", tmp_path / "file" / "v.mp4")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "no_ffmpeg"))
    assert "ffmpeg is missing" in say(agent, classifier, "--video_path", tmp_path / "v.mp4")
    assert "make train-demo" in mistake(capsys, "toy_squares_experiment/demo.py", "--agent", tmp_path / "none")


def test_mistakes_in_figures(tmp_path, capsys):
    (tmp_path / "r.json").write_text('{"scale": 1}')
    assert "not a results JSON" in mistake(capsys, "toy_squares_experiment/analyze_pymunk_touch.py", tmp_path / "r.json")
    assert "does not exist" in mistake(capsys, "figure_generation/block_touch.py", tmp_path / "none.json", "--output", tmp_path)


def test_the_figures_example_parses(capsys):
    with pytest.raises(SystemExit) as stopped:
        script("figure_generation/block_touch.py").main(["--help"])
    assert stopped.value.code == 0
    assert "python figure_generation/block_touch.py" in capsys.readouterr().out
