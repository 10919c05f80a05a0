"""With PyPI's robomimic installed (an optional extra): it reads our files, and its encoder and ours agree on the same weights."""

import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from worlds import tiny, write_episodes

from dynaguide.chunks import ChunkDataset, Windows
from dynaguide_robomimic.checkpoints import _our_name, export_robomimic
from dynaguide_robomimic.config import config_from
from dynaguide_robomimic.networks import replace_batchnorm
from dynaguide_robomimic.policy import DiffusionPolicy, Shapes

dataset = pytest.importorskip("robomimic.utils.dataset", reason="robomimic is not installed (pip install -e 'robomimic[robomimic]')")


@pytest.fixture(autouse=True)
def modalities():
    import robomimic.utils.obs_utils as ObsUtils

    ObsUtils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": ["agent_pos"], "rgb": ["image"]}})


def test_its_sequence_dataset_reads_what_we_write(tmp_path):
    path = write_episodes(tmp_path / "data.hdf5")
    theirs = dataset.SequenceDataset(
        hdf5_path=str(path),
        obs_keys=("agent_pos", "image"),
        dataset_keys=("actions",),
        frame_stack=2,
        seq_length=15,
        pad_frame_stack=True,
        pad_seq_length=True,
        hdf5_use_swmr=False,
        load_next_obs=False,
        filter_by_attribute="train",
    )
    ours = ChunkDataset(path, ["agent_pos", "image"], Windows(2, 16, -1, "repeat"), split="train")
    assert len(theirs) == len(ours)
    batch = ours.batch(np.arange(len(ours)))
    for index in range(len(ours)):
        item = theirs[index]
        np.testing.assert_array_equal(item["actions"], batch.actions[index])
        np.testing.assert_array_equal(item["obs"]["agent_pos"][:2], batch.obs["agent_pos"][index])
        np.testing.assert_array_equal(item["obs"]["image"][:2].transpose(0, 3, 1, 2), batch.obs["image"][index])


def test_its_encoder_gives_the_same_features(tmp_path):
    import robomimic.utils.tensor_utils as TensorUtils
    from robomimic.config import config_factory
    from robomimic.models.obs_nets import ObservationGroupEncoder
    from robomimic.utils.obs_utils import obs_encoder_kwargs_from_config

    resnet = {"observation.encoder.rgb": {"core_kwargs": {"feature_dimension": 64, "backbone_class": "ResNet18Conv"}}}
    shapes = {"agent_pos": (2,), "image": (3, 96, 96)}
    policy = DiffusionPolicy(config_from(tiny(**resnet), "tiny"), Shapes(2, shapes, {})).eval()
    export_robomimic(tmp_path / "p.pth", policy, {})
    stored = torch.load(tmp_path / "p.pth", weights_only=True)

    config = config_factory("bc")
    with config.values_unlocked():
        encoder_config = json.loads(stored["config"])["observation"]["encoder"]["rgb"]["core_kwargs"]
        encoder_config["backbone_kwargs"].pop("channels")
        config.observation.encoder.rgb.core_class = "VisualCore"
        config.observation.encoder.rgb.core_kwargs = encoder_config
    theirs = ObservationGroupEncoder(OrderedDict(obs=OrderedDict(shapes)), encoder_kwargs=obs_encoder_kwargs_from_config(config.observation.encoder))
    replace_batchnorm(theirs.eval())
    prefix = "policy.obs_encoder."
    theirs.load_state_dict({name.removeprefix(prefix): value for name, value in stored["model"]["nets"].items() if name.startswith(prefix)})
    obs = {"agent_pos": torch.rand(3, 2, 2), "image": torch.rand(3, 2, 3, 96, 96)}
    with torch.no_grad():
        features = TensorUtils.time_distributed({"obs": obs}, theirs, inputs_as_kwargs=True)
    torch.testing.assert_close(policy.encode(obs), features.flatten(1), atol=1e-5, rtol=1e-5)
    assert all(_our_name(name) != name for name in stored["model"]["nets"])
