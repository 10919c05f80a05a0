"""robomimic's JSON configuration of a diffusion policy: what applies here, with its types, and what is accepted without effect."""

import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dynaguide.config import parse
from dynaguide.errors import UserError
from dynaguide.files import read_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Save:
    enabled: bool = True
    every_n_epochs: int | None = None


@dataclass(frozen=True)
class Experiment:
    name: str = "policy"
    validate: bool = False
    save: Save = field(default_factory=Save)
    epoch_every_n_steps: int = 100
    validation_epoch_every_n_steps: int | None = 10


@dataclass(frozen=True)
class Train:
    """What to train on, and for how long. Ours are:

    cache_images   null keeps images in memory when they fit, true and false insist
    early_share    this share of the training windows begins in an episode's first `early_steps` steps, where its end is still open;
                   0 takes every window once
    """

    data: str | None = None
    output_dir: str = "results/"
    num_data_workers: int = 0
    hdf5_normalize_obs: bool = False
    hdf5_filter_key: str | None = None
    hdf5_validation_filter_key: str | None = None
    early_share: float = 0.0
    early_steps: int = 2
    seq_length: int | None = None
    pad_seq_length: bool = True
    frame_stack: int = 1
    pad_frame_stack: bool = True
    goal_mode: Literal["last"] | None = None
    batch_size: int = 100
    num_epochs: int = 100
    seed: int = 1
    cache_images: bool | None = None
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"


@dataclass(frozen=True)
class LearningRate:
    """`schedule` and `warmup_steps` are ours."""

    initial: float = 1e-4
    decay_factor: float = 0.1
    epoch_schedule: tuple[int, ...] = ()
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0


@dataclass(frozen=True)
class Regularization:
    L2: float = 0.0


@dataclass(frozen=True)
class Optimizer:
    """`max_grad_norm` is ours."""

    learning_rate: LearningRate = field(default_factory=LearningRate)
    regularization: Regularization = field(default_factory=Regularization)
    max_grad_norm: float | None = None


@dataclass(frozen=True)
class OptimParams:
    policy: Optimizer = field(default_factory=Optimizer)


@dataclass(frozen=True)
class Horizon:
    observation_horizon: int = 2
    action_horizon: int = 8
    prediction_horizon: int = 16


@dataclass(frozen=True)
class UNet:
    enabled: bool = True
    diffusion_step_embed_dim: int = 256
    down_dims: tuple[int, ...] = (256, 512, 1024)
    kernel_size: int = 5
    n_groups: int = 8


@dataclass(frozen=True)
class ChunkMLP:
    """In the U-Net's place (ours): a residual network over the flattened chunk; on a CPU many times as fast.

    code            numbers that the observation is summed up in
    width, blocks   size of the denoiser
    """

    enabled: bool = False
    code: int = 256
    width: int = 512
    blocks: int = 4


@dataclass(frozen=True)
class SceneMLP:
    """In the U-Net's place (ours): a network for an agent in the plane that learns on a laptop, see `scene`.

    code            numbers that the observation is summed up in
    width, blocks   size of the denoiser
    velocity_scale  brings the difference of two frames' places to order one
    places          the observation that holds the places of what is in the picture (x and y each); needed in training only, where they are
                    predicted from the picture
    places_weight   of that prediction in the loss
    """

    enabled: bool = False
    code: int = 256
    width: int = 256
    blocks: int = 3
    velocity_scale: float = 20.0
    places: str = "states"
    places_weight: float = 0.1


@dataclass(frozen=True)
class ActionFrame:
    """The chunk that is denoised is (action - obs[relative_to] at the current frame) * scale (ours); null denoises the actions as they are."""

    relative_to: str | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Objective:
    """How a denoiser is trained (ours).

    draws     noise levels and noises for each encoded observation
    snr_cap   with `algo.predicts: clean`, a noise level counts with min(signal-to-noise ratio, snr_cap) + 0.2; null counts all alike
    """

    draws: int = 1
    snr_cap: float | None = None


@dataclass(frozen=True)
class EMA:
    enabled: bool = True
    power: float = 0.75


