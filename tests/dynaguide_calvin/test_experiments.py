"""Experiments: their files are read strictly, those that ship load, and their environment starts as they say."""

import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from dynaguide.episodes import EpisodeWriter
from dynaguide.errors import UserError
from dynaguide_calvin import scene as facts
from dynaguide_calvin.experiments import Aim, Experiment, goal_images, labels_of, make_experiment, read_experiment

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "calvin_exp_configs_examples").glob("*.json"))
META = {"env_name": "PlayTable", "type": 2, "env_kwargs": {"cameras": {"third_person": 16}, "renderer": "tiny"}}


def conditions(path: Path, *behaviors: str) -> Path:
    with EpisodeWriter(path, META) as writer:
        for number, behavior in enumerate(behaviors):
            picture = np.full((2, 16, 16, 3), number, np.uint8)
            writer.add(np.zeros((2, 7), np.float32), {"third_person": picture, "proprio": np.zeros((2, 15), np.float32)}, behavior=behavior)
    return path


def written(folder: Path, **content) -> Path:
    path = folder / "experiment.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_experiment_that_ships_can_be_read_and_aims_at_something(path):
    found = read_experiment(path)
    aim = Aim.of(found)
    assert found.reset_poses and (aim.wanted or aim.unwanted or path.stem == "control")
    behavior = path.stem.removesuffix("_underspecified")
    if behavior in facts.BEHAVIORS:
        assert aim.wanted == (behavior,)


def test_the_eight_behaviours_the_cubes_and_the_combinations_ship():
    names = {path.stem for path in SHIPPED}
    assert {*facts.ARTICULATED, *(f"{name}_underspecified" for name in facts.ARTICULATED)} <= names
    assert {"control", "red_displace", "blue_displace", "pink_displace", "avoid_door_left_drawer_open", "door_left_drawer_open_negs"} <= names


def test_a_behaviour_is_possible_where_its_experiment_starts():
    for name in facts.ARTICULATED:
        found = read_experiment(ROOT / "calvin_exp_configs_examples" / f"{name}.json")
        states = facts.setup_states(found.setup, np.random.default_rng(0))
        part, _, way = name.partition("_")
        index = {"button": facts.LED, "switch": facts.SWITCH, "drawer": facts.DRAWER, "door": facts.DOOR}[part]
        assert (states[index] > facts.MIDPOINTS[index]) == (way not in ("on", "open", "left"))


