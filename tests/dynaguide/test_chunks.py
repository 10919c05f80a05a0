"""Training windows, against a plain statement of what they should hold."""

import numpy as np
import pytest
import torch

from dynaguide import UserError
from dynaguide.chunks import BatchOrder, ChunkDataset, Windows, batches
from dynaguide.episodes import EpisodeFile, EpisodeWriter, split

LENGTHS = (3, 9, 1, 20)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("chunks") / "data.hdf5"
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, {}) as writer:
        for length in LENGTHS:
            image, pose = rng.integers(0, 256, (length, 6, 5, 3), np.uint8), rng.normal(size=(length, 4)).astype(np.float32)
            writer.add(rng.uniform(-1, 1, (length, 2)).astype(np.float32), {"image": image, "pose": pose})
    split(path, ratio=0.25)
    return path


def plain_window(file: EpisodeFile, name: str, t: int, windows: Windows):
    """One window, written as one would explain it."""
    episode = file.episode(name)
    last = len(episode.actions) - 1
    frames = [max(0, t - back) for back in reversed(range(windows.history))]
    chunk = []
    for step in range(t + windows.offset, t + windows.offset + windows.horizon):
        inside = 0 <= step <= last
        chunk.append(episode.actions[min(max(step, 0), last)] if inside or windows.padding == "repeat" else np.zeros(2, np.float32))
    after = last if windows.outcome == "last" else min(t + windows.offset + windows.horizon, last)
    return episode.obs["pose"][frames], episode.obs["image"][frames], np.stack(chunk), episode.obs["image"][after]


@pytest.mark.parametrize("padding", ["repeat", "zeros"])
@pytest.mark.parametrize("outcome", ["last", "chunk"])
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(("history", "offset"), [(2, -1), (1, 0), (3, 0)])
def test_every_window_is_what_it_says(path, padding, outcome, cached, history, offset):
    windows = Windows(history, 8, offset, padding, outcome)
    data = ChunkDataset(path, ["pose", "image"], windows, outcome_keys=["image"], cache_images=cached)
    assert len(data) == sum(LENGTHS)
    batch = data.batch(np.arange(len(data)))
    row = 0
    with EpisodeFile(path) as file:
        for name, length in zip(file.names, LENGTHS, strict=True):
            for t in range(length):
                pose, image, chunk, after = plain_window(file, name, t, windows)
                np.testing.assert_array_equal(batch.obs["pose"][row], pose)
                np.testing.assert_array_equal(batch.obs["image"][row], image.transpose(0, 3, 1, 2))
                np.testing.assert_array_equal(batch.actions[row], chunk)
                np.testing.assert_array_equal(batch.outcome["image"][row, 0], after.transpose(2, 0, 1))
                assert data.step(np.array([row])).tolist() == [t]
                assert data.steps_left(np.array([row])).tolist() == [length - t]
                row += 1


def test_pictures_of_ends_alone_lie_in_memory(path):
    data = ChunkDataset(path, ["pose"], Windows(outcome="last"), outcome_keys=["image"], cache_images=False)
    assert data.images_cached  # nothing is left for worker processes to read
    everything = ChunkDataset(path, ["pose", "image"], Windows(outcome="last"), outcome_keys=["image"])
    every = np.arange(len(data))
    torch.testing.assert_close(data.batch(every).outcome, everything.batch(every).outcome, atol=0, rtol=0)
    after_chunk = ChunkDataset(path, ["pose"], Windows(outcome="chunk"), outcome_keys=["image"], cache_images=False)
    assert not after_chunk.images_cached


def test_images_stay_bytes_and_channels_come_first(path):
    batch = ChunkDataset(path, ["image"], Windows()).batch(np.array([0, 5]))
    assert batch.obs["image"].dtype == torch.uint8
    assert batch.obs["image"].shape == (2, 2, 3, 6, 5)


def test_a_split_is_respected(path):
    train, valid = (ChunkDataset(path, ["pose"], Windows(), split=name) for name in ("train", "valid"))
    assert len(train) + len(valid) == sum(LENGTHS)
    assert not set(train.names) & set(valid.names)


def test_an_epoch_shows_every_window_once_and_the_next_in_another_order():
    order = BatchOrder(windows=33, batch_size=11, seed=4)
    first, second = ([index for step in steps for index in order.indices(step)] for steps in (range(3), range(3, 6)))
    assert sorted(first) == sorted(second) == list(range(33))
    assert first != second
    assert order.indices(4) == BatchOrder(33, 11, 4).indices(4)


def test_processes_share_a_steps_windows():
    whole = BatchOrder(40, 8, seed=1).indices(3)
    shares = [BatchOrder(40, 4, seed=1, processes=2, process=rank).indices(3) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == sorted(whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_started_in_the_middle_gives_the_same_batches(path, workers):
    data = ChunkDataset(path, ["pose", "image"], Windows(), cache_images=False)
    order = BatchOrder(len(data), 7, seed=0)
    whole = list(batches(data, order, stop=6, workers=workers))
    rest = list(batches(data, order, start=4, stop=6, workers=workers))
    assert len(whole) == 6
    for one, other in zip(whole[4:], rest, strict=True):
        assert torch.equal(one.obs["image"], other.obs["image"])
        assert torch.equal(one.actions, other.actions)


def test_error_with_outcome_keys_but_no_outcome(path):
    with pytest.raises(UserError, match="outcome"):
        ChunkDataset(path, ["pose"], Windows(), outcome_keys=["image"])
