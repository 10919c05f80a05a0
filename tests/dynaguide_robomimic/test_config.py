"""robomimic's configurations: those shipped and published load; mistakes are named."""

import json
import logging

import pytest
from worlds import GOAL_CONDITIONED, ROOT, tiny

from dynaguide import UserError
from dynaguide_robomimic.config import config_from, load_config
from published import SHARED


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.json")), ids=lambda path: path.stem)
def test_every_shipped_config_loads_without_a_word(path, caplog):
    with caplog.at_level(logging.INFO):
        load_config(path)
    assert not caplog.records


@pytest.mark.skipif(not (SHARED / "formats").exists(), reason="the published files are not on this machine")
@pytest.mark.parametrize("name", ["calvin_ddim", "calvin_ddim_gc", "munk_ddim"])
def test_published_configs_load_and_what_has_no_effect_is_listed_once(name, caplog):
    with caplog.at_level(logging.INFO):
        config = load_config(SHARED / "formats" / f"diffusion_policy_image_{name}.json")
    assert config.algo.unet.down_dims == (256, 512, 1024)
    assert config.algo.horizon.prediction_horizon == 16
    (record,) = caplog.records
    assert "train.hdf5_use_swmr" in record.message
    assert "observation.encoder.depth" in record.message


@pytest.mark.skipif(not (SHARED / "formats").exists(), reason="the published files are not on this machine")
@pytest.mark.parametrize("name", ["calvin_ddim", "calvin_ddim_gc", "munk_ddim"])
def test_shipped_configs_at_the_papers_size_are_the_published_ones(name):
    ours, theirs = (load_config(folder / f"diffusion_policy_image_{name}.json") for folder in (ROOT / "configs", SHARED / "formats"))
    for part in ("unet", "horizon", "ddim", "ema", "optim_params"):
        assert getattr(ours.algo, part) == getattr(theirs.algo, part)
    assert ours.observation.modalities == theirs.observation.modalities
    assert ours.observation.encoder.rgb.core_kwargs == theirs.observation.encoder.rgb.core_kwargs
    assert ours.observation.encoder.rgb.obs_randomizer_class == theirs.observation.encoder.rgb.obs_randomizer_class
    assert ours.train.batch_size == theirs.train.batch_size


def test_a_config_survives_its_journey_through_a_checkpoint():
    config = config_from(tiny(**GOAL_CONDITIONED), "file")
    assert config_from(json.loads(json.dumps(config.to_dict())), "file") == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.batchsize": 3}, "unknown key in train 'batchsize'; did you mean 'batch_size'"),
        ({"algo.unet.down_dim": [8]}, "did you mean 'down_dims'"),
        ({"train.batch_size": "16"}, "train.batch_size must be a whole number, not str '16'"),
        ({"train.batch_size": 0}, "at least 1"),
        ({"algo.ddim.prediction_type": "sample"}, "must predict the noise: prediction_type 'epsilon', not 'sample'"),
        ({"algo.ddim.enabled": False}, "exactly one of"),
        ({"train.frame_stack": 3}, "train.frame_stack .3. must equal"),
        ({"train.seq_length": 16}, "train.seq_length"),
        ({"algo.horizon.prediction_horizon": 15, "train.seq_length": 14}, "multiple of 2"),
        ({"algo.unet.down_dims": [6, 12]}, "multiple of algo.unet.n_groups"),
        ({"train.goal_mode": "last"}, "needs train.goal_mode"),
        ({"observation.modalities.obs": {}}, "names no observation"),
        ({"observation.encoder.rgb.core_kwargs.backbone_class": "ResNet50Conv"}, "'ResNet18Conv' or 'PixelConv'"),
        ({"algo_name": "bc"}, "algo_name must be 'diffusion_policy'"),
    ],
)
def test_error_with_a_config_that_cannot_work(change, message):
    with pytest.raises(UserError, match=message):
        config_from(tiny(**change), "file.json")


def test_error_names_the_file_and_the_line_of_broken_json(tmp_path):
    (tmp_path / "c.json").write_text('{\n"train": {,}\n}')
    with pytest.raises(UserError, match="c.json is not JSON: .* at line 2"):
        load_config(tmp_path / "c.json")
