"""The laws of the seam."""

import weakref

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler
from torch import Tensor
from toy import GOAL, ToyPolicy, closeness, ddim, toy_obs

from dynaguide import Score, Steering, UserError, ascend, best_of, denoise, sample_actions
from dynaguide.guidance import Guidance
from dynaguide.randomness import generator
from dynaguide.types import Denoising


def rngs(count: int = 3) -> list[torch.Generator]:
    return [generator(7, row) for row in range(count)]


def run(policy: ToyPolicy | None = None, batch: int = 3, **slots) -> Tensor:
    return sample_actions(policy or ToyPolicy(), toy_obs(batch), Steering(**slots), rngs(batch))


def test_scale_zero_is_the_base_policy():
    assert torch.equal(run(guidance=ascend(closeness, 0.0)), run())


def test_a_zero_score_is_the_base_policy():
    torch.testing.assert_close(run(guidance=ascend(lambda obs, actions: 0 * actions.sum((1, 2)), 5.0)), run())


def test_one_candidate_is_the_base_policy():
    assert torch.equal(run(select=best_of(closeness), candidates=1), run())


@pytest.mark.parametrize("consistent", [True, False])
def test_no_guidance_is_diffusers_own_ddim_loop(consistent):
    policy = ToyPolicy()
    predict = policy.given(toy_obs()).predict_noise
    scheduler = ddim()
    scheduler.set_timesteps(10)
    sample = torch.stack([torch.randn(4, 2, generator=rng) for rng in rngs()])
    for timestep in scheduler.timesteps:
        sample = scheduler.step(predict(sample, int(timestep)), timestep, sample, use_clipped_model_output=consistent).prev_sample
    torch.testing.assert_close(run(consistent_clamp=consistent), sample)


def test_no_guidance_is_diffusers_own_ddpm_loop():
    def make() -> DDPMScheduler:
        return DDPMScheduler(num_train_timesteps=20, beta_schedule="squaredcos_cap_v2")

    policy = ToyPolicy(make(), inference_steps=20)
    predict = policy.given(toy_obs()).predict_noise
    scheduler, generators = make(), rngs()
    scheduler.set_timesteps(20)
    sample = torch.stack([torch.randn(4, 2, generator=rng) for rng in generators])
    for timestep in scheduler.timesteps:
        sample = scheduler.step(predict(sample, int(timestep)), timestep, sample, generator=generators).prev_sample
    torch.testing.assert_close(run(policy), sample)


