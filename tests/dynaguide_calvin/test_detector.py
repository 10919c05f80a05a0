"""What the one detector sees in trajectories that are written down."""

import numpy as np
import pytest

from dynaguide.errors import UserError
from dynaguide_calvin import detector
from dynaguide_calvin import scene as facts
from dynaguide_calvin.detector import DONE, OTHER, TOUCHED, achieved, disturbed, ended_by, first_behavior, label, segments

FAR = np.array([0.0, -0.3, 0.7])
ENDS = {
    "button_on": (facts.LED, 0, 1),
    "button_off": (facts.LED, 1, 0),
    "switch_on": (facts.SWITCH, 0, 0.085),
    "switch_off": (facts.SWITCH, 0.085, 0),
    "drawer_open": (facts.DRAWER, 0, 0.16),
    "drawer_close": (facts.DRAWER, 0.16, 0),
    "door_left": (facts.DOOR, 0, 0.27),
    "door_right": (facts.DOOR, 0.27, 0),
}


def scene(**parts: float) -> np.ndarray:
    states = np.zeros(facts.STATES)
    for index, cube in enumerate(facts.CUBES):
        states[facts.CUBE_POSITIONS[cube]] = (0.05 + 0.1 * index, -0.1, facts.CUBE_REST)
    for name, value in parts.items():
        states[getattr(facts, name.upper())] = value
    return states


def robot(at=FAR) -> np.ndarray:
    proprio = np.zeros(facts.PROPRIO)
    proprio[facts.TCP] = at
    return proprio


def travel(behavior: str, frames: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """The part goes from one end to the other, with rest before and after."""
    index, start, end = ENDS[behavior]
    states = np.repeat(scene()[None], frames + 30, axis=0)
    way = np.concatenate([np.full(15, start), np.linspace(start, end, frames), np.full(15, end)])
    states[:, index] = np.round(way) if index == facts.LED else way
    if index == facts.LED:
        states[15 : 15 + frames, facts.BUTTON] = 0.02 * np.sin(np.linspace(0, np.pi, frames))
    return states, np.repeat(robot()[None], len(states), axis=0)


@pytest.mark.parametrize("behavior", ENDS)
def test_a_part_that_goes_to_its_other_end_is_named_by_every_rule(behavior):
    states, proprio = travel(behavior)
    assert ended_by(states[0], states[-1], proprio[-1]) == (behavior,)
    assert first_behavior(states, proprio, DONE) == first_behavior(states, proprio, TOUCHED) == (behavior,)
    assert achieved(behavior, states[0], states[-1], proprio[-1])
    assert label(states[0], states[-1], proprio[-1]) == behavior
    assert [segment.behavior for segment in segments(states, proprio)] == [behavior]


def test_button_on_is_not_called_button_off():
    assert ended_by(scene(led=0), scene(led=1), robot()) == ("button_on",)
    assert ended_by(scene(led=1), scene(led=0), robot()) == ("button_off",)


def test_less_than_half_the_way_is_nothing_done_but_something_touched():
    states = np.stack([scene(), scene(drawer=0.07)])
    proprio = np.stack([robot(), robot()])
    assert first_behavior(states, proprio, DONE) == ()
    assert first_behavior(states, proprio, TOUCHED) == ("drawer_open",)


@pytest.mark.parametrize("way", [(0.02, 0), (-0.02, 0), (0, 0.02), (0, -0.02)])
def test_a_cube_pushed_in_any_direction_is_displaced(way):
    """The published code only sees pushes towards positive x and y."""
    after = scene()
    after[facts.CUBE_POSITIONS["blue"]][:2] += way
    near = robot(after[facts.CUBE_POSITIONS["blue"]])
    assert ended_by(scene(), after, near) == ("blue_displace",)
    assert label(scene(), after, near) == "blue_displace"
    assert ended_by(scene(), after, robot()) == ()  # nobody was near


def test_a_cube_in_the_hand_is_a_lift_and_one_that_flies_is_not():
    after = scene()
    after[facts.CUBE_POSITIONS["red"]] += (0, 0, 0.05)
    assert label(scene(), after, robot(after[facts.CUBE_POSITIONS["red"]])) == "red_lift"
    assert label(scene(), after, robot()) == OTHER


def test_what_comes_first_counts():
    states = np.stack([scene(), scene(door=0.2), scene(door=0.2, drawer=0.16)])
    proprio = np.stack([robot()] * 3)
    assert first_behavior(states, proprio) == ("door_left",)


def test_what_was_moved_besides_is_named():
    after = scene(drawer=0.16, door=0.1)
    after[facts.CUBE_POSITIONS["pink"]][0] += 0.01
    assert disturbed("drawer_open", scene(), after) == ("door_left",)
    assert disturbed("drawer_open", scene(), after, cubes=True) == ("door_left", "pink")
    assert disturbed("pink_displace", scene(), after, cubes=True) == ("door_left", "drawer_open")


def test_play_is_cut_where_things_come_to_rest():
    parts = [travel("drawer_open"), travel("button_on")]
    parts[1][0][:, facts.DRAWER] = 0.16
    states, proprio = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    found = segments(states, proprio)
    assert [segment.behavior for segment in found] == ["drawer_open", "button_on"]
    assert found[0].start == 0
    assert found[0].end == found[1].start + 1


def test_a_lift_is_cut_at_once_and_putting_down_is_no_behaviour():
    states = np.repeat(scene()[None], 90, axis=0)
    height = np.concatenate([np.zeros(20), np.linspace(0, 0.08, 20), np.full(10, 0.08), np.linspace(0.08, 0, 20), np.zeros(20)])
    states[:, facts.CUBE_POSITIONS["red"].start + 2] += height
    proprio = np.repeat(robot()[None], 90, axis=0)
    proprio[:, facts.TCP] = states[:, facts.CUBE_POSITIONS["red"]]
    found = segments(states, proprio)
    assert [segment.behavior for segment in found] == ["red_lift", OTHER, OTHER]
    assert found[0].end < 40


def test_nothing_happens_in_play_without_motion():
    assert segments(np.repeat(scene()[None], 50, axis=0), np.repeat(robot()[None], 50, axis=0)) == []


def test_unknown_behaviours_are_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"unknown behaviour 'drawer_opn'; did you mean 'drawer_open'"):
        achieved("drawer_opn", scene(), scene(), robot())


def test_counts_name_every_behaviour():
    assert detector.counted(["red_lift", "red_lift", "other"]) == {
        name: 2 * (name == "red_lift") + (name == "other") for name in (*facts.BEHAVIORS, OTHER)
    }
