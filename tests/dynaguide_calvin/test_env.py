"""The play table as a Gymnasium environment: spaces, control, furniture, cubes, determinism, and what it refuses."""

import multiprocessing
import os
import shutil
import subprocess
import sys

import gymnasium as gym
import hand
import imageio.v3 as iio
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import dynaguide_calvin
from dynaguide import UserError
from dynaguide_calvin import scene as facts
from dynaguide_calvin.env import PlayTableEnv

OPEN = {"sliding_door": "left", "drawer": "open", "switch": "on", "green_light": "on"}
CLOSED = {"sliding_door": "right", "drawer": "closed", "switch": "off", "green_light": "off"}


@pytest.fixture(scope="module")
def env():
    made = PlayTableEnv(cameras=())
    yield made
    made.close()


def start(env, setup=CLOSED, seed: int = 0, **options):
    env.reset(seed=seed, options={"setup": setup, "cubes": "table_only", **options})
    return env


def journey(env, steps: int = 60, seed: int = 5) -> np.ndarray:
    """Random motion low over the table, among cubes."""
    rng = np.random.default_rng(seed)
    seen = []
    for _ in range(steps):
        action = rng.uniform(-1, 1, 7)
        action[2] -= 0.3
        env.step(action)
        seen.append(np.concatenate([env.states, env.proprio]))
    return np.array(seen)


def test_gymnasiums_checker_passes():
    made = gym.make(dynaguide_calvin.PLAY_TABLE, cameras={"third_person": 32, "eye_in_hand": 24})
    check_env(made.unwrapped, skip_render_check=True)
    obs, _ = made.reset(seed=0)
    assert {key: (value.shape, value.dtype.name) for key, value in obs.items()} == {
        "third_person": ((32, 32, 3), "uint8"),
        "eye_in_hand": ((24, 24, 3), "uint8"),
        "proprio": ((15,), "float32"),
        "states": ((24,), "float32"),
    }
    made.close()


def test_the_gripper_starts_where_the_public_environments_does(env):
    env.reset(seed=0)
    np.testing.assert_allclose(env.proprio[facts.TCP], (0.0259, -0.2313, 0.5713), atol=1e-3)
    np.testing.assert_allclose(env.proprio[facts.EULER], (3.090, -0.029, 1.500), atol=1e-3)
    np.testing.assert_allclose(env.proprio[facts.JOINTS], facts.HOME_JOINTS, atol=1e-3)
    assert env.proprio[facts.WIDTH] == pytest.approx(0.08, abs=1e-3)


def test_relative_actions_add_up_on_the_target_pose(env):
    start(env)
    before = env.target
    for _ in range(5):
        env.step(np.array([0.5, -1, 0.25, 0, 0, 1, 1]))
    np.testing.assert_allclose(env.target.position - before.position, 5 * 0.02 * np.array([0.5, -1, 0.25]), atol=1e-12)
    np.testing.assert_allclose(env.target.euler - before.euler, [0, 0, 0.25], atol=1e-12)
    for _ in range(25):
        env.step(np.array([0, 0, 0, 0, 0, 0, 1]))
    np.testing.assert_allclose(env.proprio[facts.TCP], env.target.position, atol=2e-3)


def test_absolute_and_relative_actions_agree(env):
    start(env)
    action = np.array([0.3, 0.2, -0.5, 0.1, -0.2, 0.3, -1])
    env.step(action)
    relative = env.proprio
    start(env)
    target = env.target
    env.step_absolute(target.position + 0.02 * action[:3], target.euler + 0.05 * action[3:6], -1.0)
    assert np.array_equal(env.proprio, relative)


def test_the_button_goes_down_and_up_and_toggles_the_led_once(env):
    played = hand.press_button(start(env))
    assert played.seen(facts.BUTTON).max() > 0.018
    assert env.states[facts.BUTTON] < 0.002
    assert np.abs(np.diff(played.seen(facts.LED))).sum() == 1 and env.states[facts.LED] == 1
    hand.press_button(env)
    assert env.states[facts.LED] == 0


