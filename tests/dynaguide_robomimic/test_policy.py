"""The diffusion policy at tiny size: shapes, the seam, crops, its two file formats, and what they refuse."""

import json
import os

import pytest
import torch
from worlds import GOAL_CONDITIONED, tiny

from dynaguide import Steering, UserError, ascend, best_of, checkpoint, sample_actions
from dynaguide.randomness import generator
from dynaguide_robomimic.checkpoints import export_robomimic, load_policy, save_policy
from dynaguide_robomimic.config import config_from
from dynaguide_robomimic.crops import centre_crop, random_crop
from dynaguide_robomimic.policy import DiffusionPolicy, Shapes

META = {"env_name": "dynaguide/TwoWays-v0", "env_kwargs": {"image_size": 16}}


def make(**changes) -> DiffusionPolicy:
    torch.manual_seed(0)
    config = config_from(tiny(**changes), "tiny")
    image = {"image": (3, 16, 16)}
    return DiffusionPolicy(config, Shapes(2, {"agent_pos": (2,), **image}, image if config.train.goal_mode else {})).eval()


def observe(batch: int = 3, goal: bool = False) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    obs = {"agent_pos": torch.rand(batch, 2, 2), "image": torch.randint(0, 256, (batch, 2, 3, 16, 16), dtype=torch.uint8)}
    return {**obs, "goal/image": torch.rand(batch, 1, 3, 16, 16)} if goal else obs


def sample(policy: DiffusionPolicy, obs: dict[str, torch.Tensor], **slots) -> torch.Tensor:
    return sample_actions(policy, obs, Steering(**slots), [generator(row) for row in range(len(obs["agent_pos"]))])


def middle(obs, actions):
    return -actions.square().mean((1, 2))


@pytest.mark.parametrize(
    "changes", [{}, GOAL_CONDITIONED, {"algo.ddim.enabled": False, "algo.ddpm": {"enabled": True, "num_inference_timesteps": 20}}]
)
def test_a_policy_is_sampled_and_steered(changes):
    policy, obs = make(**changes), observe(goal="train.goal_mode" in changes)
    assert sample(policy, obs).shape == (3, 16, 2)
    guided = sample(policy, obs, guidance=ascend(middle, 20.0), select=best_of(middle), candidates=3)
    assert (middle(obs, guided) > middle(obs, sample(policy, obs))).all()


def test_a_batch_is_its_rows_one_by_one():
    policy, obs = make(), observe()
    together = sample(policy, obs, guidance=ascend(middle, 5.0))
    for row in range(3):
        rows = {key: value[row : row + 1] for key, value in obs.items()}
        alone = sample_actions(policy, rows, Steering(guidance=ascend(middle, 5.0)), [generator(row)])
        torch.testing.assert_close(alone[0], together[row], atol=1e-4, rtol=1e-4)


def test_bytes_and_floats_are_the_same_image():
    obs = observe()
    floats = {**obs, "image": obs["image"].float() / 255}
    torch.testing.assert_close(make().encode(obs), make().encode(floats))


def test_every_observation_and_the_goal_matter():
    policy, obs = make(**GOAL_CONDITIONED), observe(goal=True)
    for key in obs:
        changed = {**obs, key: torch.zeros_like(obs[key])}
        assert not torch.allclose(policy.encode(changed), policy.encode(obs)), key


def test_crops():
    images = torch.arange(2 * 3 * 6 * 7, dtype=torch.float32).reshape(2, 3, 6, 7)
    assert torch.equal(centre_crop(images, (4, 3)), images[..., 1:5, 2:5])
    torch.manual_seed(0)
    windows = [images[row, :, top : top + 4, left : left + 3] for row in range(2) for top in range(3) for left in range(5)]
    for _ in range(20):
        for crop in random_crop(images, (4, 3)):
            assert any(torch.equal(crop, window) for window in windows)


