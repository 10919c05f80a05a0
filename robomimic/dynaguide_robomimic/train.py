"""Train a diffusion policy from a robomimic configuration and a robomimic data file."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dynaguide.chunks import ChunkDataset, Windows
from dynaguide.encoders import load_patch_encoder
from dynaguide.encoders.base import OutcomeEncoder
from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide.features import FeatureCache, FrameTokens, token_key
from dynaguide.randomness import seed_everything
from dynaguide.training import Data, TrainingPlan, train
from dynaguide_robomimic.checkpoints import save_policy
from dynaguide_robomimic.config import PolicyConfig
from dynaguide_robomimic.objective import NoisePrediction
from dynaguide_robomimic.policy import DiffusionPolicy, Shapes

log = logging.getLogger(__name__)


def train_policy(config: PolicyConfig, dataset: Path, folder: Path, *, device: torch.device, resume: bool = False) -> Path:
    """Returns the path of the trained policy (averaged weights), `folder`/model.safetensors."""
    plan = plan_of(config)
    seed_everything(plan.seed)
    frozen = {camera: load_patch_encoder(path) for camera, path in config.observation.encoder.rgb.core_kwargs.encoders.items()}
    policy = DiffusionPolicy(config, shapes_of(config, dataset), frozen)
    tokens = Tokens(dataset, frozen, device, config.train.num_data_workers)
    data = Data(
        training_windows(config, tokens, policy.windows, config.train.hdf5_filter_key),
        training_windows(config, tokens, policy.windows, config.train.hdf5_validation_filter_key) if config.experiment.validate else None,
    )
    if config.train.hdf5_normalize_obs:
        _normalise(policy, data.train)
    count = sum(parameter.numel() for parameter in policy.parameters()) / 1e6
    log.info("%s: %.1f M parameters, %d windows of %d episodes", folder.name, count, len(data.train), len(data.train.names))

    def export(path: Path) -> None:
        save_policy(path, policy, data.train.env_meta)

    return train(NoisePrediction(policy), data, plan, folder, export=export, device=device, resume=resume)


def shorten(config: PolicyConfig) -> PolicyConfig:
    """The same in ten steps, to see that everything fits together."""
    experiment = replace(config.experiment, epoch_every_n_steps=5, validation_epoch_every_n_steps=1)
    return replace(config, experiment=experiment, train=replace(config.train, num_epochs=2, batch_size=min(4, config.train.batch_size)))


def plan_of(config: PolicyConfig) -> TrainingPlan:
    """robomimic counts in epochs of `epoch_every_n_steps`; the loop counts in steps."""
    experiment, optimizer, epoch = config.experiment, config.algo.optim_params.policy, config.experiment.epoch_every_n_steps
    rate, snapshots = optimizer.learning_rate, experiment.save.every_n_epochs
    return TrainingPlan(
        steps=config.train.num_epochs * epoch,
        batch_size=config.train.batch_size,
        learning_rate=rate.initial,
        schedule=rate.schedule,
        warmup_steps=rate.warmup_steps,
        milestones=tuple(epoch * number for number in rate.epoch_schedule),
        decay=rate.decay_factor,
        weight_decay=optimizer.regularization.L2,
        clip_norm=optimizer.max_grad_norm,
        ema_power=config.algo.ema.power if config.algo.ema.enabled else None,
        seed=config.train.seed,
        mixed_precision=config.train.mixed_precision,
        workers=config.train.num_data_workers,
        log_every=min(50, epoch),
        validate_every=epoch,
        validation_batches=experiment.validation_epoch_every_n_steps or 10,
        save_every=epoch,
        snapshot_every=snapshots * epoch if snapshots and experiment.save.enabled else None,
    )


@dataclass(frozen=True)
class Tokens:
    """A data file, and the frozen encoders that its cameras are read with: their tokens are computed once and kept beside it."""

    dataset: Path
    frozen: Mapping[str, OutcomeEncoder] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 1

    def key(self, camera: str) -> str:
        return token_key(camera) if camera in self.frozen else camera

    def computed(self, split: str | None) -> dict[str, FrameTokens]:
        if not self.frozen:
            return {}
        with EpisodeFile(self.dataset, split=split) as file:
            names = file.names
        return {token_key(camera): cache.frames(names) for camera, cache in self._caches.items()}

    @cached_property
    def _caches(self) -> dict[str, FeatureCache]:
        """Complete. Made once for all splits: to recognise the data, each reads every episode."""
        made = {camera: FeatureCache(self.dataset, camera, encoder) for camera, encoder in self.frozen.items()}
        return {camera: cache.complete(device=self.device, workers=self.workers) for camera, cache in made.items()}


def training_windows(config: PolicyConfig, tokens: Tokens, windows: Windows, split: str | None) -> ChunkDataset:
    modalities = config.observation.modalities
    keys = [*modalities.obs.low_dim, *map(tokens.key, modalities.obs.rgb)]
    goals = [*modalities.goal.low_dim, *map(tokens.key, modalities.goal.rgb)]
    if config.algo.scene_mlp.enabled and config.algo.scene_mlp.places not in keys:
        keys.append(config.algo.scene_mlp.places)
    return ChunkDataset(
        tokens.dataset,
        keys,
        windows,
        outcome_keys=goals,
        split=split,
        cache_images=config.train.cache_images,
        early_share=config.train.early_share,
        early_steps=config.train.early_steps,
        computed=tokens.computed(split),
    )


def shapes_of(config: PolicyConfig, dataset: Path) -> Shapes:
    """Read off the data: nothing about its dimensions is configured. Features are in alphabetical order, as robomimic's."""
    modalities = config.observation.modalities
    with EpisodeFile(dataset) as file:
        stored: dict[str, Any] = file.obs_shapes
        action = file.action_size
    for key in (*modalities.obs.rgb, *modalities.goal.rgb):
        if len(stored.get(key, (0, 0, 0))) != 3:
            raise UserError(f"{dataset}: {key} is configured as an image but has shape {stored[key]} a frame")
    for key in (*modalities.obs.low_dim, *modalities.goal.low_dim):
        if len(stored.get(key, (0,))) != 1:
            raise UserError(f"{dataset}: {key} is configured as low-dimensional but has shape {stored[key]} a frame")

    def group(keys: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
        return {key: _channels_first(stored[key]) for key in sorted(keys) if key in stored}  # what is missing is named when the data is read

    obs, goal = group((*modalities.obs.low_dim, *modalities.obs.rgb)), group((*modalities.goal.low_dim, *modalities.goal.rgb))
    return Shapes(action, obs, goal, _places(config, stored, dataset))


def _places(config: PolicyConfig, stored: dict[str, Any], dataset: Path) -> int:
    """How many numbers the places in the picture are, for the policy that predicts them."""
    scene = config.algo.scene_mlp
    if not scene.enabled:
        return 0
    if len(stored.get(scene.places, ())) != 1:
        raise UserError(f"{dataset}: algo.scene_mlp.places names {scene.places!r}, which is not a low-dimensional observation in it")
    return int(stored[scene.places][0])


def _channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[2], shape[0], shape[1]) if len(shape) == 3 else shape


def _normalise(policy: DiffusionPolicy, data: ChunkDataset) -> None:
    for key, shape in policy.shapes.obs.items():
        if len(shape) == 1:
            values = torch.from_numpy(data.low_dim(key))
            policy.encoders["obs"].normalise(key, values.mean(0), values.std(0).clamp_min(1e-3))  # type: ignore[operator]
