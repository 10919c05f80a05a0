"""Play: the same from a seed whatever makes it, on disk in CALVIN's layout and back, and cut into what was played."""

import numpy as np
import pytest

from dynaguide.errors import UserError
from dynaguide_calvin import scene as facts
from dynaguide_calvin.play import Wanted, demonstrations, stretches
from dynaguide_calvin.recordings import Recording, RecordingWriter, frame_path

SMALL = {facts.THIRD_PERSON: 32, facts.EYE_IN_HAND: 32}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Two stretches of play in CALVIN's layout."""
    folder = tmp_path_factory.mktemp("play")
    wanted = Wanted(seed=3, cameras=SMALL, behaviors=facts.ARTICULATED)
    writer = RecordingWriter(folder, wanted.env("D").env_meta())
    for stretch in stretches(wanted, range(2), length=250):
        writer.add(stretch)
    return folder, writer.played


def test_all_behaviours_of_a_start_begin_alike():
    (tried,) = demonstrations(Wanted(seed=1, cameras=SMALL, behaviors=facts.ARTICULATED), range(1), per_start=4)
    assert tried.tries == 4
    first = [one.played for one in tried.kept]
    assert len({one.behavior for one in first}) == len(first) >= 3
    for one in first[1:]:
        np.testing.assert_array_equal(one.states[0], first[0].states[0])
        np.testing.assert_array_equal(one.proprio[0], first[0].proprio[0])
        np.testing.assert_array_equal(one.observations[0][facts.THIRD_PERSON], first[0].observations[0][facts.THIRD_PERSON])


def test_processes_play_what_one_process_plays():
    wanted = Wanted(seed=2, cameras=SMALL, behaviors=("button_on", "button_off"))
    alone, shared = (list(demonstrations(wanted, range(3), per_start=1, processes=count)) for count in (1, 2))
    assert [len(one.kept) for one in alone] == [len(one.kept) for one in shared]
    for one, other in zip(alone, shared, strict=True):
        for a, b in zip(one.kept, other.kept, strict=True):
            np.testing.assert_array_equal(a.played.actions, b.played.actions)
            np.testing.assert_array_equal(a.played.observations[-1][facts.EYE_IN_HAND], b.played.observations[-1][facts.EYE_IN_HAND])


def test_behaviours_can_be_left_out_and_weighted():
    wanted = Wanted(cameras=SMALL, weights={"button_on": 0.0, "drawer_open": 3.0}, behaviors=("button_on", "drawer_open"))
    assert wanted.weight("button_on") == wanted.weight("door_left") == 0
    assert wanted.weight("drawer_open") == 3
    with pytest.raises(UserError, match="every behaviour is left out"):
        Wanted(weights={"door_left": 0.0}, behaviors=("door_left",))
    with pytest.raises(UserError, match="did you mean 'door_left'"):
        Wanted(weights={"door_lft": 1.0})


def test_play_in_calvins_layout_has_its_keys_and_shapes(recording):
    folder, played = recording
    with np.load(frame_path(folder, 7)) as frame:
        shapes = {key: frame[key].shape for key in frame.files}
        assert shapes == {
            "rgb_static": (32, 32, 3),
            "rgb_gripper": (32, 32, 3),
            "robot_obs": (15,),
            "scene_obs": (24,),
            "actions": (7,),
            "rel_actions": (7,),
        }
    ids = np.load(folder / "ep_start_end_ids.npy")
    assert ids.tolist() == [[one["first"], one["last"]] for one in played]
    assert ids[1, 0] == ids[0, 1] + 1


def test_relative_actions_lead_from_one_absolute_target_to_the_next(recording):
    folder, _ = recording
    for number in range(10, 20):
        with np.load(frame_path(folder, number)) as before, np.load(frame_path(folder, number + 1)) as after:
            way = after["actions"][:3] - before["actions"][:3]
            np.testing.assert_allclose(way, after["rel_actions"][:3] * facts.POSITION_STEP, atol=1e-6)


def test_cutting_play_gives_back_what_was_played(recording):
    folder, played = recording
    meant = [entry["behavior"] for stretch in played for entry in stretch["behaviors"] if entry["success"]]
    cut = [segment.behavior for segment in Recording(folder).segments() if segment.behavior in facts.ARTICULATED]
    assert sum(cut.count(name) >= meant.count(name) for name in set(meant)) >= len(set(meant)) - 1
    assert len(cut) >= 0.9 * len(meant)


def test_broken_and_missing_frames_are_skipped_and_counted(recording, tmp_path):
    folder, _ = recording
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    frame_path(tmp_path, 30).unlink()
    frame_path(tmp_path, 80).write_bytes(frame_path(tmp_path, 80).read_bytes()[:200])
    whole, damaged = Recording(folder), Recording(tmp_path)
    found = list(damaged.segments())
    assert damaged.lost == [30, 80]
    assert 0 < len(found) <= len(list(whole.segments())) + 2


def test_a_folder_that_is_no_recording_is_named(tmp_path):
    with pytest.raises(UserError, match=r"is not a CALVIN recording: it has no ep_start_end_ids.npy"):
        Recording(tmp_path)
    (tmp_path / "ep_start_end_ids.npy").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be read"):
        Recording(tmp_path)
