"""The cache of frozen features: what it holds, how it is made, and how training windows read it."""

import json

import numpy as np
import pytest
import torch
from dot_world import write

from dynaguide.chunks import ChunkDataset, Windows
from dynaguide.encoders.patches import PatchEncoder, PatchEncoderConfig
from dynaguide.episodes import EpisodeFile, split
from dynaguide.errors import UserError
from dynaguide.features import FeatureCache, token_key

EPISODES, FRAMES = 5, 16
KEY = token_key("camera")


class Watched(PatchEncoder):
    """Counts the pictures that it encodes; stops, as if somebody pressed Ctrl-C, before it exceeds `limit`."""

    seen, limit = 0, 10_000

    def tokens(self, images):
        if self.seen + len(images) > self.limit:
            raise KeyboardInterrupt
        self.seen += len(images)
        return super().tokens(images)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Watched(PatchEncoderConfig(32, (4, 8))).requires_grad_(False).eval()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("features") / "data.hdf5", EPISODES, 0)
    split(path, ratio=0.4)
    return path


def pictures(data, name):
    with EpisodeFile(data) as file:
        return torch.from_numpy(file.read(name, "camera")).movedim(-1, -3)


def test_it_holds_the_encoders_tokens_in_half_precision_and_leaves_them_on_disk(data, encoder, tmp_path):
    frames = FeatureCache(data, "camera", encoder, tmp_path).complete().frames()
    assert isinstance(frames.stored, np.memmap)
    assert frames.stored.dtype == np.float16
    assert frames.stored.shape == (EPISODES * FRAMES, encoder.count, encoder.width)
    expected = encoder(pictures(data, "demo_3")).half()
    found = torch.from_numpy(frames[np.arange(3 * FRAMES, 4 * FRAMES)])
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_it_lies_beside_the_data_under_the_encoders_fingerprint(data, encoder):
    cache = FeatureCache(data, "camera", encoder)
    assert cache.folder == data.with_suffix(".features") / f"camera-{encoder.fingerprint}"


def test_every_frame_is_encoded_once_even_if_the_work_is_interrupted(data, encoder, tmp_path):
    encoder.limit = 2 * FRAMES
    with pytest.raises(KeyboardInterrupt):
        FeatureCache(data, "camera", encoder, tmp_path).complete()
    with pytest.raises(UserError, match="not finished"):
        FeatureCache(data, "camera", encoder, tmp_path).frames()
    encoder.limit = 10_000
    resumed = FeatureCache(data, "camera", encoder, tmp_path).complete()
    assert encoder.seen == EPISODES * FRAMES
    resumed.complete()
    FeatureCache(data, "camera", encoder, tmp_path).complete()
    assert encoder.seen == EPISODES * FRAMES
    at_once = FeatureCache(data, "camera", encoder, tmp_path / "at_once").complete()
    np.testing.assert_array_equal(resumed.frames().stored, at_once.frames().stored)


def test_processes_make_what_one_process_makes(data, tmp_path):
    encoder = PatchEncoder(PatchEncoderConfig(32, (4, 8))).requires_grad_(False).eval()
    one = FeatureCache(data, "camera", encoder, tmp_path / "one").complete()
    several = FeatureCache(data, "camera", encoder, tmp_path / "several").complete(workers=2)
    np.testing.assert_array_equal(one.frames().stored, several.frames().stored)
    assert json.loads((several.folder / "done.json").read_text()) == [f"demo_{i}" for i in range(EPISODES)]


def test_two_encoders_share_a_folder(data, tmp_path):
    encoders = [PatchEncoder(PatchEncoderConfig(32, (4, 8))).requires_grad_(False).eval() for _ in range(2)]
    caches = [FeatureCache(data, "camera", encoder, tmp_path).complete() for encoder in encoders]
    assert caches[0].folder != caches[1].folder
    assert not np.array_equal(caches[0].frames().stored, caches[1].frames().stored)


@pytest.mark.parametrize("name", ["train", "valid"])
def test_a_split_reads_its_own_episodes(data, encoder, tmp_path, name):
    cache = FeatureCache(data, "camera", encoder, tmp_path).complete()
    windows = Windows(history=1, horizon=4, offset=0, outcome="last")
    with EpisodeFile(data, split=name) as file:
        names = file.names
    chosen = ChunkDataset(data, [KEY], windows, outcome_keys=[KEY], split=name, computed={KEY: cache.frames(names)})
    first = np.unique(chosen.first)
    assert len(first) == len(names) < EPISODES
    for episode, start in zip(names, first, strict=True):
        expected = encoder(pictures(data, episode)).half()
        batch = chosen.batch(np.array([start + 2]))
        torch.testing.assert_close(batch.obs[KEY][0, 0], expected[2], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(batch.outcome[KEY][0, 0], expected[-1], atol=1e-3, rtol=1e-3)


def test_windows_see_computed_frames_as_they_see_the_pictures(data, encoder, tmp_path):
    """The history is clamped to the episode, the outcome is that after the chunk; the pictures are not read."""
    windows = Windows(history=2, horizon=4, offset=-1, outcome="chunk")
    frames = FeatureCache(data, "camera", encoder, tmp_path).complete().frames()
    computed = ChunkDataset(data, [KEY, "place"], windows, outcome_keys=[KEY], computed={KEY: frames})
    plain = ChunkDataset(data, ["camera", "place"], windows, outcome_keys=["camera"])
    assert "camera" not in computed.shapes
    index = np.array([0, 1, FRAMES - 1, FRAMES, 3 * FRAMES + 7])
    ours, theirs = computed.batch(index), plain.batch(index)
    assert ours.obs[KEY].dtype == torch.float16
    for found, seen in ((ours.obs[KEY], theirs.obs["camera"]), (ours.outcome[KEY], theirs.outcome["camera"])):
        expected = encoder(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])
        torch.testing.assert_close(found.float(), expected, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(ours.obs["place"], theirs.obs["place"])
    torch.testing.assert_close(ours.actions, theirs.actions)


def test_tokens_that_half_precision_cannot_hold_are_refused(data, tmp_path):
    encoder = PatchEncoder(PatchEncoderConfig(32, (4, 8))).requires_grad_(False).eval()
    encoder.scale.fill_(1e-9)
    with pytest.raises(UserError, match="not finite in half precision"):
        FeatureCache(data, "camera", encoder, tmp_path).complete()
    with pytest.raises(UserError, match="not finished"):
        FeatureCache(data, "camera", encoder, tmp_path).frames()
