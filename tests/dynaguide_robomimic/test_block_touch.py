"""BlockTouch: its physics, its picture, its layouts, and the data that scripted players collect in it."""

import importlib.util
import json
import os
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import dynaguide_robomimic.envs  # noqa: F401 (registers the id)
from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide_robomimic.envs.block_touch import collect as collecting
from dynaguide_robomimic.envs.block_touch.collect import Collection, rollouts
from dynaguide_robomimic.envs.block_touch.env import BlockTouch
from dynaguide_robomimic.envs.block_touch.env_config import read_env_config
from dynaguide_robomimic.envs.block_touch.physics import World
from dynaguide_robomimic.envs.block_touch.render import Picture
from dynaguide_robomimic.envs.block_touch.scripted import ACTION_NOISE, bezier, play
from dynaguide_robomimic.envs.block_touch.world import (
    COLOR_NAMES,
    COLORS,
    LAYOUTS,
    Layout,
    color_index,
    draw_layout,
    squares_overlap,
    to_normalised,
    to_world,
)

SCRIPTS = Path(__file__).parents[2] / "toy_squares_experiment"
EVERYWHERE = pytest.mark.parametrize("name", LAYOUTS)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def episode(env: BlockTouch, seed: int, actions: np.ndarray, **options: Any) -> list[dict[str, np.ndarray]]:
    seen = [env.reset(seed=seed, options=options)[0]]
    for action in actions:
        obs, _, over, _, _ = env.step(action)
        seen.append(obs)
        if over:
            break
    return seen


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


# --- the environment -----------------------------------------------------------------------------------------------------------------------------


@EVERYWHERE
def test_gymnasiums_own_checker_passes(name):
    check_env(gym.make("dynaguide/BlockTouch-v0", layout=name, image_size=32).unwrapped)


def test_the_same_seed_gives_the_same_episode():
    actions = rng(5).uniform(-0.3, 0.3, (10, 2))
    first, again, other = (episode(BlockTouch(image_size=32), seed, actions) for seed in (3, 3, 4))
    assert len(first) == len(again)
    for one, two in zip(first, again, strict=True):
        assert_same(one, two)
    assert not np.array_equal(first[0]["states"], other[0]["states"])


def test_a_layout_seed_fixes_the_layout_whatever_the_episodes_seed():
    env = BlockTouch(image_size=32)
    expected = env.reset(seed=77)[0]
    for seed in (1, 2, None):
        assert_same(env.reset(seed=seed, options={"layout_seed": 77})[0], expected)
    assert not np.array_equal(env.reset(options={"layout_seed": 78})[0]["states"], expected["states"])


def test_a_vector_of_environments_is_the_environments_one_by_one():
    seeds, steps = [10, 11, 12], 40
    envs = SyncVectorEnv([lambda: BlockTouch(image_size=16)] * 3, autoreset_mode=AutoresetMode.DISABLED)
    frames, _ = envs.reset(seed=seeds)
    alone = [BlockTouch(image_size=16) for _ in seeds]
    for index, env in enumerate(alone):
        assert_same({key: value[index] for key, value in frames.items()}, env.reset(seed=seeds[index])[0])
    aims = np.stack([to_normalised(alone[0].world.layout.squares[1]), np.full(2, -1.5), to_normalised(alone[2].world.layout.agent)])
    finished: dict[int, dict[str, Any]] = {}
    for _ in range(steps):
        frames, rewards, over, _, infos = envs.step(aims)
        for index, env in enumerate(alone):
            obs, reward, ended, _, info = env.step(aims[index])
            assert_same({key: value[index] for key, value in frames.items()}, obs)
            assert (rewards[index], over[index]) == (reward, ended)
            if ended:
                assert infos["behaviors"][index] == info["behaviors"]
                assert bool(infos["success"][index]) == info["success"]
                assert "details" not in info or infos["details"]["cube_contacted"][index] == info["details"]["cube_contacted"]
                finished[index] = info
        if over.any():
            break
    assert finished


