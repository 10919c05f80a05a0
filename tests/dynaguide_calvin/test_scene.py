"""The one place for slices, ranges and measures is consistent with itself."""

import numpy as np
import pytest

from dynaguide import UserError
from dynaguide_calvin import scene as facts


def test_slices_cover_the_states():
    covered = [*range(6), *(index for at in facts.CUBE_SLICES.values() for index in range(at.start, at.stop))]
    assert covered == list(range(facts.STATES))
    assert len(facts.BEHAVIORS) == 14 and set(facts.ARTICULATED) | set(facts.CUBE_BEHAVIORS) == set(facts.BEHAVIORS)


def test_a_named_part_leaves_the_other_draws_alone():
    free = facts.setup_states({}, np.random.default_rng(3))
    named = facts.setup_states({"drawer": "open" if free[facts.DRAWER] == 0 else "closed"}, np.random.default_rng(3))
    assert free[facts.DRAWER] != named[facts.DRAWER]
    assert np.array_equal(np.delete(free, facts.DRAWER), np.delete(named, facts.DRAWER))


def test_the_bulb_follows_the_switch():
    for seed in range(8):
        states = facts.setup_states({}, np.random.default_rng(seed))
        assert states[facts.BULB] == (states[facts.SWITCH] > facts.SWITCH_ON)


def test_handles_move_with_their_joints():
    for scene in facts.SCENES.values():
        np.testing.assert_allclose(scene.door_handle(0.1) - scene.door_handle(0.0), (-0.1, 0, 0), atol=1e-12)
        np.testing.assert_allclose(scene.drawer_handle(0.1) - scene.drawer_handle(0.0), (0, -0.1, 0), atol=1e-12)
        assert np.linalg.norm(scene.switch_handle(0.088) - scene.switch_handle(0.0)) == pytest.approx(0.088)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(UserError, match="known: A, B, C, D"):
        facts.scene_named("Z")
    with pytest.raises(UserError, match="did you mean 'drawer_open'"):
        facts.behavior_named("drawer_opn")
