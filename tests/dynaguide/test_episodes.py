"""robomimic's HDF5 schema: read, write, append, check, split."""

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from dynaguide import UserError
from dynaguide.episodes import EpisodeFile, EpisodeWriter, split

META = {"env_name": "World", "type": 2, "env_kwargs": {"size": 8}}


def episode(length: int = 5, seed: int = 0):
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
    obs = {"image": rng.integers(0, 256, (length, 8, 8, 3), np.uint8), "proprio": rng.normal(size=(length, 3)).astype(np.float32)}
    return actions, obs


@pytest.fixture
def path(tmp_path):
    with EpisodeWriter(tmp_path / "data.hdf5", META) as writer:
        for number in range(12):
            writer.add(*episode(4 + number, number), behavior="left", seed=number)
    return tmp_path / "data.hdf5"


def test_what_is_written_is_read(path):
    with EpisodeFile(path) as file:
        assert file.names == [f"demo_{i}" for i in range(12)]
        assert file.lengths.tolist() == list(range(4, 16))
        assert file.env_meta == META
        assert file.obs_shapes == {"image": (8, 8, 3), "proprio": (3,)}
        actions, obs = episode(6, 2)
        third = file.episode("demo_2")
        np.testing.assert_array_equal(third.actions, actions)
        np.testing.assert_array_equal(third.obs["image"], obs["image"])
        assert third.attrs["behavior"] == "left"
        assert file.read("demo_2", "proprio", [1, 3]).shape == (2, 3)


def test_the_layout_is_robomimics(path):
    with h5py.File(path) as file:
        assert file["data"].attrs["total"] == sum(range(4, 16))
        demo = file["data/demo_0"]
        assert demo.attrs["num_samples"] == 4
        assert set(demo) == {"actions", "rewards", "dones", "obs"}


def test_appending_keeps_what_was_there(path):
    with EpisodeWriter(path, META, append=True) as writer:
        assert writer.add(*episode(3)) == "demo_12"
    with EpisodeFile(path) as file:
        assert len(file) == 13
        assert file.episode("demo_0").attrs["behavior"] == "left"


def test_error_when_an_appended_episode_has_another_layout(path):
    with EpisodeWriter(path, META, append=True) as writer, pytest.raises(UserError, match="layout"):
        writer.add(np.zeros((3, 7), np.float32), {"proprio": np.zeros((3, 3), np.float32)})


def test_a_failed_write_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError), EpisodeWriter(tmp_path / "new.hdf5", META) as writer:
        writer.add(*episode())
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_killed_process_leaves_its_finished_episodes(tmp_path):
    """The writer of rollouts is killed in the middle of its work; the file opens and holds what was added."""
    path = tmp_path / "rollouts.hdf5"
    program = f"""
import numpy as np
from dynaguide.episodes import EpisodeWriter
writer = EpisodeWriter({str(path)!r}, {{}}, append=True)
while True:
    name = writer.add(np.zeros((20, 2), np.float32), {{"image": np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), np.uint8)}})
    print(name, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    for _ in range(5):
        child.stdout.readline()
    time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    rest = child.communicate()[0].split()
    with EpisodeFile(path) as file:
        assert len(file) >= 5 + max(0, len(rest) - 1)


def test_a_split_holds_each_episode_once(path):
    chosen = split(path, ratio=0.25, seed=3)
    assert len(chosen["valid"]) == 3
    assert sorted(chosen["train"] + chosen["valid"]) == sorted(f"demo_{i}" for i in range(12))
    with EpisodeFile(path, split="valid") as file:
        assert file.names == chosen["valid"]
    assert split(path, ratio=0.25, seed=3) == chosen  # and it can be made again


def test_error_when_there_is_no_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        EpisodeFile(tmp_path / "none.hdf5")


def test_error_with_a_truncated_file(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="truncated"):
        EpisodeFile(path)


def test_error_with_something_that_is_not_hdf5(tmp_path):
    (tmp_path / "x.hdf5").write_text("hello")
    with pytest.raises(UserError, match="not an HDF5 file"):
        EpisodeFile(tmp_path / "x.hdf5")


def test_error_with_another_schema(tmp_path):
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["episodes"] = np.zeros(3)
    with pytest.raises(UserError, match="no group 'data' .found: episodes"):
        EpisodeFile(tmp_path / "x.hdf5")


def test_error_with_an_empty_episode(path):
    with h5py.File(path, "r+") as file:
        del file["data/demo_3/actions"]
        file["data/demo_3/actions"] = np.zeros((0, 2), np.float32)
    with pytest.raises(UserError, match="demo_3 is empty"):
        EpisodeFile(path)


def test_error_with_frames_that_do_not_match_the_actions(path):
    with h5py.File(path, "r+") as file:
        del file["data/demo_3/obs/proprio"]
        file["data/demo_3/obs/proprio"] = np.zeros((2, 3), np.float32)
    with pytest.raises(UserError, match="demo_3 has 7 actions but 2 frames of proprio"):
        EpisodeFile(path)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("demo_4/actions", 1.5, r"demo_4: actions reach 1.5, expected \[-1, 1\]"),
        ("demo_4/actions", np.nan, "demo_4: actions has a NaN or an infinity at frame 2"),
        ("demo_4/obs/proprio", np.inf, "demo_4: proprio has a NaN or an infinity at frame 2"),
    ],
)
def test_error_with_values_that_would_spoil_training(path, place, value, message):
    with EpisodeFile(path) as file:
        file.check(["image", "proprio"])  # what was right once is checked again after the file has changed
    with h5py.File(path, "r+") as file:
        file[f"data/{place}"][2, 0] = value
    with EpisodeFile(path) as file, pytest.raises(UserError, match=message):
        file.check(["image", "proprio"])


def test_error_with_images_of_another_size(path):
    with h5py.File(path, "r+") as file:
        del file["data/demo_4/obs/image"]
        file["data/demo_4/obs/image"] = np.zeros((8, 16, 16, 3), np.uint8)
    with EpisodeFile(path) as file, pytest.raises(UserError, match=r"demo_4: image has shape \(16, 16, 3\)"):
        file.check(["image"])


def test_error_with_images_that_are_not_bytes(path):
    with h5py.File(path, "r+") as file:
        del file["data/demo_0/obs/image"]
        file["data/demo_0/obs/image"] = np.zeros((4, 8, 8, 3), np.float32)
    with EpisodeFile(path) as file, pytest.raises(UserError, match="expected uint8"):
        file.check(["image"])


def test_error_names_the_nearest_observation_and_split(path):
    with EpisodeFile(path) as file, pytest.raises(UserError, match="did you mean 'proprio'"):
        file.check(["propro"])
    with pytest.raises(UserError, match="unknown split 'train'.*split_train_val.py"):
        EpisodeFile(path, split="train")


def test_error_when_the_folder_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        EpisodeWriter(tmp_path / "file" / "data.hdf5", META)


def test_error_when_there_is_nothing_to_split(tmp_path):
    with EpisodeWriter(tmp_path / "one.hdf5", META) as writer:
        writer.add(*episode())
    with pytest.raises(UserError, match="nothing to split"):
        split(tmp_path / "one.hdf5", ratio=0.5)
    with pytest.raises(UserError, match="between 0 and 1"):
        split(tmp_path / "one.hdf5", ratio=1.0)