@pytest.mark.parametrize("color", COLOR_NAMES)
def test_a_touch_ends_the_episode_and_says_the_colour(color):
    env = BlockTouch(image_size=16)
    env.reset(seed=1)
    layout = env.world.layout
    env._world = World(layout._replace(agent=layout.squares[color_index(color)] + [0, 60]))
    for _ in range(20):
        _, reward, terminated, truncated, info = env.step(to_normalised(layout.squares[color_index(color)]))
        if terminated:
            break
        assert (reward, info) == (0.0, {})
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info == {"success": True, "behaviors": (color,), "details": {"cube_contacted": color_index(color)}}
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(2))


def test_leaving_the_world_ends_the_episode_with_minus_one():
    env = BlockTouch(image_size=16, layout="around_the_column")
    env.reset(seed=0)
    outwards = np.sign(env.world.position - 256) * 1.5
    for _ in range(30):
        obs, reward, terminated, _, info = env.step(outwards)
        assert env.observation_space.contains(obs)
        if terminated:
            break
    assert (reward, terminated, info) == (-1.0, True, {"success": False, "behaviors": ()})
    assert env.world.outside


@pytest.mark.parametrize("action", [np.array([np.nan, 0]), np.array([0, np.inf]), np.zeros(3), np.zeros((1, 2)), np.array(0.0)])
def test_an_action_that_is_not_two_numbers_is_refused(action):
    env = BlockTouch(image_size=16)
    env.reset(seed=0)
    with pytest.raises(UserError, match="two finite numbers"):
        env.step(action)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"layout": "late"}, "unknown layout 'late'.*late_decision"),
        ({"image_size": 3}, "at least 16"),
        ({"target": 4}, "from 0 to 3, not 4"),
        ({"render_mode": "human"}, "unknown render mode 'human'"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_environment_is_made(kwargs, message):
    with pytest.raises(UserError, match=message):
        BlockTouch(**kwargs)


def test_a_wrong_colour_is_answered_with_the_colours_that_exist():
    with pytest.raises(UserError, match="unknown colour 'gren'; did you mean 'green'"):
        color_index("gren")


# --- physics -------------------------------------------------------------------------------------------------------------------------------------


def control_law(place: np.ndarray, speed: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The published controller, written out."""
    aim = 0.5 * (action + 1) * 512
    for _ in range(10):
        speed = speed + np.clip(100 * (aim - place) - 20 * speed, -1000, 1000) * 0.01
        place = place + speed * 0.01
    return place, speed


def gap_to_square(place: np.ndarray, layout: Layout, index: int) -> float:
    """From a point to a rotated square's edge; 0 inside."""
    cos, sin = np.cos(layout.rotations[index]), np.sin(layout.rotations[index])
    own = np.array([[cos, sin], [-sin, cos]]) @ (place - layout.squares[index])
    return float(np.linalg.norm(np.maximum(np.abs(own) - 20, 0)))


def test_the_agent_moves_by_the_published_control_law():
    compared = 0
    for seed in range(10):
        world = World(draw_layout("random", rng(seed)))
        place, speed = world.position, world.velocity
        for action in rng(seed + 100).uniform(-0.9, 0.9, (30, 2)):
            world.move(action)
            if world.touched is not None or world.outside:
                break
            place, speed = control_law(place, speed, action)
            np.testing.assert_allclose(world.position, place, atol=1e-9)
            np.testing.assert_allclose(world.velocity, speed, atol=1e-9)
            compared += 1
    assert compared > 60


def test_a_touch_is_the_first_moment_of_overlap():
    for seed in range(12):
        layout = draw_layout("random", rng(seed))
        target = seed % 4
        world = World(layout)
        while world.touched is None and not world.outside:
            before = world.position
            assert min(gap_to_square(before, layout, index) for index in range(4)) > 20 - 1e-9
            world.move(to_normalised(layout.squares[target]))
        gaps = [gap_to_square(world.position, layout, index) for index in range(4)]
        assert world.touched == int(np.argmin(gaps))
        assert 10 < min(gaps) < 20 + 1e-6


# --- pictures ------------------------------------------------------------------------------------------------------------------------------------


def painted(layout: Layout, agent: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture, pixel centre by pixel centre, and which pixels are clear of every edge."""
    centres = (np.arange(size) + 0.5) * 512 / size
    x, y = np.meshgrid(centres, centres)
    picture, clear = np.full((size, size, 3), 255, np.uint8), np.full((size, size), True)
    for index, color in enumerate(COLORS.values()):
        cos, sin = np.cos(layout.rotations[index]), np.sin(layout.rotations[index])
        dx, dy = x - layout.squares[index, 0], y - layout.squares[index, 1]
        edge = np.maximum(np.abs(cos * dx + sin * dy), np.abs(cos * dy - sin * dx)) - 20
        picture[edge < 0] = color
        clear &= np.abs(edge) > 1e-6
    edge = np.hypot(x - agent[0], y - agent[1]) - 20
    picture[edge < 0] = 0
    return picture, clear & (np.abs(edge) > 1e-6)


@pytest.mark.parametrize("size", [16, 64, 100, 128])
def test_pictures_agree_with_a_picture_painted_pixel_by_pixel(size):
    edges = np.array([[0, 0], [512, 512], [3, 300], [505, 20], [-30, 100]], np.float64)
    for seed, name in enumerate(LAYOUTS):
        layout = draw_layout(name, rng(seed))
        agents = np.concatenate([layout.agent[None], rng(seed).uniform(0, 512, (4, 2)), edges])
        for agent, frame in zip(agents, Picture(layout, size).frames(agents), strict=True):
            expected, clear = painted(layout, agent, size)
            np.testing.assert_array_equal(frame[clear], expected[clear])


def test_a_smooth_picture_is_the_mean_of_a_larger_one():
    layout = draw_layout("random", rng(3))
    smooth = Picture(layout, 64, samples=4).frames(layout.agent[None])[0]
    large = painted(layout, layout.agent, 256)[0].astype(float)
    np.testing.assert_allclose(smooth, large.reshape(64, 4, 64, 4, 3).mean((1, 3)), atol=0.51)


def test_rendering_gives_a_larger_picture_of_the_same_scene():
    env = BlockTouch(image_size=32)
    env.reset(seed=0)
    large = env.render()
    assert large.shape == (256, 256, 3) and large.dtype == np.uint8
    x, y = (env.world.position / 2).astype(int)
    assert large[y, x].tolist() == [0, 0, 0]
    assert BlockTouch(render_mode=None).render() is None


# --- layouts -------------------------------------------------------------------------------------------------------------------------------------

REGIONS = {  # places of the squares, reach around them on either axis; agent's place and reach
    "early_decision": ([(128, 128), (128, 384), (384, 384), (384, 128)], [(90, 90)] * 4, (255, 255), 70),
    "late_decision": ([(100, 340), (100, 420), (150, 460), (230, 460)], [(0, 25), (0, 25), (25, 0), (25, 0)], (420, 120), 70),
    "cube_blockade": ([(60, 250), (320, 250), (320, 450), (320, 60)], [(60, 60)] * 4, (450, 250), 60),
    "around_the_column": ([(240, 240), (240, 300), (300, 300), (300, 240)], [(25, 25)] * 4, (270, 270), 215),
}


@EVERYWHERE
def test_nothing_overlaps_at_the_start_and_all_colours_change_places(name):
    layouts = [draw_layout(name, rng(seed)) for seed in range(60)]
    for layout in layouts:
        assert np.linalg.norm(layout.squares - layout.agent, axis=1).min() >= 60
        assert not squares_overlap(layout)
        assert np.abs(to_normalised(np.concatenate([layout.agent[None], layout.squares]))).max() <= 1
    assert len({layout.squares[0].tobytes() for layout in layouts}) == 60
    assert np.abs([layout.rotations for layout in layouts]).max() > 3


def test_random_points_lie_in_their_range_and_apart():
    points = np.stack([np.concatenate([layout.agent[None], layout.squares]) for layout in (draw_layout("random", rng(seed)) for seed in range(100))])
    assert points.min() >= 40 and points.max() <= 470
    gaps = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1) + 1e9 * np.eye(5)
    assert gaps.min() >= 60
    assert points.min() < 50 and points.max() > 460


@pytest.mark.parametrize("name", REGIONS)
def test_test_layouts_lie_in_their_regions(name):
    places, reach, agent, agent_reach = REGIONS[name]
    used = set()
    for seed in range(60):
        layout = draw_layout(name, rng(seed))
        fits = np.all(np.abs(layout.squares[:, None] - np.array(places)) <= np.array(reach) + 1e-9, axis=-1)  # (square, place)
        assert fits.any(0).all() and fits.any(1).all()
        assert np.abs(layout.agent - agent).max() <= agent_reach
        used.add(int(fits[0].argmax()))
    assert used == ({0} if name == "cube_blockade" else {0, 1, 2, 3})


@pytest.mark.parametrize("target", range(4))
def test_the_target_is_behind_the_blockade_and_opposite_at_the_column(target):
    for seed in range(30):
        blockade = draw_layout("cube_blockade", rng(seed), target=target)
        assert blockade.squares[:, 0].argmin() == target  # behind the fence, seen from the agent
        column = draw_layout("around_the_column", rng(seed), target=target)
        assert (np.sign(column.agent - 270) == -np.sign(column.squares[target] - 270)).all()
    env = BlockTouch(layout="cube_blockade", image_size=16)
    env.reset(seed=4, options={"target": target})
    expected = BlockTouch(layout="cube_blockade", image_size=16, target=target)
    expected.reset(seed=4)
    np.testing.assert_array_equal(env.world.layout.squares, expected.world.layout.squares)


@pytest.mark.parametrize(("apart", "turned", "overlap"), [((39, 0), 0, True), ((41, 0), 0, False), ((41, 0), 0.25, True), ((41, 41), 0.25, False)])
def test_squares_overlap_when_no_side_separates_them(apart, turned, overlap):
    squares = np.array([(100, 100), (100 + apart[0], 100 + apart[1]), (300, 300), (400, 400)], np.float64)
    assert squares_overlap(Layout(np.zeros(2), squares, np.pi * np.array([0, turned, 0, 0], np.float64))) == overlap


# --- scripted players and the collector ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "least"), [("random", 0.97), ("early_decision", 0.97), ("late_decision", 0.97), ("cube_blockade", 0.9), ("around_the_column", 0.8)]
)
def test_the_scripted_player_reaches_almost_every_target(name, least):
    reached = [play(draw_layout(name, rng(seed), target=target), target, rng(seed)).successful for seed in range(6) for target in range(4)]
    assert np.mean(reached) >= least


def test_the_winding_player_goes_through_other_places_and_still_arrives_mostly():
    plays = [play(draw_layout("random", rng(seed)), seed % 4, rng(seed), path="winding") for seed in range(16)]
    assert np.mean([one.successful for one in plays]) > 0.7
    with pytest.raises(UserError, match="unknown path 'bent'"):
        play(plays[0].layout, 0, rng(), path="bent")


def test_a_curve_starts_and_ends_at_its_outer_control_points():
    controls = rng().uniform(-1, 1, (3, 4, 2))
    points = bezier(controls, 21)
    np.testing.assert_allclose(points[:, [0, -1]], controls[:, [0, -1]], atol=1e-12)
    halfway = controls.transpose(0, 2, 1) @ (np.array([1, 3, 3, 1]) / 8)
    np.testing.assert_allclose(points[:, 10], halfway, atol=1e-12)


def test_actions_advance_at_constant_speed():
    played = play(draw_layout("random", rng(8)), 0, rng(8))
    steps = np.linalg.norm(np.diff(played.actions, axis=0), axis=1)
    assert np.abs(steps - 1 / 25).max() < 0.006 + 2 * np.sqrt(2) * ACTION_NOISE


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("collect_scripted_data_pymunk", SCRIPTS / "collect_scripted_data_pymunk.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def collect(folder: Path, *flags: str) -> Path:
    script().main(["--output_folder", str(folder), "--dataset_obs", "--image_size", "32", "--processes", "1", *flags])
    return folder / "data.hdf5"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return collect(tmp_path_factory.mktemp("collected"), "--n_rollouts", "22", "--repeat_environment", "--keep_only_successful", "--seed", "5")


def test_collected_episodes_are_what_the_environment_shows(dataset):
    with EpisodeFile(dataset) as file:
        env = gym.make(file.env_meta["env_name"], **file.env_meta["env_kwargs"]).unwrapped
        file.check(list(file.obs_shapes))
        for one in list(file)[:8]:
            target = color_index(one.attrs["target"])
            obs, _ = env.reset(seed=0, options={"layout_seed": one.attrs["layout_seed"], "target": target})
            for frame, action in enumerate(one.actions):
                stored = {key: value[frame] for key, value in one.obs.items()}
                assert stored.pop("label").tolist() == [target]
                assert_same(stored, obs)
                obs, _, over, _, info = env.step(action)
                assert over == (frame == len(one.actions) - 1)
            assert info["behaviors"] == (one.attrs["behavior"],) == (one.attrs["target"],)


def test_almost_every_layout_comes_with_every_target(dataset):
    with EpisodeFile(dataset) as file:
        attrs = [file.attrs(name) for name in file.names]
    targets: dict[int, list[str]] = {}
    for one in attrs:
        targets.setdefault(one["layout_seed"], []).append(one["behavior"])
    assert len(targets) == 6
    assert len(attrs) >= 21
    assert sum(sorted(seen) == sorted(COLOR_NAMES) for seen in targets.values()) >= 4  # the sixth layout has two rollouts only


def test_the_report_counts_what_is_in_the_file(dataset):
    report = json.loads((dataset.parent / "config.json").read_text())
    with EpisodeFile(dataset) as file:
        lengths, behaviors = file.lengths, [file.attrs(name)["behavior"] for name in file.names]
    assert report["rollouts"] == 22 == report["episodes"] + sum(report["failed"].values())
    assert report["touched"] == {color: behaviors.count(color) for color in COLOR_NAMES}
    assert report["frames"] == lengths.sum() and report["length"]["longest"] == lengths.max()
    assert report["settings"]["seed"] == 5 and report["episodes_per_second"] > 0


def test_the_number_of_processes_does_not_change_the_data(dataset, tmp_path):
    flags = ["--n_rollouts", "22", "--repeat_environment", "--keep_only_successful", "--seed", "5", "--processes", "3"]
    with EpisodeFile(dataset) as first, EpisodeFile(collect(tmp_path, *flags)) as second:
        assert first.names == second.names
        for one, two in zip(first, second, strict=True):
            assert one.attrs == two.attrs
            assert_same({**one.obs, "actions": one.actions}, {**two.obs, "actions": two.actions})


def test_fewer_rollouts_are_the_beginning_of_more():
    short, long = (list(rollouts(Collection(count, seed=2, image_size=16, every_target=False))) for count in (3, 6))
    for one, two in zip(short, long, strict=False):
        assert_same(one.obs, two.obs)
    assert len({one.play.target for one in long}) > 1


def test_without_the_flag_failed_episodes_stay_and_are_marked(tmp_path):
    path = collect(tmp_path, "--n_rollouts", "6", "--horizon", "3")
    with EpisodeFile(path) as file:
        attrs = [file.attrs(name) for name in file.names]
    assert len(attrs) == 6
    assert not any(one["success"] for one in attrs) and not any("behavior" in one for one in attrs)


def test_without_images_only_numbers_are_stored(tmp_path):
    script().main(["--output_folder", str(tmp_path), "--n_rollouts", "2", "--processes", "1"])
    with EpisodeFile(tmp_path / "data.hdf5") as file:
        assert set(file.obs_shapes) == {"agent_pos", "states", "label"}


def test_a_video_of_the_first_episodes(tmp_path):
    collect(tmp_path, "--n_rollouts", "2", "--video_path", str(tmp_path / "videos/first.mp4"), "--video_skip", "5")
    assert (tmp_path / "videos/first.mp4").stat().st_size > 1000


def test_a_collection_that_breaks_off_leaves_no_file(tmp_path, monkeypatch):
    whole = collecting.of_layout

    def breaking(wanted, number):
        if number == 2:
            raise KeyboardInterrupt
        return whole(wanted, number)

    monkeypatch.setattr(collecting, "of_layout", breaking)
    with pytest.raises(SystemExit, match="130"):
        collect(tmp_path, "--n_rollouts", "4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_stops_a_collection_between_two_rollouts(processes):
    handler = signal.getsignal(signal.SIGINT)
    running = rollouts(Collection(40, image_size=16), processes=processes)
    next(running)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        next(running)
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layout", "late"], "unknown layout 'late'"),
        (["--path", "bent"], "unknown path 'bent'"),
        (["--n_rollouts", "0"], "rollouts must be at least 1"),
        (["--horizon", "0"], "horizon must be at least 1"),
        (["--image_size", "2"], "image_size must be at least 16"),
        (["--processes", "0"], "processes must be at least 1"),
        (["--video_skip", "0"], "--video_skip must be at least 1"),
        (["--camera_names", "wrist"], "unknown camera 'wrist'"),
        (["--env_config", "nowhere.json"], "nowhere.json does not exist"),
        (["--horizon", "2", "--keep_only_successful", "--n_rollouts", "2"], "none of 2 episodes"),
        (["--video_path", "/proc/none/video.mp4", "--n_rollouts", "1"], "cannot write to the folder"),
    ],
)
def test_bad_input_is_one_clear_line_and_no_file(tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        collect(tmp_path, *flags)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "data.hdf5").exists() and not list(tmp_path.glob(".*"))


def test_the_published_configuration_is_accepted(tmp_path):
    config = json.loads((SCRIPTS / "touchcubes.json").read_text())
    assert read_env_config(SCRIPTS / "touchcubes.json") == {}
    config["env_meta"]["env_kwargs"] = {"layout": "late_decision", "image_size": 16}
    config["shape_meta"]["all_shapes"]["image"] = [3, 224, 224]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert read_env_config(path) == {"layout": "late_decision", "image_size": 16}
    script().main(["--output_folder", str(tmp_path), "--dataset_obs", "--n_rollouts", "1", "--processes", "1", "--env_config", str(path)])
    with EpisodeFile(tmp_path / "data.hdf5") as file:
        assert file.obs_shapes["image"] == (16, 16, 3) and file.env_meta["env_kwargs"]["layout"] == "late_decision"


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["env_meta"], 3, "expected an object 'env_meta'"),
        (["env_meta", "env_name"], "PushT", "unknown environment 'PushT'"),
        (["env_meta", "env_kwargs"], {"size": 3}, "unknown setting 'size'"),
        (["env_meta", "env_kwargs"], {"image_size": "64"}, "must be a whole number"),
        (["shape_meta", "ac_dim"], 7, "ac_dim is 7"),
        (["shape_meta", "use_depths"], True, "no depth camera"),
        (["shape_meta", "all_shapes", "states"], [6], "states has the shape"),
        (["shape_meta", "all_shapes", "image"], [3, 64], "image has the shape"),
        (["shape_meta", "all_shapes", "gripper"], [1], "unknown observation 'gripper'"),
    ],
)
def test_a_configuration_for_something_else_is_refused(tmp_path, keys, value, message):
    config = json.loads((SCRIPTS / "touchcubes.json").read_text())
    group = config
    for key in keys[:-1]:
        group = group[key]
    group[keys[-1]] = value
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        read_env_config(path)


def test_normalised_and_world_coordinates_are_each_others_inverse():
    np.testing.assert_allclose(to_world(np.array([-1.0, 1.0])), [0, 512])
    np.testing.assert_allclose(to_normalised(to_world(np.array([0.3, -0.7]))), [0.3, -0.7])
