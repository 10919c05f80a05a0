"""What a diffusion policy is trained to do: tell the noise in an action chunk from the chunk."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dynaguide.chunks import Batch
from dynaguide.environments import GOAL
from dynaguide.types import ActionChunk
from dynaguide_robomimic.policy import DiffusionPolicy

LEAST_WEIGHT = 0.2  # what a noise level without any signal counts, where levels are weighted


class NoisePrediction(nn.Module):
    """E |eps(sqrt(alpha_bar_k) a + sqrt(1 - alpha_bar_k) n, k, o) - n|^2 over chunks, steps and noise.

    A network that puts out the clean chunk is compared with that, each noise level weighted as `algo.objective.snr_cap` says.
    """

    def __init__(self, policy: DiffusionPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        condition, extra = self._encode(batch)
        draws = self.policy.config.algo.objective.draws
        chunk = self.policy.to_chunk(batch.actions, batch.obs).repeat_interleave(draws, 0)
        denoising = self._denoising(chunk, condition.repeat_interleave(draws, 0))
        weight = self.policy.config.algo.scene_mlp.places_weight
        return {"loss": sum((weight * value for value in extra.values()), denoising), **extra}

    def _encode(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The condition, and what else the encoder is trained on."""
        scene = self.policy.config.algo.scene_mlp
        if scene.enabled:
            condition, places = self.policy.encode_scene(batch.obs)
            return condition, {"places": functional.mse_loss(places, batch.obs[scene.places][:, -1])}
        return self.policy.encode({**batch.obs, **{GOAL + key: value for key, value in batch.outcome.items()}}), {}

    def _denoising(self, chunk: ActionChunk, condition: Tensor) -> Tensor:
        policy = self.policy
        noise = torch.randn_like(chunk)
        steps = torch.randint(0, policy.scheduler.config.num_train_timesteps, (len(chunk),), device=chunk.device)
        predicted = policy.network(policy.scheduler.add_noise(chunk, noise, steps), steps, condition)
        if policy.config.algo.predicts == "noise":
            return functional.mse_loss(predicted, noise)
        return (self._weights(steps, chunk) * (predicted - chunk).square()).mean()

    def _weights(self, steps: Tensor, chunk: ActionChunk) -> Tensor:
        """min(SNR, cap) + a little: evenly weighted, almost all of the loss is the actions' jitter at the last noise levels."""
        cap = self.policy.config.algo.objective.snr_cap
        if cap is None:
            return torch.ones_like(chunk[:, :1, :1])
        alpha_bar = self.policy.alpha_bar(steps, chunk)
        return (alpha_bar / (1 - alpha_bar)).clamp(max=cap) + LEAST_WEIGHT
