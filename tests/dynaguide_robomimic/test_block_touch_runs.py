"""Steered BlockTouch runs: what the flags mean, what the results keep, and what the pictures show."""

import json

import numpy as np
import pytest
from touches import write_classifier, write_policy

from dynaguide import UserError, methods
from dynaguide.results import EpisodeResult, write_results
from dynaguide_robomimic import block_touch_pictures as pictures
from dynaguide_robomimic import block_touch_runs as runs
from dynaguide_robomimic.envs import BLOCK_TOUCH, make_env
from dynaguide_robomimic.envs.block_touch.world import COLOR_NAMES, to_normalised


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return write_policy(folder / "policy.safetensors"), write_classifier(folder / "classifier.safetensors")


def parsed(*flags):
    made = runs.parser(None, example="")
    runs.add_guidance(made)
    methods.add_sampling(made)
    return made.parse_args([str(flag) for flag in flags])


@pytest.fixture
def episodes(models, tmp_path):
    """Rolls out as the flags say, with few and short episodes."""
    agent, classifier = models

    def run(kind, *flags, steered=True):
        given = ["--agent", agent, *(["--guidance", classifier, "--target", "red"] if steered else []), "--n_rollouts", 3, "--horizon", 24]
        return kind(parsed(*given, "--n_envs", 2, "--inference_steps", 4, "--device", "cpu", "--paths", *flags)).episodes

    return run


def ends(made):
    return [(episode.behaviors, episode.length, episode.details["path"]) for episode in made]


def test_scale_0_and_one_sample_are_the_base_policy(episodes):
    base = ends(episodes(runs.guided, steered=False))
    assert ends(episodes(runs.guided, "--scale", 0)) == base
    assert ends(episodes(runs.sampled, "--num_samples", 1)) == base
    assert ends(episodes(runs.sampled, steered=False)) == base
    assert ends(episodes(runs.guided, "--scale", 3)) != base
    assert ends(episodes(runs.sampled, "--num_samples", 4)) != base


@pytest.mark.parametrize(
    "flags",
    [("--on", "noisy"), ("--ss", 2), ("--ss", 2, "--renoise"), ("--published_clamp",), ("--cap", 0.001), ("--last_steps", 2), ("--free_steps", 8)],
)
def test_each_form_of_guidance_changes_the_run(episodes, flags):
    plain = ("--scale", 3)
    assert ends(episodes(runs.guided, *plain, *flags)) != ends(episodes(runs.guided, *plain))


def test_all_episodes_can_share_a_layout(episodes):
    made = episodes(runs.guided, "--layout_seed", 5)
    assert len({str(episode.details["squares"]) for episode in made}) == 1
    assert len({str(episode.details["path"]) for episode in made}) == 3


def test_a_trace_says_what_policy_and_guidance_each_add(episodes, tmp_path):
    episodes(runs.guided, "--trace_path", tmp_path, "--trace_episodes", 2)
    assert pictures.traced_seeds(tmp_path) == [0, 1]
    trace = pictures.read_trace(tmp_path, 0)
    assert np.allclose(trace["noisy_actions"][1:], trace["denoised_actions"][:-1])
    assert np.allclose(trace["denoised_actions"][-1][1:9], trace["executed"])
    for push, direction in (("policy_push", -trace["noise"]), ("guidance_push", trace["guidance"])):
        cosine = (trace[push] * direction).sum((1, 2)) / np.linalg.norm(trace[push], axis=(1, 2)) / np.linalg.norm(direction, axis=(1, 2))
        assert cosine.min() > 0.999


@pytest.mark.parametrize(
    ("flags", "weights"),
    [
        (["--target", "green"], [0, 0, 1, 0]),
        (["--avoid", "blue"], [-1, 0, 0, 0]),
        (["--target_list", "1,-0.33,-.33,-0.33"], [1, -0.33, -0.33, -0.33]),
        ([], None),
    ],
)
def test_what_is_wanted_becomes_weights(flags, weights):
    assert runs.weights_of(parsed("--agent", "x", *flags)) == weights