@dataclass(frozen=True)
class Schedule:
    """Arguments of diffusers' DDPM or DDIM scheduler. `timestep_spacing` and `clip_sample_range` are ours; diffusers' defaults otherwise."""

    enabled: bool = False
    num_train_timesteps: int = 100
    num_inference_timesteps: int = 10
    beta_schedule: str = "squaredcos_cap_v2"
    clip_sample: bool = True
    prediction_type: str = "epsilon"
    set_alpha_to_one: bool = True
    steps_offset: int = 0
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "leading"
    clip_sample_range: float = 1.0


@dataclass(frozen=True)
class Algo:
    """`predicts` (ours) is what the network puts out; whatever that is, the policy predicts the noise."""

    optim_params: OptimParams = field(default_factory=OptimParams)
    horizon: Horizon = field(default_factory=Horizon)
    unet: UNet = field(default_factory=UNet)
    mlp: ChunkMLP = field(default_factory=ChunkMLP)
    scene_mlp: SceneMLP = field(default_factory=SceneMLP)
    action_frame: ActionFrame = field(default_factory=ActionFrame)
    predicts: Literal["noise", "clean"] = "noise"
    objective: Objective = field(default_factory=Objective)
    ema: EMA = field(default_factory=EMA)
    ddpm: Schedule = field(default_factory=Schedule)
    ddim: Schedule = field(default_factory=Schedule)


@dataclass(frozen=True)
class ModalityKeys:
    low_dim: tuple[str, ...] = ()
    rgb: tuple[str, ...] = ()
    depth: tuple[str, ...] = ()
    scan: tuple[str, ...] = ()


@dataclass(frozen=True)
class Modalities:
    obs: ModalityKeys = field(default_factory=ModalityKeys)
    goal: ModalityKeys = field(default_factory=ModalityKeys)


@dataclass(frozen=True)
class BackboneKwargs:
    """`channels` (ours) is the width of PixelConv."""

    pretrained: bool = False
    input_coord_conv: bool = False
    channels: int = 32


@dataclass(frozen=True)
class PoolKwargs:
    num_kp: int = 32
    learnable_temperature: bool = False
    temperature: float = 1.0
    noise_std: float = 0.0


@dataclass(frozen=True)
class VisualCoreKwargs:
    """ResNet18Conv is the paper's; PixelConv (ours) is a small one that learns on a laptop.

    encoders      for the core class FrozenPatches (ours): camera -> a patch encoder's file, whose frozen tokens a linear layer reads; they are
                  computed once for all of the training
    token_noise   standard deviation of what is added to its tokens in training
    """

    feature_dimension: int = 64
    encoders: dict[str, str] = field(default_factory=dict)
    token_noise: float = 0.0
    backbone_class: Literal["ResNet18Conv", "PixelConv"] = "ResNet18Conv"
    backbone_kwargs: BackboneKwargs = field(default_factory=BackboneKwargs)
    pool_class: Literal["SpatialSoftmax"] = "SpatialSoftmax"
    pool_kwargs: PoolKwargs = field(default_factory=PoolKwargs)


@dataclass(frozen=True)
class Crop:
    crop_height: int = 0
    crop_width: int = 0
    num_crops: int = 1
    pos_enc: bool = False


@dataclass(frozen=True)
class RGBEncoder:
    core_class: Literal["VisualCore", "FrozenPatches"] = "VisualCore"
    core_kwargs: VisualCoreKwargs = field(default_factory=VisualCoreKwargs)
    obs_randomizer_class: Literal["CropRandomizer"] | None = None
    obs_randomizer_kwargs: Crop = field(default_factory=Crop)


@dataclass(frozen=True)
class Encoder:
    rgb: RGBEncoder = field(default_factory=RGBEncoder)


@dataclass(frozen=True)
class ObservationConfig:
    """`angles` (ours): which numbers of a low-dimensional observation are angles; the policy sees their sines and cosines."""

    angles: dict[str, tuple[int, ...]] = field(default_factory=dict)
    modalities: Modalities = field(default_factory=Modalities)
    encoder: Encoder = field(default_factory=Encoder)


