"""The scripted players do what they are told, from random scenes and poses; the full table is benchmarks/calvin_players.py."""

import numpy as np
import pytest

from dynaguide_calvin import scene as facts
from dynaguide_calvin.detector import ended_by
from dynaguide_calvin.env import PlayTableEnv
from dynaguide_calvin.players import LONGEST, Manner, feasible, play_behavior

FAST = Manner(images=False)


@pytest.fixture(scope="module")
def env() -> PlayTableEnv:
    made = PlayTableEnv(cameras={})
    yield made
    made.close()


def from_start(env: PlayTableEnv, behavior: str, seed: int):
    """A try from the first random start in which the behaviour is possible."""
    for number in range(200):
        env.reset(seed=1000 * seed + number, options={"setup": {}, "robot": "random", "cubes": "table_only"})
        if behavior in feasible(env.states, env.scene):
            return play_behavior(env, behavior, np.random.default_rng(seed), FAST)
    raise AssertionError(f"{behavior} is never possible")


@pytest.mark.parametrize("behavior", facts.BEHAVIORS)
def test_every_behaviour_comes_about(env, behavior):
    played = [from_start(env, behavior, seed) for seed in range(4)]
    assert sum(one.success for one in played) >= (4 if behavior in facts.ARTICULATED else 3)
    for one in played:
        assert one.actions.shape == (len(one.states) - 1, facts.ACTIONS) == (len(one.proprio) - 1, facts.ACTIONS)
        assert len(one.actions) <= LONGEST
        assert np.abs(one.actions).max() <= 1


def test_the_same_random_numbers_play_the_same(env):
    one, again = (from_start(env, "door_left", 3) for _ in range(2))
    np.testing.assert_array_equal(one.actions, again.actions)
    np.testing.assert_array_equal(one.states, again.states)


def test_players_vary(env):
    lengths = {len(from_start(env, "button_on", seed).actions) for seed in range(4)}
    assert len(lengths) > 1


def test_what_is_possible_follows_from_the_scene(env):
    env.reset(seed=0, options={"setup": {"drawer": "open", "sliding_door": "left", "switch": "on", "green_light": "off"}, "cubes": "table_only"})
    found = feasible(env.states, env.scene)
    assert {"drawer_close", "door_right", "switch_off", "button_on", "red_displace"} <= set(found)
    assert not {"drawer_open", "door_left", "switch_on", "button_off"} & set(found)


def test_cubes_in_the_cabinet_are_out_of_reach(env):
    states = np.zeros(facts.STATES)
    for index, cube in enumerate(facts.CUBES):
        states[facts.CUBE_POSITIONS[cube]] = (-0.05 + 0.09 * index, 0.09, facts.CUBE_REST)
    env.reset(seed=0, options={"scene": states, "cubes": "keep"})
    assert not [name for name in feasible(env.states, env.scene) if name in facts.CUBE_BEHAVIORS]


@pytest.mark.parametrize(("x", "y", "possible"), [(-0.31, 0.05, False), (-0.31, 0.1, True), (-0.2, 0.05, True), (0.2, -0.1, True)])
def test_a_cube_in_the_corner_that_the_door_goes_to_jams_it(env, x, y, possible):
    env.reset(seed=0, options={"setup": {"sliding_door": "right"}, "cubes": "table_only"})
    states = env.states.copy()
    states[facts.CUBE_POSITIONS["blue"]] = (x, y, facts.CUBE_REST)
    assert ("door_left" in feasible(states, env.scene)) == possible


def test_a_player_that_rests_leaves_what_it_did(env):
    env.reset(seed=5, options={"setup": {"drawer": "closed"}, "robot": "random"})
    played = play_behavior(env, "drawer_open", np.random.default_rng(0), Manner(images=False, rest=True))
    assert played.success
    assert len(played.actions) > played.over
    assert "drawer_open" in ended_by(played.states[0], played.states[-1], played.proprio[-1])


@pytest.mark.parametrize("scene", ["A", "B", "C"])
def test_players_know_where_the_furniture_of_other_scenes_stands(scene):
    env = PlayTableEnv(scene=scene, cameras={})
    succeeded = [from_start(env, behavior, 1).success for behavior in facts.ARTICULATED]
    env.close()
    assert sum(succeeded) >= 7
