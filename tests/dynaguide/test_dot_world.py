"""Where the dynamics are known: the scripts train an encoder and a dynamics model of a pushed dot, and those steer a policy."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import test_dynaguide_embedding
import torch
import train_dynaguide
import train_patch_encoder
from dot_world import CORNERS, HORIZON, SPEED, CornerPolicy, corner_reached, moved, observation, starts, write, write_rollouts
from torch import Tensor

from dynaguide.episodes import EpisodeFile, EpisodeWriter
from dynaguide.guidance import ascend, optimise
from dynaguide.noising import ChunkNoise
from dynaguide.outcomes import Dynamics, load_dynamics, save_dynamics
from dynaguide.scores import Conditions, displaced, goal_score, outcome_metric, position_score
from dynaguide.selectors import best_of
from dynaguide.steering import Steering, sample_actions
from dynaguide.types import Score

pytestmark = pytest.mark.xdist_group("dot world")
SIGMA, SCALE, REPEATS = 1.0, 3.0, 4
EPISODES = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Data, an encoder and a dynamics model, made by the scripts."""
    folder = tmp_path_factory.mktemp("dot")
    train, valid, encoder = write(folder / "train.hdf5", 600, 0), write(folder / "valid.hdf5", 40, 1), folder / "encoder"
    small = ["--image_size", "32", "--channels", "16", "32", "--merge", "2", "--device", "cpu"]
    train_patch_encoder.main(["--dataset", str(train), "--cameras", "camera", "--output", str(encoder), "--steps", "300", *small])
    data = ["--train_hdf5", str(train), "--test_hdf5", str(valid), "--cameras", "camera", "--no_proprio", "--history", "1", "--outcome", "chunk"]
    size = ["--encoder", str(encoder / "model.safetensors"), "--size", "tiny", "--decoder_width", "0", "--action_chunk_length", str(HORIZON)]
    plan = ["--num_epochs", "15", "--batch_size", "64", "--learning_rate", "2e-3", "--schedule", "cosine", "--noised", "--noise_ramp", "200"]
    train_dynaguide.main(["--exp_dir", str(folder / "dynamics"), *data, *size, *plan, "--workers", "1", "--device", "cpu"])
    return folder


@pytest.fixture(scope="module")
def dynamics(folder) -> Dynamics:
    return load_dynamics(folder / "dynamics" / "model.safetensors")


@pytest.fixture(scope="module")
def goals(dynamics) -> list[Tensor]:
    """For each corner, 20 pictures of where the unsteered policy ends there."""
    places, actions = rolled_out(Steering(), seed=5, count=400)
    ends = moved(places, actions)
    return [dynamics.embed(observation(ends[corner_reached(ends) == corner][:20])) for corner in range(len(CORNERS))]


def rolled_out(steering: Steering, *, seed: int = 77, count: int = EPISODES) -> tuple[Tensor, Tensor]:
    places = starts(count, seed)
    rngs = [torch.Generator().manual_seed(1000 + i) for i in range(count)]
    return places, sample_actions(CornerPolicy(), observation(places), steering, rngs).clamp(-1, 1)


def corners(steering: Steering) -> Tensor:
    """The share of episodes that ends at each corner."""
    reached = corner_reached(moved(*rolled_out(steering)))
    return torch.stack([(reached == corner).float().mean() for corner in range(len(CORNERS))])