@dataclass(frozen=True)
class PolicyConfig:
    """The whole file."""

    algo_name: Literal["diffusion_policy"] = "diffusion_policy"
    experiment: Experiment = field(default_factory=Experiment)
    train: Train = field(default_factory=Train)
    algo: Algo = field(default_factory=Algo)
    observation: ObservationConfig = field(default_factory=ObservationConfig)

    @property
    def schedule(self) -> Schedule:
        return self.algo.ddim if self.algo.ddim.enabled else self.algo.ddpm

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


# robomimic's keys that nothing here reads: data loading and logging are done otherwise, and rollouts are a script of their own.
IGNORED = frozenset(
    {
        "meta",
        "experiment.logging",
        "experiment.mse",
        "experiment.save.every_n_seconds",
        "experiment.save.epochs",
        "experiment.save.on_best_validation",
        "experiment.save.on_best_rollout_return",
        "experiment.save.on_best_rollout_success_rate",
        "experiment.env",
        "experiment.additional_envs",
        "experiment.render",
        "experiment.render_video",
        "experiment.keep_all_videos",
        "experiment.video_skip",
        "experiment.rollout",
        "experiment.env_meta_update_dict",
        "train.data_format",
        "train.hdf5_cache_mode",
        "train.hdf5_use_swmr",
        "train.hdf5_load_next_obs",
        "train.dataset_keys",
        "train.action_keys",
        "train.action_config",
        "train.cuda",
        "train.max_grad_norm",
        "algo.optim_params.policy.optimizer_type",
        "algo.optim_params.policy.learning_rate.scheduler_type",
        "observation.encoder.low_dim",
        "observation.encoder.depth",
        "observation.encoder.scan",
    }
)


def load_config(path: Path | str) -> PolicyConfig:
    """Read a JSON file; unknown keys are refused, keys without effect here are listed once."""
    return config_from(read_json(path, "config"), str(path))


def config_from(data: Any, where: str) -> PolicyConfig:
    """The configuration in `data`, checked for what this policy cannot do."""
    config, passed_over = parse(PolicyConfig, data, where, ignored=IGNORED)
    if passed_over:
        log.info("%s: accepted without effect here: %s", where, ", ".join(passed_over))
    for complaint in _complaints(config):
        raise UserError(f"{where}: {complaint}")
    return config


def _complaints(config: PolicyConfig) -> list[str]:
    train, algo, modalities = config.train, config.algo, config.observation.modalities
    horizon, rgb = algo.horizon, config.observation.encoder.rgb
    rules = {
        "exactly one of algo.ddpm.enabled and algo.ddim.enabled must be true": algo.ddpm.enabled != algo.ddim.enabled,
        "exactly one of algo.unet.enabled, algo.mlp.enabled and algo.scene_mlp.enabled must be true": (
            sum((algo.unet.enabled, algo.mlp.enabled, algo.scene_mlp.enabled)) == 1
        ),
        f"the policy must predict the noise: prediction_type 'epsilon', not {config.schedule.prediction_type!r}": (
            config.schedule.prediction_type == "epsilon"
        ),
        f"train.frame_stack ({train.frame_stack}) must equal algo.horizon.observation_horizon ({horizon.observation_horizon})": (
            train.frame_stack == horizon.observation_horizon
        ),
        "train.seq_length + train.frame_stack - 1 must equal algo.horizon.prediction_horizon": (
            train.seq_length is None or train.seq_length + train.frame_stack - 1 == horizon.prediction_horizon
        ),
        "train.pad_seq_length and train.pad_frame_stack must be true": train.pad_seq_length and train.pad_frame_stack,
        f"algo.horizon.prediction_horizon must be a multiple of {2 ** (len(algo.unet.down_dims) - 1)}": (
            horizon.prediction_horizon % 2 ** (len(algo.unet.down_dims) - 1) == 0
        ),
        "every entry of algo.unet.down_dims must be a multiple of algo.unet.n_groups": all(
            width % algo.unet.n_groups == 0 for width in algo.unet.down_dims
        ),
        "observation.modalities.obs names no observation": bool(modalities.obs.low_dim or modalities.obs.rgb),
        "depth and scan observations are not supported": not any(
            (*modalities.obs.depth, *modalities.obs.scan, *modalities.goal.depth, *modalities.goal.scan)
        ),
        "input_coord_conv is not supported": not rgb.core_kwargs.backbone_kwargs.input_coord_conv,
        "obs_randomizer_kwargs: num_crops must be 1 and pos_enc false": rgb.obs_randomizer_kwargs.num_crops == 1
        and not rgb.obs_randomizer_kwargs.pos_enc,
        "a goal in observation.modalities.goal needs train.goal_mode 'last', and the other way round": (
            bool(modalities.goal.rgb or modalities.goal.low_dim) == (train.goal_mode == "last")
        ),
        "batch_size, num_epochs and epoch_every_n_steps must be at least 1": min(
            train.batch_size, train.num_epochs, config.experiment.epoch_every_n_steps
        )
        >= 1,
    }
    return [text for text, holds in {**rules, **_rules_of_ours(config)}.items() if not holds]