def algorithm_1(scale: float, repeats: int, renoise: bool, consistent: bool) -> list[Tensor]:
    """The paper's Algorithm 1, line by line, one episode at a time, with its own arithmetic: every a^(k-1) on the way."""
    alpha_bars = ddim().alphas_cumprod
    rows = []
    for row, rng in enumerate(rngs()):
        obs = {"proprio": toy_obs()["proprio"][row : row + 1]}
        predict = ToyPolicy().given(obs).predict_noise
        a, path = torch.randn(4, 2, generator=rng)[None], []
        for k in range(90, -1, -10):
            alpha_bar, previous = alpha_bars[k], alpha_bars[k - 10] if k >= 10 else torch.tensor(1.0)
            for i in range(repeats):
                gradient = -2 * (a - GOAL - 0.1 * obs["proprio"][:, -1:, :2])  # of the stand-in score, by hand
                noise = predict(a, k) - scale * (1 - alpha_bar).sqrt() * gradient
                clean = ((a - (1 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()).clamp(-1, 1)
                if consistent:
                    noise = (a - alpha_bar.sqrt() * clean) / (1 - alpha_bar).sqrt()
                a = previous.sqrt() * clean + (1 - previous).sqrt() * noise
                path.append(a)
                if renoise and i < repeats - 1:
                    a = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * torch.randn(4, 2, generator=rng)[None]
        rows.append(path)
    return [torch.cat(step) for step in zip(*rows, strict=True)]


@pytest.mark.parametrize("repeats", [1, 4])
@pytest.mark.parametrize("renoise", [True, False])
@pytest.mark.parametrize("consistent", [True, False])
def test_every_step_agrees_with_algorithm_1(repeats, renoise, consistent):
    steering = Steering(guidance=ascend(closeness, 0.3), repeats=repeats, renoise=renoise, consistent_clamp=consistent)
    ours = [step.denoised for step in denoise(ToyPolicy(), toy_obs(), steering, rngs())]
    plain = algorithm_1(0.3, repeats, renoise, consistent)
    assert len(ours) == len(plain) == 10 * repeats
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("on", ["noisy", "clean_estimate"])
def test_guidance_agrees_with_finite_differences(on):
    actions = torch.randn(3, 4, 2, dtype=torch.float64)
    obs = {key: value.double() for key, value in toy_obs().items()}
    at = Denoising(actions, actions.clamp(-1, 1), torch.tensor(0.5), actions, 50, 5)
    gradient = ascend(closeness, 1.0, on=on).given(obs)(at)
    point, h = getattr(at, on), 1e-6
    for index in [(0, 0, 0), (1, 2, 1), (2, 3, 0)]:
        moved = torch.zeros_like(point)
        moved[index] = h
        difference = (closeness(obs, point + moved) - closeness(obs, point - moved)).sum() / (2 * h)
        torch.testing.assert_close(gradient[index], difference, rtol=1e-5, atol=1e-6)


def test_a_small_step_along_the_guidance_raises_the_score():
    actions = torch.randn(3, 4, 2)
    at = Denoising(actions, actions, torch.tensor(0.5), actions, 50, 5)
    moved = actions + 1e-3 * ascend(closeness, 1.0).given(toy_obs())(at)
    assert (closeness(toy_obs(), moved) > closeness(toy_obs(), actions)).all()


@pytest.mark.parametrize("slots", [{"guidance": ascend(closeness, 0.1)}, {"select": best_of(closeness), "candidates": 32}])
def test_steering_raises_the_score(slots):
    assert (closeness(toy_obs(), run(**slots)) > closeness(toy_obs(), run())).all()


@pytest.mark.parametrize(
    "slots",
    [
        {"guidance": ascend(closeness, 0.3), "repeats": 3},
        {"guidance": ascend(closeness, 0.3, on="clean_estimate"), "repeats": 3, "renoise": True},
        {"guidance": ascend(closeness, 0.3), "select": best_of(closeness), "candidates": 4},
    ],
)
@pytest.mark.parametrize("ddpm", [False, True])
def test_a_batch_is_its_rows_one_by_one(slots, ddpm):
    def policy() -> ToyPolicy:
        return ToyPolicy(DDPMScheduler(beta_schedule="squaredcos_cap_v2", num_train_timesteps=10)) if ddpm else ToyPolicy()

    together = sample_actions(policy(), toy_obs(), Steering(**slots), rngs())
    for row in range(3):
        alone = sample_actions(policy(), {"proprio": toy_obs()["proprio"][row : row + 1]}, Steering(**slots), [rngs()[row]])
        torch.testing.assert_close(alone[0], together[row])


def test_the_first_of_several_candidates_is_the_base_policy():
    torch.testing.assert_close(run(candidates=5), run())


def test_the_observation_is_encoded_once_a_chunk():
    policy = ToyPolicy()
    run(policy, guidance=ascend(closeness, 0.1), repeats=4, select=best_of(closeness), candidates=3)
    assert policy.encoded == 1


def test_no_step_carries_a_graph_and_the_policy_builds_none():
    weight = torch.nn.Parameter(torch.ones(()))

    class Trainable(ToyPolicy):
        def given(self, obs):
            bound = super().given(obs)
            return bound._replace(predict_noise=lambda noisy, timestep: weight * bound.predict_noise(noisy, timestep))

    for step in denoise(Trainable(), toy_obs(), Steering(guidance=ascend(closeness, 0.3), repeats=2), rngs()):
        for tensor in (step.at.noisy, step.at.noise, step.at.clean_estimate, step.guidance, step.denoised):
            assert not tensor.requires_grad


def test_memory_does_not_grow_with_the_number_of_steps():
    """Nothing of a step is alive two steps later."""
    policy, alive = ToyPolicy(inference_steps=50), []
    for step in denoise(policy, toy_obs(), Steering(guidance=ascend(closeness, 0.3)), rngs()):
        alive.append([weakref.ref(tensor) for tensor in (step.at.noisy, step.at.noise, step.at.clean_estimate, step.guidance)])
        assert all(reference() is None for past in alive[:-2] for reference in past)
    assert len(alive) == 50


def test_every_step_is_seen_and_the_last_one_is_the_result():
    seen = []
    result = sample_actions(ToyPolicy(), toy_obs(), Steering(guidance=ascend(closeness, 0.3), repeats=2), rngs(), seen.append)
    assert [step.at.timestep for step in seen] == [k for k in range(90, -1, -10) for _ in range(2)]
    assert [step.at.steps_left for step in seen] == [left for left in range(10, 0, -1) for _ in range(2)]
    assert torch.equal(seen[-1].denoised, result)
    assert all((step.guidance != 0).any() for step in seen)


def test_the_clean_estimate_is_clamped_as_the_scheduler_clamps_it():
    for step in denoise(ToyPolicy(), toy_obs(), Steering(guidance=ascend(closeness, 2.0)), rngs()):
        assert step.at.clean_estimate.abs().max() <= 1


def test_guidances_add():
    one, two = ascend(closeness, 0.1), ascend(lambda obs, actions: actions.sum((1, 2)), 0.2)
    at = next(denoise(ToyPolicy(), toy_obs(), Steering(), rngs())).at
    obs = toy_obs()
    torch.testing.assert_close((one + two).given(obs)(at), one.given(obs)(at) + two.given(obs)(at))


def test_a_gated_guidance_acts_in_its_steps_only():
    def acts(guidance):
        return [bool((step.guidance != 0).any()) for step in denoise(ToyPolicy(), toy_obs(), Steering(guidance=guidance), rngs())]

    assert acts(ascend(closeness, 0.3).last(3)) == [False] * 7 + [True] * 3
    assert acts(ascend(closeness, 0.3).before_last(4)) == [True] * 6 + [False] * 4


def test_the_first_steps_and_the_last_ones_are_all_of_them():
    whole = ascend(closeness, 0.3)
    assert torch.equal(run(guidance=whole.before_last(4) + whole.last(4)), run(guidance=whole))


def test_a_capped_guidance_never_outweighs_the_predicted_noise():
    bound = 0
    for step in denoise(ToyPolicy(), toy_obs(), Steering(guidance=ascend(closeness, 50.0).capped(0.5)), rngs()):
        pushed = (step.at.noise_std * step.guidance).flatten(1).norm(dim=1)
        limit = 0.5 * step.at.noise.flatten(1).norm(dim=1)
        assert (pushed <= limit * 1.0001).all()
        bound += int(torch.isclose(pushed, limit).sum())
    assert bound > 20  # of 30: at this scale the cap binds nearly always


def test_a_cap_that_does_not_bind_changes_nothing():
    torch.testing.assert_close(run(guidance=ascend(closeness, 0.01).capped(100.0)), run(guidance=ascend(closeness, 0.01)))


def test_with_the_published_clamp_a_strong_guidance_turns_around():
    """Why the consistent clamp is the default: on this policy the published form ends lower than with no guidance at all."""
    guided = ascend(closeness, 3.0)
    consistent, published = run(guidance=guided), run(guidance=guided, consistent_clamp=False)
    assert (closeness(toy_obs(), consistent) > closeness(toy_obs(), run())).all()
    assert (closeness(toy_obs(), published) < closeness(toy_obs(), consistent)).all()


def test_noise_may_come_from_elsewhere():
    asked = []

    def actor(obs, shape, generators):
        asked.append((shape, len(generators)))
        return torch.full(shape, 2.0)

    assert not torch.allclose(run(noise=actor, candidates=2), run())
    assert asked == [((6, 4, 2), 6)]


def test_a_bound_score_is_what_a_selector_and_a_guidance_share():
    bound = []
    score = Score(lambda obs: bound.append(1) or (lambda actions: -actions.square().sum((1, 2))))
    run(guidance=ascend(score, 0.1), select=best_of(score), candidates=3, repeats=2)
    assert len(bound) == 2  # once for each of its users, not once for each step


def test_error_with_a_scheduler_that_does_not_predict_noise():
    with pytest.raises(UserError, match="DDIMScheduler that predicts 'sample'"):
        run(ToyPolicy(DDIMScheduler(prediction_type="sample")))


def test_error_with_a_scheduler_that_keeps_state():
    with pytest.raises(UserError, match="EulerDiscreteScheduler"):
        run(ToyPolicy(EulerDiscreteScheduler()))


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda obs, actions: actions.sum(), "one number a chunk"),
        (lambda obs, actions: actions.sum(2), "one number a chunk"),
        (lambda obs, actions: actions.sum((1, 2)) * float("nan"), "not finite at denoising step 90"),
        (lambda obs, actions: torch.ones(len(actions)), "do not depend|does not depend"),
    ],
)
def test_error_with_a_score_that_cannot_be_climbed(score, message):
    with pytest.raises(UserError, match=message):
        run(guidance=ascend(score, 1.0))


def test_error_with_a_score_that_cannot_rank():
    with pytest.raises(UserError, match="one number a chunk"):
        run(select=best_of(lambda obs, actions: actions.sum(2)), candidates=3)
    with pytest.raises(UserError, match="not finite"):
        run(select=best_of(lambda obs, actions: actions.sum((1, 2)) / 0), candidates=3)


def test_error_with_settings_that_mean_nothing():
    with pytest.raises(UserError, match="repeats >= 1"):
        Steering(repeats=0)
    with pytest.raises(UserError, match="candidates >= 1"):
        Steering(candidates=0)
    with pytest.raises(UserError, match="positive"):
        Guidance(lambda obs: lambda at: at.noisy).capped(0.0)
    with pytest.raises(UserError, match="one random generator"):
        sample_actions(ToyPolicy(), toy_obs(3), Steering(), rngs(2))