@pytest.mark.parametrize("changes", [{}, GOAL_CONDITIONED])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_policy_comes_back_from_either_format(tmp_path, changes, suffix):
    policy, obs = make(**changes), observe(goal=bool(changes))
    if suffix == ".safetensors":
        policy.encoders["obs"].normalise("agent_pos", torch.tensor([0.1, 0.2]), torch.tensor([2.0, 3.0]))
    path = tmp_path / f"policy{suffix}"
    (save_policy if suffix == ".safetensors" else export_robomimic)(path, policy, META)
    loaded, meta = load_policy(path)
    assert meta == META
    assert loaded.shapes == policy.shapes
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    torch.testing.assert_close(sample(loaded, obs), sample(policy, obs))


def robomimic_content(tmp_path) -> dict:
    export_robomimic(tmp_path / "p.pth", make(), META)
    return torch.load(tmp_path / "p.pth", weights_only=True)


def test_normalisation_stored_by_robomimic_is_used(tmp_path):
    content = robomimic_content(tmp_path)
    content["obs_normalization_stats"] = {"agent_pos": {"mean": [[0.5, 0.5]], "std": [[2.0, 2.0]]}}
    torch.save(content, tmp_path / "n.pth")
    loaded, plain = load_policy(tmp_path / "n.pth").policy, load_policy(tmp_path / "p.pth").policy
    obs = observe()
    shifted = {**obs, "agent_pos": (obs["agent_pos"] - 0.5) / 2}
    torch.testing.assert_close(loaded.encode(obs), plain.encode(shifted))


def test_error_with_checkpoints_of_another_kind(tmp_path):
    torch.save({"weights": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="checkpoint of another kind"):
        load_policy(tmp_path / "other.pth")
    torch.save({**robomimic_content(tmp_path), "algo_name": "bc"}, tmp_path / "bc.pth")
    with pytest.raises(UserError, match="holds a bc"):
        load_policy(tmp_path / "bc.pth")
    checkpoint.save(tmp_path / "d.safetensors", "dynamics model", {}, {"a": torch.ones(1)})
    with pytest.raises(UserError, match="holds a dynamics model, not a diffusion policy"):
        load_policy(tmp_path / "d.safetensors")
    with pytest.raises(UserError, match="does not exist"):
        load_policy(tmp_path / "none.pth")


def test_error_with_weights_that_do_not_fit_their_config(tmp_path):
    content = robomimic_content(tmp_path)
    config = json.loads(content["config"])
    config["algo"]["unet"]["down_dims"] = [16, 32]
    torch.save({**content, "config": json.dumps(config)}, tmp_path / "wrong.pth")
    with pytest.raises(UserError, match="has shape .* the model needs"):
        load_policy(tmp_path / "wrong.pth")
    content["model"]["ema"]["shadow_params"].pop()
    torch.save(content, tmp_path / "short.pth")
    with pytest.raises(UserError, match="averaged weights do not fit"):
        load_policy(tmp_path / "short.pth")


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_error_with_a_checkpoint_that_would_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Harmful()}, "bad.pth")
    with pytest.raises(UserError, match="would run code"):
        load_policy("bad.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": torch.zeros(3, 2, 3, 20, 20)}, r"trained on image of shape \(2, 3, 16, 16\)"),
        ({"agent_pos": torch.zeros(3, 1, 2)}, r"trained on agent_pos of shape \(2, 2\)"),
    ],
)
def test_error_with_an_observation_of_another_shape(change, message):
    with pytest.raises(UserError, match=message):
        sample(make(), {**observe(), **change})


def test_error_with_a_missing_observation():
    with pytest.raises(UserError, match="needs the observation 'goal/image'"):
        sample(make(**GOAL_CONDITIONED), observe())


def test_error_when_the_crop_is_larger_than_the_image():
    crop = {
        "observation.encoder.rgb.obs_randomizer_class": "CropRandomizer",
        "observation.encoder.rgb.obs_randomizer_kwargs": {"crop_height": 20, "crop_width": 8},
    }
    with pytest.raises(UserError, match="crops image to 20 x 8, but its images are 16 x 16"):
        make(**crop)


def test_error_with_an_unknown_noise_schedule():
    with pytest.raises(UserError, match="beta_schedule 'cosine'"):
        make(**{"algo.ddim.beta_schedule": "cosine"})