def pushes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Held out: starts, and chunks that push anywhere."""
    rng = torch.Generator().manual_seed(seed)
    heading, push = 2 * torch.pi * torch.rand(count, 1, generator=rng), 0.7 * torch.rand(count, 1, 1, generator=rng)
    direction = push * torch.cat([heading.cos(), heading.sin()], dim=1)[:, None]
    return starts(count, seed), (direction + 0.1 * torch.randn(count, HORIZON, 2, generator=rng)).clamp(-1, 1)


def test_negated_actions_at_least_triple_the_prediction_error(dynamics):
    places, actions = pushes(200, 3)
    true, predict = dynamics.embed(observation(moved(places, actions))), dynamics.given(observation(places))
    error, negated = ((predict(sign * actions) - true).square().mean() for sign in (1, -1))
    assert negated > 3 * error


@pytest.mark.parametrize("step", [0, 20])
def test_the_gradient_points_to_the_wanted_outcome(dynamics, goals, step):
    places, clean = pushes(200, 4)
    obs, noise, right = observation(places), ChunkNoise(share=1.0, relative_to=None, scale=1.0), []
    chunks = noise.at_steps(clean, obs, torch.full((len(clean),), step)) if step else clean
    for corner, pictures in zip(CORNERS, goals, strict=True):
        chunk = chunks.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(goal_score(dynamics, Conditions(pictures), SIGMA).given(obs)(chunk).sum(), chunk)
        way = SPEED * HORIZON * 0.7 * corner - moved(places, clean)
        right.append((gradient.mean(1) * way).sum(1)[way.norm(dim=1) > 0.3] > 0)
    assert torch.cat(right).float().mean() >= 0.95


def test_the_unsteered_policy_goes_anywhere():
    assert corners(Steering()).min() > 0.1


@pytest.mark.parametrize("corner", range(4))
def test_steering_reaches_the_wanted_outcome(dynamics, goals, corner):
    wanted = ascend(goal_score(dynamics, Conditions(goals[corner]), SIGMA), SCALE)
    assert corners(Steering(guidance=wanted, repeats=REPEATS))[corner] >= 0.9


def test_steering_away_avoids_the_unwanted_outcome(dynamics, goals):
    away = ascend(goal_score(dynamics, Conditions(negative=goals[2]), SIGMA), SCALE)
    share = corners(Steering(guidance=away, repeats=REPEATS))
    assert share[2] <= 0.05
    assert share.sum() >= 0.9  # and it still goes somewhere


def test_two_wanted_outcomes_share_the_episodes(dynamics, goals):
    both = ascend(goal_score(dynamics, Conditions(torch.cat([goals[0], goals[3]])), SIGMA), SCALE)
    share = corners(Steering(guidance=both, repeats=REPEATS))[[0, 3]]
    assert share.sum() >= 0.9
    assert share.min() >= 0.25


def test_sampling_ranks_by_the_same_score(dynamics, goals):
    chosen = Steering(select=best_of(goal_score(dynamics, Conditions(goals[1]), SIGMA)), candidates=8)
    assert corners(chosen)[1] >= 0.8


def test_position_guidance_goes_to_a_place():
    def path(obs, actions):
        return obs["place"][:, -1:] + SPEED * actions.cumsum(1)

    towards = position_score(path, [-0.7, 0.7])
    assert corners(Steering(guidance=ascend(towards, 10.0), repeats=REPEATS))[2] >= 0.9


def test_direct_optimisation_raises_the_score_of_finished_chunks(dynamics, goals):
    score = goal_score(dynamics, Conditions(goals[0]), SIGMA)
    places, plain = rolled_out(Steering())
    _, climbed = rolled_out(Steering(refine=optimise(score, steps=10, step_size=0.02)))
    bound = score.given(observation(places))
    assert (bound(climbed) > bound(plain)).float().mean() > 0.95


def test_the_distance_may_be_squared_and_conditions_many(dynamics, goals):
    squared = outcome_metric(Conditions(goals[0], goals[1]), 50.0, distance="squared")
    plain = (goals[0][:, None] - torch.cat([goals[0]])[None]).flatten(2).square().sum(2)
    unwanted = (goals[0][:, None] - goals[1][None]).flatten(2).square().sum(2)
    expected = torch.logsumexp(-plain / 50, 1) - torch.logsumexp(-unwanted / 50, 1)
    torch.testing.assert_close(squared(goals[0]), expected, atol=1e-3, rtol=1e-3)


def test_a_displaced_path_begins_where_the_robot_is():
    obs = {"proprio": torch.tensor([[[0.1, 0.2, 0.3, 9.0]]])}
    path = displaced("proprio", 0.02, first=1)(obs, torch.ones(1, 3, 7))
    torch.testing.assert_close(path, torch.tensor([[[0.12, 0.22, 0.32], [0.14, 0.24, 0.34]]]))


def test_scores_of_a_plain_function_and_of_a_model_are_interchangeable(dynamics, goals):
    score = goal_score(dynamics, Conditions(goals[0]), SIGMA)
    assert isinstance(score, Score)
    obs = observation(starts(3, 9))
    chunks = torch.zeros(6, HORIZON, 2)
    torch.testing.assert_close(score.given(obs)(chunks)[::2], score.given(obs)(chunks[::2]))


def test_the_examination_says_that_this_model_can_steer(folder, capsys):
    mixed, good = write_rollouts(folder / "mixed.hdf5", 80, 11), folder / "corner_2.hdf5"
    with EpisodeFile(write_rollouts(folder / "more.hdf5", 60, 12)) as file, EpisodeWriter(good, file.env_meta) as writer:
        for episode in file:
            if episode.attrs["behavior"] == "corner_2":
                writer.add(episode.actions, episode.obs, behavior="corner_2")
    model = folder / "dynamics" / "model.safetensors"
    examine = ["--exp_dir", str(folder / "health"), "--good_hdf5", str(good), "--mixed_hdf5", str(mixed), "--checkpoint", str(model)]
    test_dynaguide_embedding.main([*examine, "--key", "corner_2", "--alpha", "1", "--strict", "--device", "cpu"])
    found = json.loads((folder / "health" / "health.json").read_text())
    assert found["can_steer"]
    assert found["questions"]["listens to the action"]["numbers"]["value"] > 3
    assert "can steer: yes" in capsys.readouterr().out
    assert (folder / "health" / "health.png").stat().st_size > 10_000


def test_the_examination_finds_a_model_that_does_not_listen(folder, dynamics):
    deaf = copy.deepcopy(dynamics.model)
    deaf.join_actions = torch.nn.Identity() if isinstance(deaf.join_actions, torch.nn.Identity) else torch.nn.Linear(128, 64)
    for part in (deaf.read_action, deaf.join_actions):
        for parameter in part.parameters():
            parameter.data.zero_()
    save_dynamics(folder / "deaf.safetensors", replace(dynamics, model=deaf))
    mixed = write_rollouts(folder / "few.hdf5", 40, 13)
    examine = [
        "--exp_dir",
        str(folder / "deaf"),
        "--good_hdf5",
        str(mixed),
        "--mixed_hdf5",
        str(mixed),
        "--checkpoint",
        str(folder / "deaf.safetensors"),
    ]
    with pytest.raises(SystemExit) as stopped:
        test_dynaguide_embedding.main([*examine, "--key", "corner_1", "--alpha", "1", "--strict", "--device", "cpu"])
    assert stopped.value.code == 1
    found = json.loads((folder / "deaf" / "health.json").read_text())
    assert found["questions"]["listens to the action"]["verdict"] == "no"