def test_paths_are_relative_to_the_file(tmp_path):
    conditions(tmp_path / "wanted.hdf5", "door_left")
    found = read_experiment(written(tmp_path, pos_examples="wanted.hdf5"))
    assert found.pos_examples == str(tmp_path / "wanted.hdf5")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"env_setpu": {}}, "did you mean 'env_setup'"),
        ({"env_setup": {"drawr": 0}}, "did you mean 'drawer'"),
        ({"env_setup": {"drawer": 3}}, "must lie between"),
        ({"env_setup": {"cubes_table_only": 1}}, "true or false"),
        ({"pos_examples": "absent.hdf5"}, "pos_examples: .*absent.hdf5 does not exist"),
        ({"reset_poses": "absent.json"}, "reset_poses: .*absent.json does not exist"),
        ({"behaviors": ["drawer_opne"]}, "did you mean 'drawer_open'"),
        ({"loc_target": [0.1, 0.2]}, "three finite numbers"),
        ({"use_neg": True}, "neg_examples names no file"),
        ({"use_neg": "yes"}, "true or false"),
        ({"scale": "strong"}, "a number"),
    ],
)
def test_what_an_experiment_file_gets_wrong_is_named(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read_experiment(written(tmp_path, **content))


def test_an_aim_is_reached_by_what_is_wanted_or_by_anything_not_unwanted(tmp_path):
    wanted, unwanted = conditions(tmp_path / "a.hdf5", "door_left", "blue_lift", "door_left"), conditions(tmp_path / "b.hdf5", "drawer_open")
    assert labels_of(wanted) == ("door_left", "blue_displace")
    both = Aim.of(Experiment(pos_examples=str(wanted), neg_examples=str(unwanted), use_neg=True))
    assert both.reached(["blue_displace"]) and not both.reached(["drawer_open"]) and not both.reached([])
    away = Aim.of(Experiment(neg_examples=str(unwanted), use_neg=True))
    assert away.reached(["door_left"]) and not away.reached(["drawer_open"]) and not away.reached([])
    assert Aim.of(Experiment(pos_examples=str(wanted), behaviors=("switch_on",))).wanted == ("switch_on",)


@pytest.fixture(scope="module")
def poses(tmp_path_factory) -> Path:
    made = make_experiment(META, Experiment())
    states = []
    for seed in range(3):
        obs, _ = made.reset(seed=seed)
        states.append(np.asarray(obs["proprio"], float).tolist())
    made.close()
    path = tmp_path_factory.mktemp("poses") / "poses.json"
    path.write_text(json.dumps({"robot_states": states}))
    return path


def test_a_seed_fixes_scene_pose_and_goal(poses):
    experiment = Experiment(env_setup={"drawer": 0.16, "cubes_table_only": True}, reset_poses=str(poses))
    goals = {"third_person": np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((16, 16, 3), np.uint8)}
    one, other = (make_experiment(META, experiment, goals=goals) for _ in range(2))
    drawn = set()
    for seed in range(8):
        seen, again = one.reset(seed=seed)[0], other.reset(seed=seed)[0]
        assert all(np.array_equal(seen[key], again[key]) for key in seen)
        assert seen["states"][facts.DRAWER] == pytest.approx(0.16, abs=0.01)
        x, y, z = (seen["states"][at] for at in (slice(6, None, 6), slice(7, None, 6), slice(8, None, 6)))
        assert (x > -0.05).all() and (y < 0).all() and np.allclose(z, facts.CUBE_REST, atol=0.01)
        assert one.observation_space.contains(seen)
        drawn.add((int(seen["goal/third_person"][0, 0, 0]), round(float(seen["proprio"][0]), 4)))
    assert len({goal for goal, _ in drawn}) > 2 and len({pose for _, pose in drawn}) == 3
    one.close()
    other.close()


def test_one_scene_for_all_seeds(poses):
    env = make_experiment(META, Experiment(reset_poses=str(poses)), scene_seed=5)
    first, second = env.reset(seed=0)[0], env.reset(seed=1)[0]
    assert np.array_equal(first["states"], second["states"]) and np.array_equal(first["third_person"], second["third_person"])
    env.close()


def test_success_is_the_aim_and_an_episode_ends_with_any_behaviour():
    env = make_experiment(META, Experiment(env_setup={"drawer": 0.16}, behaviors=("drawer_open",)))
    env.reset(seed=0)
    table = env.unwrapped
    table._world.place(table.states * (np.arange(24) != facts.DRAWER), table.proprio)
    _, reward, terminated, _, info = env.step(np.zeros(7, np.float32))
    assert terminated and info["behaviors"] == ("drawer_close",) and not info["success"] and reward == 0
    assert info["details"]["scene"]["drawer"] is True
    env.close()


def test_goals_come_from_a_folder_or_from_the_conditions(tmp_path):
    experiment = Experiment(pos_examples=str(conditions(tmp_path / "a.hdf5", "door_left", "door_left")))
    assert goal_images(experiment, ["third_person"])["third_person"].shape == (2, 16, 16, 3)
    with pytest.raises(UserError, match="no pictures of 'eye_in_hand'"):
        goal_images(experiment, ["eye_in_hand"])
    with pytest.raises(UserError, match="no PNG files"):
        goal_images(experiment, ["third_person"], tmp_path)
    iio.imwrite(tmp_path / "one.png", np.zeros((16, 16, 3), np.uint8))
    assert goal_images(experiment, ["third_person"], tmp_path)["third_person"].shape == (1, 16, 16, 3)
    iio.imwrite(tmp_path / "two.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="different sizes"):
        goal_images(experiment, ["third_person"], tmp_path)
    with pytest.raises(UserError, match="needs goals"):
        goal_images(Experiment(), ["third_person"])


def test_a_policy_for_another_world_is_refused():
    with pytest.raises(UserError, match="needs a policy for it"):
        make_experiment({"env_name": "dynaguide/TwoWays-v0"}, Experiment())
