"""The options that make a policy small enough for a laptop, and the models for BlockTouch that ship."""

import json

import numpy as np
import pytest
import torch
from worlds import ROOT, tiny

from dynaguide import Steering, UserError, ascend, sample_actions
from dynaguide.chunks import Batch, ChunkDataset, Windows
from dynaguide.classifier import ChunkNoise, load_classifier
from dynaguide.episodes import EpisodeFile, EpisodeWriter
from dynaguide.randomness import generator
from dynaguide.scores import class_score
from dynaguide.steering import moment
from dynaguide_robomimic.checkpoints import export_robomimic, load_policy, save_policy
from dynaguide_robomimic.config import config_from, load_config
from dynaguide_robomimic.envs import make_env
from dynaguide_robomimic.objective import NoisePrediction
from dynaguide_robomimic.policy import DiffusionPolicy, Shapes
from dynaguide_robomimic.train import Tokens, plan_of, shapes_of, training_windows
from scripts import mistake, script

FRAMED = {"algo.action_frame": {"relative_to": "agent_pos", "scale": 1.4}}
SCENE = {
    **FRAMED,
    "train.hdf5_normalize_obs": False,
    "algo.unet": {"enabled": False},
    "algo.scene_mlp": {"enabled": True, "code": 16, "width": 16, "blocks": 2},
    "algo.predicts": "clean",
    "algo.objective": {"draws": 3, "snr_cap": 5.0},
}
MODELS = ROOT / "checkpoints" / "block_touch"


def make(**changes) -> DiffusionPolicy:
    torch.manual_seed(0)
    config = config_from(tiny(**changes), "tiny")
    return DiffusionPolicy(config, Shapes(2, {"agent_pos": (2,), "image": (3, 16, 16)}, {}, 8 if config.algo.scene_mlp.enabled else 0)).eval()


def observe(batch: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"agent_pos": torch.rand(batch, 2, 2) - 0.5, "image": torch.randint(0, 256, (batch, 2, 3, 16, 16), dtype=torch.uint8)}


def some_batch(rows: int = 3) -> Batch:
    obs = {**observe(rows), "states": torch.rand(rows, 2, 8)}
    return Batch(obs, torch.rand(rows, 16, 2) * 2 - 1, {}, torch.arange(rows))


def sample(policy, obs, **slots):
    return sample_actions(policy, obs, Steering(**slots), [generator(row) for row in range(len(obs["agent_pos"]))])


def test_the_frame_of_the_agent_and_back_is_where_one_started():
    policy, obs, actions = make(**FRAMED), observe(), torch.rand(6, 16, 2)
    chunk = policy.to_chunk(actions, obs)
    torch.testing.assert_close(chunk[2:4], (actions[2:4] - obs["agent_pos"][1, -1]) * 1.4)
    torch.testing.assert_close(policy.given(obs).to_actions(chunk), actions)


def test_without_a_frame_actions_are_denoised_as_they_are():
    actions = torch.rand(3, 16, 2)
    assert make().to_chunk(actions, observe()) is actions
    assert make().given(observe()).to_actions(actions) is actions


def test_a_score_sees_the_environments_actions():
    policy, obs, goal = make(**FRAMED), observe(), torch.tensor([0.7, -0.3])
    seen = []

    def near(obs, actions):
        seen.append(actions.detach())
        return -(actions - goal).square().sum((1, 2))

    guided = sample(policy, obs, guidance=ascend(near, 20.0, on="clean_estimate"))
    assert (guided - goal).abs().mean() < 0.5 * (sample(policy, obs) - goal).abs().mean()
    origin, reach = obs["agent_pos"][:, None, -1], policy.config.schedule.clip_sample_range / 1.4
    assert all(((actions - origin).abs() <= reach + 1e-5).all() for actions in seen)


def test_the_classifiers_noise_is_the_policys():
    policy, batch = make(**FRAMED), some_batch()
    steps = torch.tensor([5, 40, 90])
    torch.manual_seed(3)
    noisy = ChunkNoise(relative_to="agent_pos", scale=1.4).at_steps(batch.actions, batch.obs, steps)
    torch.manual_seed(3)
    mine = policy.scheduler.add_noise(policy.to_chunk(batch.actions, batch.obs), torch.randn_like(batch.actions), steps)
    assert (noisy.abs() > 1).any()  # the policy keeps to the range of actions, noise does not
    torch.testing.assert_close(noisy.clamp(-1, 1), policy.to_actions(mine, batch.obs))