def _rules_of_ours(config: PolicyConfig) -> dict[str, bool]:
    """Rules for the options that robomimic does not have: text -> whether it holds."""
    train, algo, modalities = config.train, config.algo, config.observation.modalities
    frame, scene = algo.action_frame, algo.scene_mlp.enabled
    return {
        "train.early_share must lie in [0, 1) and train.early_steps be at least 1": 0 <= train.early_share < 1 and train.early_steps >= 1,
        "algo.objective.draws must be at least 1": algo.objective.draws >= 1,
        "algo.objective.snr_cap needs algo.predicts 'clean'": algo.objective.snr_cap is None or algo.predicts == "clean",
        "algo.action_frame.scale must be positive": frame.scale > 0,
        f"algo.action_frame.relative_to ({frame.relative_to}) must be one of observation.modalities.obs.low_dim": (
            frame.relative_to is None or frame.relative_to in modalities.obs.low_dim
        ),
        "observation.encoder.rgb.core_kwargs.encoders must name every camera for FrozenPatches, and none otherwise": (
            set(config.observation.encoder.rgb.core_kwargs.encoders) == ({*modalities.obs.rgb, *modalities.goal.rgb} if _frozen(config) else set())
        ),
        "the core class FrozenPatches knows no crops": not _frozen(config) or not config.observation.encoder.rgb.obs_randomizer_class,
        "observation.angles must name low-dimensional observations": set(config.observation.angles)
        <= {*modalities.obs.low_dim, *modalities.goal.low_dim},
        "algo.scene_mlp needs algo.action_frame.relative_to, the agent's place": not scene or frame.relative_to is not None,
        "algo.scene_mlp needs an image in observation.modalities.obs.rgb": not scene or bool(modalities.obs.rgb),
        "algo.scene_mlp needs two frames (train.frame_stack), to see velocity": not scene or train.frame_stack >= 2,
        "algo.scene_mlp knows no goals, crops and normalisation (observation.modalities.goal, obs_randomizer_class, hdf5_normalize_obs)": (
            not scene or not (train.goal_mode or train.hdf5_normalize_obs or config.observation.encoder.rgb.obs_randomizer_class)
        ),
    }


def with_encoder(config: PolicyConfig, path: str) -> PolicyConfig:
    """The configuration with this patch encoder for every camera."""
    if not _frozen(config):
        raise UserError("a patch encoder is for a configuration with the core class FrozenPatches only")
    rgb = config.observation.encoder.rgb
    kwargs = replace(rgb.core_kwargs, encoders=dict.fromkeys(rgb.core_kwargs.encoders, path))
    return replace(config, observation=replace(config.observation, encoder=Encoder(replace(rgb, core_kwargs=kwargs))))


def _frozen(config: PolicyConfig) -> bool:
    return config.observation.encoder.rgb.core_class == "FrozenPatches"