def test_a_path_is_where_the_agent_was():
    env = runs.KeepsPath(make_env({"env_name": BLOCK_TOUCH, "env_kwargs": {"image_size": 16}}))
    first, _ = env.reset(seed=3)
    second, *_, info = env.step(np.zeros(2, np.float32))
    seen = np.stack([first["agent_pos"], second["agent_pos"]])
    assert np.allclose(to_normalised(np.array(info["details"]["path"])), seen, atol=1e-3)
    assert np.allclose(to_normalised(np.array(info["details"]["squares"])).ravel(), first["states"], atol=1e-3)
    env.reset(seed=4)
    assert len(info["details"]["path"]) == 2  # the finished episode's own


def recorded(path, config, touched):
    details = {"path": [[250.0, 250.0], [260.0, 200.0]], "squares": [[60, 60], [60, 400], [400, 400], [400, 60]], "rotations": [0, 0.3, 0.6, 0.9]}
    made = [EpisodeResult(seed, 2, 0.1, 1.0, bool(color), (color,) if color else (), details) for seed, color in enumerate(touched)]
    write_results(path, made, config=config, seed=0)
    return pictures.read_run(path)


def test_a_run_says_what_it_was_for(tmp_path):
    base = recorded(tmp_path / "a.json", {"arm": "base", "weights": None}, ["blue", "red", None])
    red = recorded(tmp_path / "b.json", {"arm": "guided", "weights": [-0.3, 1, -0.3, -0.3]}, ["red", "red", None])
    away = recorded(tmp_path / "c.json", {"arm": "sampling", "weights": [0, 0, 0, -1.0]}, ["red"])
    assert (base.name, red.name, away.name) == ("base policy", "guided to red", "sampling away from yellow")
    assert (base.target, red.target, away.target, away.avoided) == (None, "red", None, "yellow")
    assert red.rates()["red"].count == 2
    assert base.rates()["none"].count == 1
    assert list(red.rates()) == [*COLOR_NAMES, "none"]


def test_the_telling_episode_is_one_that_steering_turned_to_its_target(tmp_path):
    base = recorded(tmp_path / "a.json", {"arm": "base"}, ["red", "blue", "blue"])
    red = recorded(tmp_path / "b.json", {"arm": "guided", "weights": [0, 1, 0, 0]}, ["red", "green", "red"])
    assert pictures.telling_seed([base, red], red, [0, 1, 2]) == 2
    assert pictures.telling_seed([base, red], red, [0, 1]) == 0


def test_a_sweep_joins_the_targets_of_one_strength(tmp_path):
    config = {"arm": "guided", "scale": 3.0, "on": "noisy", "ss": 4}
    red = recorded(tmp_path / "r.json", {**config, "weights": [0, 1, 0, 0]}, ["red", "red", None])
    blue = recorded(tmp_path / "b.json", {**config, "weights": [1, 0, 0, 0]}, ["blue", "red", None])
    assert (pictures.target_rate([red, blue]).count, pictures.target_rate([red, blue]).total) == (3, 6)
    assert pictures.form_of(config) == "noisy chunk, 4 repeats, not re-noised"
    assert pictures.form_of({**config, "candidates": 5, "free_steps": 2}) == "noisy chunk, 4 repeats, not re-noised, last 2 steps free, best of 5"
    assert pictures.sweep_figure(tmp_path / "s.png", [red, blue]).stat().st_size > 5000


def test_repeats_are_shown_once_a_noise_level():
    assert pictures.shown_steps({"timestep": np.array([90, 90, 50, 50, 10, 10])}, 5) == [1, 3, 5]


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"scale": 1}))
    with pytest.raises(UserError, match="not a results JSON"):
        pictures.read_run(tmp_path / "x.json")
    write_results(tmp_path / "y.json", [EpisodeResult(0, 1, 0.1, 1.0, True, ("left",))], config={}, seed=0)
    with pytest.raises(UserError, match="not of BlockTouch"):
        pictures.read_run(tmp_path / "y.json")
    write_results(tmp_path / "z.json", [EpisodeResult(0, 1, 0.1, 1.0, True, ("red",))], config={}, seed=0)
    with pytest.raises(UserError, match="--paths"):
        pictures.layout_of(pictures.read_run(tmp_path / "z.json").episodes[0])