def test_the_drawer_opens_and_closes(env):
    assert hand.open_drawer(start(env)).seen(facts.DRAWER).max() > 0.2
    hand.Hand(env).go(env.proprio[facts.TCP] + (0, 0, 0.15))
    start(env, OPEN)
    assert env.states[facts.DRAWER] > 0.155
    hand.close_drawer(env)
    assert env.states[facts.DRAWER] < 0.01


def test_the_door_slides_both_ways(env):
    assert hand.slide_door(start(env), -1).seen(facts.DOOR).max() > 0.27
    hand.slide_door(start(env, OPEN), 1)
    assert env.states[facts.DOOR] < 0.01


def test_the_switch_moves_over_its_range_and_the_bulb_follows(env):
    played = hand.push_switch(start(env), 1)
    assert played.seen(facts.SWITCH).max() > 0.082
    assert env.states[facts.BULB] == 1
    start(env, OPEN)
    assert env.states[facts.BULB] == 1 and env.states[facts.SWITCH] > 0.08
    hand.push_switch(env, -1)
    assert env.states[facts.SWITCH] < 0.01 and env.states[facts.BULB] == 0


@pytest.mark.parametrize("cube", facts.CUBES)
def test_cubes_can_be_lifted_and_stay_in_the_hand(env, cube):
    start(env, seed=2)
    before = env.states[facts.CUBE_POSITIONS[cube]][2]
    played = hand.lift(env, cube)
    assert env.states[facts.CUBE_POSITIONS[cube]][2] > before + 0.04
    env.restore_state(env.save_state())
    played.go(env.target.position + (0.05, -0.05, 0.0)).hold(-1.0, 60)
    assert env.states[facts.CUBE_POSITIONS[cube]][2] > before + 0.04
    assert np.linalg.norm(env.states[facts.CUBE_POSITIONS[cube]] - env.proprio[facts.TCP]) < 0.03
    held = env.states[facts.CUBE_POSITIONS[cube]][2]
    played.hold(1.0, 30)
    assert env.states[facts.CUBE_POSITIONS[cube]][2] < held - 0.03


def test_a_cube_left_alone_stays_where_it_is(env):
    start(env)
    before = env.states
    for _ in range(60):
        env.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    np.testing.assert_allclose(env.states, before, atol=1e-3)


def test_a_seed_fixes_everything_whatever_happened_before(env):
    env.reset(seed=3)
    first = journey(env)
    env.reset(seed=3)
    assert np.array_equal(journey(env), first)
    other = PlayTableEnv(cameras={"third_person": 16}, renderer="tiny")
    other.reset(seed=3)
    assert np.array_equal(journey(other), first)  # pictures do not touch the physics
    other.close()
    env.reset(seed=4)
    assert not np.array_equal(journey(env), first)


def _journey_in_a_process(seed: int) -> np.ndarray:
    made = PlayTableEnv(cameras=())
    made.reset(seed=seed)
    return journey(made)


def test_processes_agree_bit_for_bit(env):
    env.reset(seed=6)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(_journey_in_a_process, (6,)), journey(env))


def test_a_saved_state_is_the_whole_state(env):
    for seed in range(4):
        start(env, seed=seed)
        cube = env.states[facts.CUBE_POSITIONS["red"]]
        hand.Hand(env).go(cube + (0.0, 0.02, 0.01))  # in the middle of pushing it
        saved, now = env.save_state(), env.states
        first = journey(env, 30)
        random = env.np_random.random()
        env.restore_state(saved)
        assert np.array_equal(env.states, now)
        assert np.array_equal(journey(env, 30), first) and env.np_random.random() == random
        env.reset(seed=9)
        journey(env, 10)
        env.restore_state(saved)
        assert np.array_equal(journey(env, 30), first)


