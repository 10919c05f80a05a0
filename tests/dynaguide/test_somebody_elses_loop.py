"""The README's lines for a loop that is not ours: diffusers' scheduler, used directly."""

import torch
from toy import ToyPolicy, closeness, ddim, toy_obs

from dynaguide import Steering, ascend, moment, sample_actions
from dynaguide.randomness import generator


def test_the_readmes_lines_steer_a_plain_diffusers_loop():
    obs, scheduler, net = toy_obs(), ddim(), ToyPolicy().given(toy_obs()).predict_noise
    scheduler.set_timesteps(10)
    noisy_actions = torch.stack([torch.randn(4, 2, generator=generator(row)) for row in range(3)])
    guide = ascend(closeness, 0.3).given(obs)
    for k in scheduler.timesteps:
        noise_pred = net(noisy_actions, k)
        at = moment(scheduler, k, noisy_actions, noise_pred)
        noise_pred = noise_pred - at.noise_std * guide(at)
        noisy_actions = scheduler.step(noise_pred, k, noisy_actions, use_clipped_model_output=True).prev_sample
    ours = sample_actions(ToyPolicy(), obs, Steering(guidance=ascend(closeness, 0.3)), [generator(row) for row in range(3)])
    torch.testing.assert_close(noisy_actions, ours)
