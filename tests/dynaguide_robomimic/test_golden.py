"""Our policy computes what the published one does, through the public loading path."""

import pytest
import torch

from dynaguide import Steering, sample_actions
from dynaguide.randomness import generator
from dynaguide_robomimic.checkpoints import export_robomimic, load_policy
from dynaguide_robomimic.policy import DiffusionPolicy
from published import golden, needs_golden, policy_checkpoint

pytestmark = needs_golden


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> DiffusionPolicy:
    return load_policy(policy_checkpoint(tmp_path_factory.mktemp("published") / "policy.pth")).policy


@pytest.fixture(scope="module")
def values():
    return golden()


@pytest.fixture(scope="module")
def obs(values):
    return {key: values[f"in_{key}"] for key in ("eye_in_hand", "third_person", "proprio")}


def test_observation_features(policy, values, obs):
    torch.testing.assert_close(policy.encode(obs), values["obs_cond"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("step", [5, 50, 95])
def test_noise_prediction(policy, values, obs, step):
    predicted = policy.given(obs).predict_noise(values["in_noise"], step)
    torch.testing.assert_close(predicted, values[f"noise_pred_t{step}"], atol=1e-4, rtol=0)


def test_unguided_chunk(policy, values, obs):
    steering = Steering(noise=lambda *_: values["in_noise"], consistent_clamp=False)
    torch.testing.assert_close(sample_actions(policy, obs, steering, [generator(0)]), values["ddim10"], atol=1e-4, rtol=0)


def test_plain_weights_where_there_is_no_average(values, obs, policy, tmp_path):
    plain = load_policy(policy_checkpoint(tmp_path / "plain.pth", averaged=False)).policy
    for name, value in policy.state_dict().items():
        assert torch.equal(plain.state_dict()[name], value), name


def test_an_exported_policy_comes_back_the_same(policy, tmp_path):
    export_robomimic(tmp_path / "exported.pth", policy, {"env_name": "PlayTable"})
    again = load_policy(tmp_path / "exported.pth")
    assert again.env_meta == {"env_name": "PlayTable"}
    for name, value in policy.state_dict().items():
        assert torch.equal(again.policy.state_dict()[name], value), name