def test_reset_puts_everything_where_it_is_told(env):
    start(env, OPEN, seed=1)
    journey(env, 20)
    states, proprio = env.states, env.proprio
    env.reset(options={"scene": states, "robot": proprio, "cubes": "keep"})
    np.testing.assert_allclose(env.states, states, atol=3e-3)
    np.testing.assert_allclose(env.proprio, proprio, atol=3e-3)
    env.reset(seed=0, options={"scene": states, "robot": proprio})
    assert np.abs(env.states[6:] - states[6:]).max() > 0.02
    np.testing.assert_allclose(env.states[:6], states[:6], atol=3e-3)


def test_cubes_are_put_on_surfaces_apart_from_each_other(env):
    surfaces = env.scene.surfaces.values()
    for seed in range(20):
        env.reset(seed=seed)
        places = [env.states[at] for at in facts.CUBE_POSITIONS.values()]
        assert all(any((place[:2] >= low[:2]).all() and (place[:2] <= high[:2]).all() for low, high in surfaces) for place in places)
        assert min(np.linalg.norm(one - other) for i, one in enumerate(places) for other in places[:i]) > 0.038
        env.reset(seed=seed, options={"cubes": "table_only"})
        assert all(env.states[at][1] < 0 for at in facts.CUBE_POSITIONS.values())


def test_a_random_start_is_above_the_table_and_touches_nothing(env):
    for seed in range(10):
        env.reset(seed=seed, options={"robot": "random"})
        low, high = facts.START_LOW - 5e-3, facts.START_HIGH + 5e-3
        assert ((env.proprio[facts.TCP] > low) & (env.proprio[facts.TCP] < high)).all()
        assert not env.world.bullet.getContactPoints(env.world.robot.body, env.world.furniture)


def test_a_setup_is_kept_and_the_rest_is_drawn(env):
    drawn = []
    for seed in range(30):
        env.reset(seed=seed, options={"setup": {"drawer": "open", "green_light": 0}})
        parts = facts.binary(env.states)
        assert parts["drawer"] and not parts["green_light"]
        drawn.append((parts["sliding_door"], parts["switch"]))
    assert set(drawn) == {(False, False), (False, True), (True, False), (True, True)}


def test_stop_ends_an_episode():
    seen = []

    def stop(first, last, proprio):
        seen.append((first.shape, last.shape, proprio.shape))
        return ("button_on",) if last[facts.LED] > first[facts.LED] else ()

    made = PlayTableEnv(cameras=(), stop=stop)
    start(made)
    top = made.scene.button_top()
    hand.Hand(made).go(top + (0, 0, 0.06))
    for _ in range(40):
        *_, reward, over, _, info = made.step(np.array([0, 0, -0.5, 0, 0, 0, -1]))
        if over:
            break
    assert over and reward == 1 and info == {"success": True, "behaviors": ("button_on",)}
    assert set(seen) == {((24,), (24,), (15,))}
    made.close()


def test_goals_come_from_image_files(env, tmp_path):
    for shade in (0, 255):
        iio.imwrite(tmp_path / f"{shade}.png", np.full((20, 20, 3), shade, np.uint8))
    env.set_goal([tmp_path / "0.png", tmp_path / "255.png"])
    drawn = [env.get_goal()["third_person"] for _ in range(20)]
    assert all(goal.shape == (1, 3, 20, 20) and goal.dtype == np.float32 for goal in drawn)
    assert {float(goal.max()) for goal in drawn} == {0.0, 1.0}
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(UserError, match=r"bad\.png"):
        env.set_goal([tmp_path / "bad.png"])


