"""What a diffusion policy is trained to do: predict the noise that was added to an action chunk."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dynaguide.chunks import Batch
from dynaguide_robomimic.policy import GOAL, DiffusionPolicy


class NoisePrediction(nn.Module):
    """E |eps(sqrt(alpha_bar_k) a + sqrt(1 - alpha_bar_k) n, k, o) - n|^2 over chunks, steps and noise."""

    def __init__(self, policy: DiffusionPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        policy, actions = self.policy, batch.actions
        goal = {GOAL + key: value for key, value in batch.outcome.items()}
        condition = policy.encode({**batch.obs, **goal})
        noise = torch.randn_like(actions)
        steps = torch.randint(0, policy.scheduler.config.num_train_timesteps, (len(actions),), device=actions.device)
        noisy = policy.scheduler.add_noise(actions, noise, steps)
        return {"loss": functional.mse_loss(policy.predict_noise(noisy, steps, condition), noise)}
