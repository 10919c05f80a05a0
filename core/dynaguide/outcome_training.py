"""Training a dynamics model: its data with cached tokens, its loss, and the film strips that show what it has learnt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dynaguide.chunks import Batch, ChunkDataset, Windows
from dynaguide.decoder import DecoderConfig, PictureDecoder
from dynaguide.dynamics import DynamicsConfig, DynamicsModel
from dynaguide.encoders.base import OutcomeEncoder, resized
from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide.features import FeatureCache, token_key
from dynaguide.noising import ChunkNoise
from dynaguide.outcomes import Dynamics
from dynaguide.types import to_float_image

DRAWN = 4  # pictures of a batch that the decoder learns from at each step


@dataclass(frozen=True)
class OutcomeData:
    """Which data, seen how.

    cameras     image observations
    proprio_key None: without proprioception
    windows     the chunk, and which later observation is its outcome
    feature_dir where the encoder's tokens are kept; None: beside the data
    angles      which numbers of the proprioception are angles
    pictures    read the outcome's pictures too, for the decoder
    cached      keep the tokens on disk; False encodes pictures at every step
    """

    cameras: tuple[str, ...]
    proprio_key: str | None
    windows: Windows
    feature_dir: Path | None = None
    pictures: bool = True
    cached: bool = True
    angles: tuple[int, ...] = ()
    workers: int = 1
    early_share: float = 0.0

    def dataset(self, path: Path, encoder: OutcomeEncoder, *, device: torch.device, split: str | None = None) -> ChunkDataset:
        """The windows of a file, its tokens computed where they are missing."""
        with EpisodeFile(path, split=split) as file:
            file.check([key for key in (self.proprio_key,) if key])
            names = file.names
        computed = {}
        if self.cached:
            for camera in self.cameras:
                cache = FeatureCache(path, camera, encoder, self.feature_dir and self.feature_dir / path.stem)
                computed[token_key(camera)] = cache.complete(device=device, workers=self.workers).frames(names)
        seen = [token_key(camera) for camera in self.cameras] if self.cached else list(self.cameras)
        drawn = list(self.cameras) if self.pictures and self.cached else []
        return ChunkDataset(
            path,
            [*seen, *([self.proprio_key] if self.proprio_key else [])],
            self.windows,
            outcome_keys=[*seen, *drawn],
            split=split,
            computed=computed,
            early_share=self.early_share,
        )


def config_for(path: Path, data: OutcomeData, encoder: OutcomeEncoder, noise: ChunkNoise, **sizes: Any) -> DynamicsConfig:
    """A configuration whose dimensions are read from the file. sizes: width, layers, heads, feed_forward, ..."""
    with EpisodeFile(path) as file:
        shapes = file.obs_shapes
        for camera in data.cameras:
            if camera not in shapes or len(shapes[camera]) != 3:
                raise UserError(f"{path} has no images under {camera!r} (found: {', '.join(shapes)})")
        if data.proprio_key is not None and len(shapes.get(data.proprio_key, ())) != 1:
            raise UserError(f"{path} has no proprioception under {data.proprio_key!r} (found: {', '.join(shapes)}); --no_proprio does without")
        known = np.concatenate([file.read(name, data.proprio_key) for name in file.names]) if data.proprio_key else None
        return DynamicsConfig(
            cameras=data.cameras,
            action_dim=file.action_size,
            picture_sizes=tuple(shapes[camera][:2] for camera in data.cameras),
            tokens=encoder.count,
            features=encoder.width,
            proprio_key=data.proprio_key,
            proprio_dim=shapes[data.proprio_key][0] if data.proprio_key else 0,
            proprio_mean=() if known is None else tuple(known.mean(0).tolist()),
            proprio_std=() if known is None else tuple(known.std(0).clip(min=1e-3).tolist()),
            proprio_angles=data.angles if data.proprio_key else (),
            windows=data.windows,
            noise=noise,
            renderer=file.env_meta.get("env_kwargs", {}).get("renderer"),
            **sizes,
        )


class DynamicsObjective(nn.Module):
    """The squared error of the predicted tokens. The decoder learns beside it to draw true outcomes; no gradient goes from one to the other.

    ramp   steps over which the share of noised chunks grows to the configured one
    draws  noises for each window
    """

    seen: Tensor

    def __init__(self, dynamics: Dynamics, *, ramp: int = 0, draws: int = 1) -> None:
        super().__init__()
        self.model, self.decoder = dynamics.model, dynamics.decoder
        self._encoder = [dynamics.encoder]  # in a list: frozen, so no part of what is trained and saved
        self.ramp, self.draws = ramp, draws
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        now, after = self.tokens(batch.obs), self.tokens(batch.outcome)
        key = self.model.config.proprio_key
        proprio = batch.obs[key][:, -1] if key else None
        rows = self.draws * len(batch.actions)
        noised = self._noise().at_random(batch.actions.repeat_interleave(self.draws, 0), batch.obs)
        predicted = self.model.given(now, proprio)(noised).float()
        losses = {"loss": functional.mse_loss(predicted, after.repeat_interleave(rows // len(after), 0))}
        if not self.training:
            losses["copy_loss"] = functional.mse_loss(now, after)
        if self.decoder is not None and batch.outcome.keys() & set(self.model.config.cameras):
            losses["picture_loss"] = self._picture_loss(after, batch)
            losses["loss"] = losses["loss"] + losses["picture_loss"]
            losses["outcome_loss"] = (losses["loss"] - losses["picture_loss"]).detach()
        self.seen += self.training
        return losses

    def tokens(self, obs: dict[str, Tensor]) -> Tensor:
        """Cached tokens if the batch has them, else its pictures are encoded."""
        parts = []
        for camera in self.model.config.cameras:
            if token_key(camera) in obs:
                parts.append(obs[token_key(camera)][:, -1].float())
            else:
                with torch.no_grad():
                    parts.append(self._encoder[0].to(obs[camera].device)(obs[camera][:, -1]))
        return torch.cat(parts, dim=1)

    def _noise(self) -> ChunkNoise:
        noise = self.model.config.noise
        grown = 1.0 if not self.ramp or not self.training else min(1.0, int(self.seen) / self.ramp)
        return replace(noise, share=noise.share * grown)

    def _picture_loss(self, after: Tensor, batch: Batch) -> Tensor:
        assert self.decoder is not None
        cameras = self.model.config.cameras
        tokens = after[:DRAWN].unflatten(1, (len(cameras), -1)).flatten(0, 1)
        drawn = self.decoder(tokens).unflatten(0, (-1, len(cameras)))
        size = self.decoder.config.picture_size
        errors = [functional.mse_loss(drawn[:, i], resized(to_float_image(batch.outcome[c][:DRAWN, -1]), size)) for i, c in enumerate(cameras)]
        return torch.stack(errors).mean()


def new_dynamics(config: DynamicsConfig, encoder: OutcomeEncoder, *, decoder_width: int | None, env_meta: dict[str, Any]) -> Dynamics:
    """An untrained model. decoder_width: channels of the picture decoder; None or 0 trains none"""
    drawable = decoder_width and encoder.side > 1
    stages = 1 if encoder.side >= 16 and decoder_width and decoder_width < 64 else 2
    decoder = PictureDecoder(DecoderConfig(config.features, encoder.side, decoder_width, stages, blocks=2)) if drawable and decoder_width else None
    return Dynamics(DynamicsModel(config), encoder, decoder, env_meta)


@torch.no_grad()
def film_strip(dynamics: Dynamics, batch: Batch, camera: str) -> NDArray[np.uint8]:
    """Rows of examples; columns: now, the predicted outcome, the true outcome decoded from its tokens, the true outcome. uint8 (H, W, 3)"""
    objective = DynamicsObjective(dynamics).eval()
    now, after = objective.tokens(batch.obs), objective.tokens(batch.outcome)
    key = dynamics.config.proprio_key
    predicted = dynamics.model(now, batch.obs[key][:, -1] if key else None, batch.actions)
    index = dynamics.config.cameras.index(camera)
    drawn = [dynamics.pictures(tokens)[:, index] for tokens in (now, predicted, after)]
    size = drawn[0].shape[-1]
    true = resized(to_float_image(batch.outcome[camera][:, -1]), size)
    columns = [*drawn, true]
    rows = torch.cat([torch.cat(list(column), dim=1) for column in columns], dim=2)  # (3, rows x size, columns x size)
    return (rows.clamp(0, 1).movedim(0, -1) * 255).byte().cpu().numpy()


def checked_cameras(names: Sequence[str]) -> tuple[str, ...]:
    """Each once."""
    if len(set(names)) != len(names):
        raise UserError(f"--cameras names a camera twice: {' '.join(names)}")
    return tuple(names)