@pytest.mark.parametrize("timestep", [9, 49, 89])
def test_a_network_that_puts_out_the_clean_chunk_gives_it_as_the_clean_estimate(timestep):
    policy, obs, noisy = make(**SCENE), observe(), torch.randn(3, 16, 2)
    condition = policy.encode(obs)
    clean = policy.network(noisy, timestep, condition)
    at = moment(policy.scheduler, timestep, noisy, policy.given(obs).predict_noise(noisy, timestep))
    torch.testing.assert_close(at.clean_estimate, clean.clamp(-1, 1), atol=1e-4, rtol=1e-4)


def test_noise_levels_of_a_batch_are_converted_row_by_row():
    policy, obs, noisy, steps = make(**SCENE), observe(), torch.randn(3, 16, 2), torch.tensor([5, 50, 95])
    condition = policy.encode(obs)
    together = policy.predict_noise(noisy, steps, condition)
    for row in range(3):
        alone = policy.predict_noise(noisy[row : row + 1], int(steps[row]), condition[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-4)


def test_a_scene_policy_sees_pictures_places_and_velocity():
    policy, obs = make(**SCENE), observe()
    faster = {**obs, "agent_pos": obs["agent_pos"] - torch.tensor([[[0.1, 0.0], [0.0, 0.0]]])}
    darker = {**obs, "image": obs["image"] // 2}
    before = policy.encode(obs)
    assert not torch.allclose(policy.encode(faster), before)
    assert not torch.allclose(policy.encode(darker), before)
    moved = {**obs, "image": torch.cat([obs["image"][:, :1] // 2, obs["image"][:, 1:]], 1)}
    torch.testing.assert_close(policy.encode(moved), before)  # of the pictures, only the current one


def test_a_batch_of_a_scene_policy_is_its_rows_one_by_one():
    policy, obs = make(**SCENE), observe()
    together = sample(policy, obs)
    for row in range(3):
        alone = sample_actions(policy, {key: value[row : row + 1] for key, value in obs.items()}, Steering(), [generator(row)])
        torch.testing.assert_close(alone[0], together[row], atol=1e-4, rtol=1e-4)


def test_a_stored_scene_policy_acts_the_same_without_the_places_it_learned_from(tmp_path):
    policy = make(**SCENE)
    save_policy(tmp_path / "one.safetensors", policy, {"env_name": "here"})
    loaded = load_policy(tmp_path / "one.safetensors").policy
    assert "states" not in loaded.obs_keys
    torch.testing.assert_close(sample(loaded, observe()), sample(policy, observe()), rtol=0, atol=0)


@pytest.mark.parametrize("changes", [FRAMED, SCENE])
def test_what_robomimics_format_has_no_place_for_is_not_exported(tmp_path, changes):
    with pytest.raises(UserError, match="cannot be exported"):
        export_robomimic(tmp_path / "model.pth", make(**changes), {})
    assert not list(tmp_path.iterdir())


def test_training_a_scene_policy_moves_every_weight_and_lowers_its_loss():
    policy, batch = make(**SCENE).train(), some_batch(8)
    objective, optimizer = NoisePrediction(policy), torch.optim.Adam(policy.parameters(), 3e-3)
    losses = []
    for step in range(60):
        torch.manual_seed(step % 3)
        result = objective(batch)
        optimizer.zero_grad()
        result["loss"].backward()
        assert step or all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in policy.parameters())
        optimizer.step()
        losses.append(result["loss"].item())
    assert sum(losses[-3:]) < 0.6 * sum(losses[:3])


def test_the_weighted_loss_counts_a_noise_level_as_its_signal_to_noise_ratio():
    objective = NoisePrediction(make(**SCENE))
    steps, chunk = torch.tensor([0, 50, 99]), torch.zeros(3, 16, 2)
    alpha_bar = objective.policy.scheduler.alphas_cumprod[steps]
    weights = objective._weights(steps, chunk).flatten()
    assert weights[0] == pytest.approx(5.2)
    assert weights[1] == pytest.approx(float(alpha_bar[1] / (1 - alpha_bar[1])) + 0.2, rel=1e-5)
    assert weights[2] == pytest.approx(0.2, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"algo.scene_mlp": {"enabled": True}}, "exactly one of algo.unet.enabled, algo.mlp.enabled and algo.scene_mlp.enabled"),
        ({**SCENE, "algo.action_frame": {}}, "needs algo.action_frame.relative_to"),
        ({**SCENE, "train.hdf5_normalize_obs": True}, "knows no goals, crops and normalisation"),
        ({"algo.action_frame": {"relative_to": "pose"}}, "must be one of observation.modalities.obs.low_dim"),
        ({"algo.objective": {"snr_cap": 5.0}}, "needs algo.predicts 'clean'"),
        ({"algo.predicts": "velocity"}, "algo.predicts"),
        ({"train.early_share": 1.0}, r"must lie in \[0, 1\)"),
        ({"algo.objective": {"draws": 0}}, "at least 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        config_from(tiny(**changes), "tiny")


def test_a_scene_policy_is_for_an_agent_in_the_plane():
    config = config_from(tiny(**SCENE), "tiny")
    with pytest.raises(UserError, match="in the plane"):
        DiffusionPolicy(config, Shapes(3, {"agent_pos": (2,), "image": (3, 16, 16)}, {}, 8))
    with pytest.raises(UserError, match="in the plane"):
        DiffusionPolicy(config, Shapes(2, {"agent_pos": (2,), "image": (3, 16, 16)}, {}, 7))


def write(path, *, places: bool, lengths=(3, 9, 1, 20)):
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, {}) as writer:
        for length in lengths:
            obs = {"agent_pos": rng.uniform(-1, 1, (length, 2)).astype(np.float32), "image": rng.integers(0, 256, (length, 16, 16, 3), np.uint8)}
            if places:
                obs["states"] = rng.uniform(-1, 1, (length, 8)).astype(np.float32)
            writer.add(rng.uniform(-1, 1, (length, 2)).astype(np.float32), obs)
    return path


def test_data_without_the_places_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"names 'states', which is not a low-dimensional observation"):
        shapes_of(config_from(tiny(**SCENE), "tiny"), write(tmp_path / "data.hdf5", places=False))


def test_training_data_holds_the_places_and_the_policy_does_not(tmp_path):
    config, path = config_from(tiny(**SCENE), "tiny"), write(tmp_path / "data.hdf5", places=True)
    shapes = shapes_of(config, path)
    assert shapes.places == 8
    assert list(shapes.obs) == ["agent_pos", "image"]
    assert "states" in training_windows(config, Tokens(path), DiffusionPolicy(config, shapes).windows, None).obs_keys


@pytest.mark.parametrize("share", [0.4, 0.8])
def test_early_windows_are_drawn_as_often_as_asked(tmp_path, share):
    path = write(tmp_path / "data.hdf5", places=False, lengths=(30, 50, 1, 20))
    data = ChunkDataset(path, ["agent_pos"], Windows(), early_share=share, early_steps=2)
    assert np.mean(data.step(data.drawn) < 2) == pytest.approx(share, abs=0.02)
    assert set(data.drawn.tolist()) == set(range(101))
    everyone = data.__getitems__(list(range(len(data))))
    assert everyone.windows.tolist() == data.drawn.tolist()


def test_without_emphasis_every_window_is_drawn_once(tmp_path):
    path = write(tmp_path / "data.hdf5", places=False)
    assert ChunkDataset(path, ["agent_pos"], Windows()).drawn.tolist() == list(range(33))
    assert ChunkDataset(path, ["agent_pos"], Windows(), early_share=0.1).drawn.tolist() == list(range(33))  # they are more than that already


def test_the_shipped_configuration_is_the_shipped_policys():
    config, shipped = load_config(ROOT / "configs" / "diffusion_policy_image_munk_ddim_small.json"), load_policy(MODELS / "policy.safetensors")
    assert plan_of(shipped.policy.config) == plan_of(config)
    assert shipped.policy.config.algo == config.algo


def test_the_shipped_models_steer_towards_each_colour():
    """One decision in sixty scenes: the chunk's end comes closer to the wanted square, for every colour."""
    (policy, meta), (classifier, of_classifier) = load_policy(MODELS / "policy.safetensors"), load_classifier(MODELS / "classifier.safetensors")
    assert meta["env_name"] == of_classifier["env_name"] == "dynaguide/BlockTouch-v0"
    assert (MODELS / "policy.safetensors").stat().st_size + (MODELS / "classifier.safetensors").stat().st_size < 8e6
    obs, centres = scenes(make_env(meta), 60)
    free = sample(policy, obs)[:, -1]
    for color, name in enumerate(classifier.classes):
        score = class_score(classifier, [float(name == other) for other in classifier.classes])
        steered = sample(policy, obs, guidance=ascend(score, 3.0, on="clean_estimate"))[:, -1]
        gaps = [(ends - centres[:, color]).norm(dim=-1).mean() for ends in (steered, free)]
        assert gaps[0] < 0.9 * gaps[1], name


def scenes(env, count: int):
    shown = [env.reset(seed=900 + seed)[0] for seed in range(count)]
    stacked = {key: torch.from_numpy(np.stack([np.stack([one[key]] * 2) for one in shown])) for key in ("image", "agent_pos", "states")}
    return {"image": stacked["image"].movedim(-1, -3), "agent_pos": stacked["agent_pos"]}, stacked["states"][:, -1].reshape(count, 4, 2)


CPU = ["--device", "cpu"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Eight scripted episodes of two layouts."""
    folder = tmp_path_factory.mktemp("labelled")
    wanted = ["--n_rollouts", "8", "--dataset_obs", "--keep_only_successful", "--repeat_environment", "--image_size", "16", "--processes", "1"]
    script("toy_squares_experiment/collect_scripted_data_pymunk.py").main(["--output_folder", str(folder), *wanted])
    return folder / "data.hdf5"


def train_classifier(folder, data, *flags):
    made = script("toy_squares_experiment/train_end_state_classifier.py")
    made.main(["--exp_dir", str(folder), "--train_hdf5", str(data), "--test_hdf5", str(data), *CPU, "--debug", *flags])
    return folder / "model.safetensors"


def test_a_classifier_is_trained_resumed_and_measured(labelled, tmp_path, capsys):
    model = train_classifier(tmp_path / "run", labelled, "--noised")
    before = model.read_bytes()
    assert train_classifier(tmp_path / "run", labelled, "--noised", "--resume").read_bytes() == before
    assert load_classifier(model).classifier.config.noise.share == 0.5
    flags = ["--exp_dir", str(tmp_path / "test"), "--mixed_hdf5", str(labelled), "--checkpoint", str(model), *CPU]
    script("toy_squares_experiment/test_end_state_classifier.py").main([*flags, "--action_chunk_length", "16"])
    assert "accuracy" in capsys.readouterr().out
    report = json.loads((tmp_path / "test" / "accuracy.json").read_text())
    with EpisodeFile(labelled) as file:
        frames = int(file.lengths.sum())
    assert np.sum(report["confusion"]) == frames
    assert sum(group["n"] for group in report["by_steps_left"].values()) == frames
    assert report["accuracy"] == pytest.approx(np.trace(report["confusion"]) / frames)
    assert all((tmp_path / "test" / name).stat().st_size > 5000 for name in ("confusion.png", "gradients.png"))


def test_data_without_labels_is_refused_in_one_line(labelled, tmp_path, capsys):
    plain, train = write(tmp_path / "plain.hdf5", places=True), "toy_squares_experiment/train_end_state_classifier.py"
    said = mistake(capsys, train, "--exp_dir", tmp_path / "run", "--train_hdf5", plain, "--test_hdf5", labelled, *CPU)
    assert "has no labels (observation 'label')" in said
    assert not (tmp_path / "run").exists()


def test_a_chunk_length_that_is_not_the_classifiers_is_refused(labelled, tmp_path, capsys):
    model = train_classifier(tmp_path / "run", labelled)
    flags = ["--exp_dir", tmp_path / "test", "--mixed_hdf5", labelled, "--checkpoint", model, "--action_chunk_length", "8", *CPU]
    assert "chunks of 16 actions" in mistake(capsys, "toy_squares_experiment/test_end_state_classifier.py", *flags)