def test_metadata_rebuilds_the_environment():
    made = PlayTableEnv(scene="B", cameras={"third_person": 32}, renderer="tiny")
    meta = made.env_meta()
    again = dynaguide_calvin.make_env(meta)
    assert again.unwrapped.env_meta() == meta and meta["env_kwargs"]["renderer"] == "tiny"
    pictures = [one.reset(seed=1)[0]["third_person"] for one in (made, again)]
    assert np.array_equal(*pictures)
    made.close()
    again.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scene": np.zeros(23)}, "24 finite numbers"),
        ({"scene": [np.nan] * 24}, "24 finite numbers"),
        ({"scene": np.eye(24)[0]}, r"door.*between 0 and 0\.28"),
        ({"scene": 0.5 * np.eye(24)[5]}, "0 or 1"),
        ({"scene": 9 * np.eye(24)[6]}, "red cube"),
        ({"robot": 4 * np.eye(15)[10]}, "joint 4"),
        ({"robot": np.zeros(3)}, "15 finite numbers"),
        ({"robot": "anywhere"}, "random"),
        ({"cubes": "gone"}, "table_only"),
        ({"cubes": "keep"}, "needs a scene"),
        ({"setup": {"drawr": "open"}}, "did you mean 'drawer'"),
        ({"setup": {"drawer": "ajar"}}, "closed, open"),
        ({"setup": {"drawer": 0.5}}, "between 0"),
        ({"setup": {}, "shuffle": True}, "option of reset"),
    ],
)
def test_reset_says_what_is_wrong(env, options, message):
    with pytest.raises(UserError, match=message):
        env.reset(seed=0, options=options)


def test_actions_of_a_wrong_shape_or_with_nan_are_refused(env):
    start(env)
    for action in (np.zeros(6), np.zeros((1, 7)), np.array([0, 0, 0, np.nan, 0, 0, 0])):
        with pytest.raises(UserError, match="7 finite numbers"):
            env.step(action)
    with pytest.raises(UserError, match="absolute action"):
        env.step_absolute((0, 0), (0, 0, 0), 1.0)


def test_arguments_that_do_not_exist_are_refused():
    for arguments, message in (
        ({"scene": "E"}, "known: A, B, C, D"),
        ({"cameras": {"fisheye": 84}}, "camera 'fisheye'"),
        ({"cameras": {"third_person": 4}}, "at least 16"),
        ({"end_on": "never"}, "behavior"),
    ):
        with pytest.raises(UserError, match=message):
            PlayTableEnv(**arguments)
    with pytest.raises(UserError, match="renderer"):
        PlayTableEnv(renderer="vulkan").reset(seed=0)
    with pytest.raises(UserError, match="unknown environment"):
        dynaguide_calvin.make_env({"env_name": "Lift"})


def test_the_command_plays_a_behaviour_into_a_video(tmp_path, monkeypatch, capsys):
    from dynaguide_calvin.__main__ import main

    monkeypatch.setenv("DISPLAY", ":4321")  # nobody answers there
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no window can be opened"):
        PlayTableEnv(render_mode="human")
    main(["--behavior", "button_on", "--renderer", "tiny"])
    assert iio.imread(tmp_path / "play_table.mp4").shape[1:] == (200, 400, 3)
    with pytest.raises(SystemExit):
        main(["--behavior", "button_onn"])
    assert "did you mean 'button_on'" in capsys.readouterr().err


WINDOW = """
from dynaguide_calvin import scene as facts
from dynaguide_calvin.bullet import PhysicsError
from dynaguide_calvin.env import PlayTableEnv

env = PlayTableEnv(cameras=(), render_mode="human")
world = env.world
for word in ("on", "off"):
    env.reset(seed=0, options={"setup": {"switch": word}})
    body, link = world.lights[facts.BULB]
    print(next(shape[7][:3] for shape in world.bullet.getVisualShapeData(body) if shape[1] == link))
world.bullet.disconnect()
try:
    env.step([0] * 7)
except PhysicsError:
    print("closed")
"""


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb for a window")
def test_a_window_shows_the_lights_and_may_be_closed_at_any_time(monkeypatch):
    read, write = os.pipe()
    with subprocess.Popen(["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24"], pass_fds=[write], stderr=subprocess.DEVNULL) as server:
        try:
            os.close(write)
            monkeypatch.setenv("DISPLAY", f":{os.read(read, 16).decode().strip()}")
            lines = subprocess.run([sys.executable, "-c", WINDOW], stdout=subprocess.PIPE, text=True, timeout=120).stdout.splitlines()
        finally:
            os.close(read)
            server.terminate()
    on, off = (str(tuple(map(float, color))) for color in (facts.BULB_COLOR, facts.LIGHT_OFF))
    assert [line for line in lines if line in (on, off, "closed")] == [on, off, "closed"]
