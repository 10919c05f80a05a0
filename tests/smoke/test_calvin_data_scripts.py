"""Every script of data_processing_calvin on tiny data, and its answers to mistakes."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from dynaguide.episodes import EpisodeFile, copy_episodes
from dynaguide_calvin import scene as facts
from scripts import ROOT, mistake, script

FOLDER = "data_processing_calvin"
SMALL = ["--third_person", "32", "--eye_in_hand", "32", "--processes", "1"]


def run(name: str, *argv: str) -> None:
    script(f"{FOLDER}/{name}.py").main([str(one) for one in argv])


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """Demonstrations of the four articulated behaviours of three starts."""
    path = tmp_path_factory.mktemp("calvin") / "play.hdf5"
    run("collect_scripted_play", "--starts", "3", "--behaviors", "articulated", "--dataset_path", path, "--seed", "4", *SMALL)
    return path


def test_demonstrations_are_labelled_and_end_with_what_they_show(play):
    with EpisodeFile(play) as file:
        assert len(file) >= 9
        assert file.obs_shapes == {"eye_in_hand": (32, 32, 3), "proprio": (15,), "states": (24,), "third_person": (32, 32, 3)}
        assert file.env_meta["env_name"] == "PlayTable"
        assert file.env_meta["env_kwargs"]["renderer"] in ("gl", "tiny")
        for episode in file:
            assert episode.attrs["behavior"] in facts.ARTICULATED
            assert 0 <= episode.attrs["start"] < 3
            np.testing.assert_array_equal(episode.actions[-1], episode.actions[-2])
            assert episode.actions[-1, :6].any()


def test_collecting_goes_on_after_an_interruption_between_two_episodes_of_a_start(play, tmp_path):
    path = tmp_path / "play.hdf5"
    with EpisodeFile(play) as file:
        copy_episodes(play, [name for name in file.names if file.attrs(name)["start"] < 2][:-1], path)
    run("collect_scripted_play", "--starts", "3", "--behaviors", "articulated", "--dataset_path", path, "--seed", "4", *SMALL)
    with EpisodeFile(path) as resumed, EpisodeFile(play) as whole:
        assert resumed.names == whole.names
        for name in whole.names:
            assert resumed.attrs(name) == whole.attrs(name)
            np.testing.assert_array_equal(resumed.actions(name), whole.actions(name))


def test_play_of_another_environment_is_not_appended(play, tmp_path, capsys):
    path = tmp_path / "play.hdf5"
    shutil.copyfile(play, path)
    argv = ["--starts", "4", "--dataset_path", str(path), *SMALL, "--scenes", "A"]
    assert "another environment or renderer" in mistake(capsys, f"{FOLDER}/collect_scripted_play.py", *argv)
    assert path.read_bytes() == play.read_bytes()


def test_continuous_play_becomes_labelled_episodes(tmp_path, caplog):
    run(
        "collect_scripted_play",
        "--stretches",
        "1",
        "--stretch_length",
        "200",
        "--behaviors",
        "articulated",
        "--output_folder",
        tmp_path / "play",
        *SMALL,
    )
    run("calvin_to_labeled_hdf5", "--calvin_path", tmp_path / "play", "--output_path", tmp_path / "cut.hdf5")
    with EpisodeFile(tmp_path / "cut.hdf5") as file:
        assert {file.attrs(name)["behavior"] for name in file.names} <= set(facts.BEHAVIORS)


def test_conditions_goals_and_start_poses_from_labelled_episodes(play, tmp_path, capsys):
    run("split_behavioral_validation_datasets_calvin", "--dataset", play, "--output_folder", tmp_path, "--holdout", "1")
    files = sorted(path.stem for path in tmp_path.glob("*.hdf5"))
    assert "mixed" in files
    behaviors = [name for name in files if name != "mixed"]
    one, two = tmp_path / f"{behaviors[0]}.hdf5", tmp_path / f"{behaviors[1]}.hdf5"
    run("hdf5_combiner", "--inputs", one, two, "--count", "1", "--output", tmp_path / "both.hdf5")
    with EpisodeFile(tmp_path / "both.hdf5") as file:
        assert [file.attrs(name)["behavior"] for name in file.names] == behaviors[:2]
    run("hdf5_combiner", "--inputs", one, "--count", "1", "--last", "1", "--output", tmp_path / "ends.hdf5")
    with EpisodeFile(tmp_path / "ends.hdf5") as ends, EpisodeFile(one) as whole:
        name, last = whole.names[0], int(whole.lengths[0]) - 1
        assert list(ends.lengths) == [1] and np.array_equal(ends.read(ends.names[0], "third_person", 0), whole.read(name, "third_person", last))
    run("hdf5_filter", "--dataset", tmp_path / "both.hdf5", "--remove", "demo_0", "--output", tmp_path / "rest.hdf5")
    with EpisodeFile(tmp_path / "rest.hdf5") as file:
        assert [file.attrs(name)["behavior"] for name in file.names] == behaviors[1:2]
    run("generate_goal_images", "--dataset", one, "--output_folder", tmp_path / "goals")
    assert len(list((tmp_path / "goals").glob("*.png"))) == 1
    (tmp_path / "experiment.json").write_text('{"env_setup": {}}')
    run("generate_goal_positions", "--dataset", one, "--config", tmp_path / "experiment.json")
    assert len(json.loads((tmp_path / "experiment.json").read_text())["loc_target"]) == 3
    run("retrieve_initial_robot_states", "--dataset", play, "--where", "start", "--output", tmp_path / "poses.json")
    poses = json.loads((tmp_path / "poses.json").read_text())["robot_states"]
    assert np.array(poses).shape[1] == 15
    goals = ["--behavior", "drawer_open", "--count", "3", "--reset_poses", tmp_path / "poses.json", "--third_person", "32", "--eye_in_hand", "32"]
    run("generate_underspecified_goals", *goals, "--output", tmp_path / "under.hdf5")
    with EpisodeFile(tmp_path / "under.hdf5") as file:
        states = np.stack([file.read(name, "states", 0) for name in file.names])
        assert (states[:, facts.DRAWER] > 0.15).all()
        assert not np.allclose(states[0, 6:], states[1, 6:])
    capsys.readouterr()
    run("inspect_hdf5", "--dataset", play, "--sheet", tmp_path / "sheet.png")
    told = capsys.readouterr().out
    assert all(name in told for name in behaviors)
    assert (tmp_path / "sheet.png").stat().st_size > 1000


MISTAKES = [
    ("collect_scripted_play", ["--starts", "1"], "--starts needs --dataset_path"),
    ("collect_scripted_play", ["--starts", "1", "--dataset_path", "TMP/a.hdf5", "--behaviors", "drawer_opn"], "did you mean 'drawer_open'"),
    ("collect_scripted_play", ["--starts", "1", "--dataset_path", "TMP/a.hdf5", "--weights", "door_left"], "--weights takes NAME=WEIGHT"),
    ("collect_scripted_play", ["--starts", "1", "--dataset_path", "TMP/a.hdf5", "--scenes", "E"], "unknown scene 'E'"),
    ("collect_scripted_play", ["--starts", "1", "--dataset_path", "TMP/a.hdf5", "--assets", "TMP/none"], "none"),
    ("calvin_to_labeled_hdf5", ["--calvin_path", "TMP", "--output_path", "TMP/a.hdf5"], "is not a CALVIN recording"),
    ("split_behavioral_validation_datasets_calvin", ["--dataset", "TMP/none.hdf5", "--output_folder", "TMP"], "does not exist"),
    ("hdf5_combiner", ["--inputs", "PLAY", "--count", "500", "--output", "TMP/a.hdf5"], "--count asks for 500"),
    ("hdf5_combiner", ["--inputs", "PLAY", "--last", "0", "--output", "TMP/a.hdf5"], "--last must be at least 1"),
    ("hdf5_filter", ["--dataset", "PLAY", "--remove", "demo_999", "--output", "TMP/a.hdf5"], "unknown episode"),
    ("hdf5_filter", ["--dataset", "PLAY", "--longest", "1", "--output", "TMP/a.hdf5"], "is left"),
    ("retrieve_initial_robot_states", ["--dataset", "PLAY", "--low", "3", "--high", "4", "--output", "TMP/a.json"], "nothing to write"),
    ("generate_goal_images", ["--dataset", "PLAY", "--camera", "nose", "--output_folder", "TMP/goals"], "has no images under 'nose'"),
    ("generate_underspecified_goals", ["--behavior", "red_lift", "--output", "TMP/a.hdf5"], "unknown articulated behaviour"),
    ("inspect_hdf5", ["--dataset", "TMP/broken.hdf5"], "is not an HDF5 file, or is damaged"),
]


@pytest.mark.parametrize(("name", "argv", "told"), MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(play, tmp_path, capsys, name, argv, told):
    (tmp_path / "broken.hdf5").write_bytes(b"not hdf5")
    filled = [one.replace("TMP", str(tmp_path)).replace("PLAY", str(play)) for one in argv]
    assert told in mistake(capsys, f"{FOLDER}/{name}.py", *filled)
    assert not (tmp_path / "a.hdf5").exists()


def test_no_data_script_waits_for_pytorch():
    """Its import takes seconds, and make_calvin_data.sh starts these scripts some forty times."""
    code = f"""
import runpy, sys
sys.path.insert(0, {FOLDER!r})
for path in {sorted(str(path) for path in (ROOT / FOLDER).glob("*.py"))!r}:
    runpy.run_path(path)
    assert "torch" not in sys.modules, path
"""
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
