"""The diffusion policy: what it sees, what it predicts, and its place in the seam."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from jaxtyping import Float
from torch import Tensor, nn

from dynaguide.chunks import Windows
from dynaguide.dynamics import with_angles
from dynaguide.encoders.base import OutcomeEncoder
from dynaguide.environments import GOAL
from dynaguide.errors import UserError
from dynaguide.features import token_key
from dynaguide.types import ActionChunk, BoundPolicy, Observation, repeat_rows, to_float_image
from dynaguide_robomimic.config import ActionFrame, PolicyConfig, Schedule, VisualCoreKwargs
from dynaguide_robomimic.crops import centre_crop, random_crop
from dynaguide_robomimic.networks import ConditionalMLP, ConditionalUNet1D, FrozenPatches, VisualCore, camera
from dynaguide_robomimic.scene import SceneDenoiser, SceneEncoder


@dataclass(frozen=True)
class Shapes:
    """What the data looks like. Observation shapes are (channel, height, width) for images; their order is the order of the features.

    places   numbers in the observation that `algo.scene_mlp.places` names
    """

    action: int
    obs: dict[str, tuple[int, ...]]
    goal: dict[str, tuple[int, ...]]
    places: int = 0


class ObservationEncoder(nn.Module):
    """A group of observations (the current frames, or a goal) -> features, keys in order, for one frame."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], config: PolicyConfig, frozen: Mapping[str, OutcomeEncoder]) -> None:
        super().__init__()
        rgb = config.observation.encoder.rgb
        self.shapes, self.angles = shapes, config.observation.angles
        self.crop = (rgb.obs_randomizer_kwargs.crop_height, rgb.obs_randomizer_kwargs.crop_width) if rgb.obs_randomizer_class else None
        images = {key: shape for key, shape in shapes.items() if len(shape) == 3}
        self.obs_nets = nn.ModuleDict({key: self._core(key, shape, rgb.core_kwargs, frozen) for key, shape in images.items()})
        for key, shape in shapes.items():
            if len(shape) == 1:
                self.register_buffer(f"mean_{key}", torch.zeros(shape))
                self.register_buffer(f"std_{key}", torch.ones(shape))

    def _core(self, key: str, shape: tuple[int, ...], kwargs: VisualCoreKwargs, frozen: Mapping[str, OutcomeEncoder]) -> nn.Module:
        if key in frozen:
            return FrozenPatches(copy.deepcopy(frozen[key]), kwargs.feature_dimension, kwargs.token_noise)
        return VisualCore(*camera(key, shape, kwargs, self.crop), kwargs.pool_kwargs.num_kp, kwargs.feature_dimension)

    @property
    def features(self) -> int:
        images = sum(core.features for core in self.obs_nets.values())  # type: ignore[misc]
        return images + sum(shape[0] + len(self.angles.get(key, ())) for key, shape in self.shapes.items() if key not in self.obs_nets)

    def normalise(self, key: str, mean: Tensor, std: Tensor) -> None:
        """Standardise a low-dimensional observation from now on; the numbers travel with the weights."""
        getattr(self, f"mean_{key}").copy_(mean)
        getattr(self, f"std_{key}").copy_(std)

    def forward(self, frame: dict[str, Tensor]) -> Float[Tensor, "batch feature"]:
        """An image may come as the tokens that its frozen encoder made of it."""
        return torch.cat([self._encode(key, frame[key] if key in frame else frame[token_key(key)]) for key in self.shapes], dim=-1)

    def _encode(self, key: str, value: Tensor) -> Tensor:
        if key not in self.obs_nets:
            standard = (value - getattr(self, f"mean_{key}")) / getattr(self, f"std_{key}")
            return with_angles(standard, value, self.angles.get(key, ()))
        if value.ndim == 3:
            return self.obs_nets[key](value)
        image = to_float_image(value)
        if self.crop is not None:
            image = random_crop(image, self.crop) if self.training else centre_crop(image, self.crop)
        return self.obs_nets[key](image)


class DiffusionPolicy(nn.Module):
    """A conditional denoiser of action chunks, fit for the seam: `given(obs)` encodes once and returns the noise predictor.

    frozen   camera -> the patch encoder that it is read with (the core class FrozenPatches); copies of them travel with the weights
    What is denoised are the actions, or the actions as seen from the agent (`algo.action_frame`); `to_chunk` and `to_actions` go between the two.
    """

    def __init__(self, config: PolicyConfig, shapes: Shapes, frozen: Mapping[str, OutcomeEncoder] | None = None) -> None:
        super().__init__()
        self.config, self.shapes, self.frozen = config, shapes, dict(frozen or {})
        self.history = config.algo.horizon.observation_horizon
        if config.algo.scene_mlp.enabled:
            self._build_scene_mlp()
        else:
            self._build_encoders()
            self.noise_pred_net = self._mlp() if config.algo.mlp.enabled else self._unet()
        self.scheduler = make_scheduler(config.schedule, ddim=config.algo.ddim.enabled)

    def _build_encoders(self) -> None:
        self.encoders = nn.ModuleDict({"obs": ObservationEncoder(self.shapes.obs, self.config, self.frozen)})
        if self.shapes.goal:
            self.encoders["goal"] = ObservationEncoder(self.shapes.goal, self.config, self.frozen)

    @property
    def _condition(self) -> int:
        return self.history * self._features("obs") + self._features("goal")

    def _unet(self) -> nn.Module:
        unet = self.config.algo.unet
        return ConditionalUNet1D(
            self.shapes.action,
            self._condition,
            step_embedding=unet.diffusion_step_embed_dim,
            widths=unet.down_dims,
            kernel=unet.kernel_size,
            groups=unet.n_groups,
        )

    def _mlp(self) -> nn.Module:
        algo = self.config.algo
        return ConditionalMLP(self.action_shape, self._condition, algo.mlp, step_embedding=algo.unet.diffusion_step_embed_dim)

    def _build_scene_mlp(self) -> None:
        if self.shapes.action != 2:
            raise UserError(f"algo.scene_mlp is for an agent in the plane, with 2 numbers an action, not {self.shapes.action}")
        self.encoders = nn.ModuleDict({"obs": SceneEncoder(self.shapes.obs, self.shapes.places, self.config)})
        self.noise_pred_net = SceneDenoiser(self.action_shape[0], self.config)

    @property
    def action_shape(self) -> tuple[int, int]:
        return self.config.algo.horizon.prediction_horizon, self.shapes.action

    @property
    def inference_steps(self) -> int:
        return self.config.schedule.num_inference_timesteps

    @property
    def windows(self) -> Windows:
        """How its training examples are cut: robomimic's chunks start with the oldest frame, and repeat the last action past the end."""
        horizon = self.config.algo.horizon.prediction_horizon
        return Windows(self.history, horizon, 1 - self.history, "repeat", "last" if self.shapes.goal else None)

    @property
    def first_action(self) -> int:
        """The index in a chunk of the action that belongs to the current frame."""
        return -self.windows.offset

    @property
    def obs_keys(self) -> list[str]:
        return [*self.shapes.obs, *(GOAL + key for key in self.shapes.goal)]

    def encode(self, obs: Observation) -> Float[Tensor, "batch condition"]:
        """All frames' features, oldest frame first, then the goal's; or what the scene encoder makes of them."""
        if self.config.algo.scene_mlp.enabled:
            return self.encode_scene(obs)[0]
        frames = {key: value.flatten(0, 1) for key, value in obs.items() if not key.startswith(GOAL)}
        features = self.encoders["obs"](frames).unflatten(0, (-1, self.history)).flatten(1)
        if not self.shapes.goal:
            return features
        goal = self.encoders["goal"]({key.removeprefix(GOAL): value[:, -1] for key, value in obs.items() if key.startswith(GOAL)})
        return torch.cat([features, goal], dim=-1)

    def encode_scene(self, obs: Observation) -> tuple[Float[Tensor, "batch condition"], Float[Tensor, "batch places"]]:
        """The condition, and the places that the scene encoder finds in the pictures."""
        return self.encoders["obs"](obs)

    def network(self, noisy: ActionChunk, timestep: Tensor | int, condition: Float[Tensor, "batch condition"]) -> ActionChunk:
        """What the network puts out: the noise, or the clean chunk (`algo.predicts`)."""
        steps = torch.as_tensor(timestep, device=noisy.device, dtype=noisy.dtype).expand(len(noisy))
        return self.noise_pred_net(noisy, steps, condition)

    def predict_noise(self, noisy: ActionChunk, timestep: Tensor | int, condition: Float[Tensor, "batch condition"]) -> ActionChunk:
        """eps(a^k, k, o); from a clean chunk it is (a^k - sqrt(alpha_bar_k) a^0) / sqrt(1 - alpha_bar_k)."""
        predicted = self.network(noisy, timestep, condition)
        if self.config.algo.predicts == "noise":
            return predicted
        alpha_bar = self.alpha_bar(timestep, noisy)
        return (noisy - alpha_bar.sqrt() * predicted) / (1 - alpha_bar).sqrt()

    def alpha_bar(self, timestep: Tensor | int, like: ActionChunk) -> Float[Tensor, "#batch 1 1"]:
        steps = torch.as_tensor(timestep, device="cpu").reshape(-1)
        return self.scheduler.alphas_cumprod[steps].to(like)[:, None, None]

    def to_chunk(self, actions: ActionChunk, obs: Observation) -> ActionChunk:
        """The environment's actions -> what is denoised."""
        scale = self.config.algo.action_frame.scale
        return (actions - repeat_rows(self._origin(obs), len(actions))) * scale if self._framed else actions

    def to_actions(self, chunk: ActionChunk, obs: Observation) -> ActionChunk:
        """What is denoised -> the environment's actions, which lie in [-1, 1] as those of all training data do."""
        scale = self.config.algo.action_frame.scale
        return (chunk / scale + repeat_rows(self._origin(obs), len(chunk))).clamp(-1, 1) if self._framed else chunk

    @property
    def _framed(self) -> bool:
        return self.config.algo.action_frame != ActionFrame()

    def _origin(self, obs: Observation) -> Float[Tensor, "batch 1 action"]:
        """Where actions are seen from."""
        key = self.config.algo.action_frame.relative_to
        return next(iter(obs.values())).new_zeros(1, 1, self.shapes.action, dtype=torch.float32) if key is None else obs[key][:, -1:].float()

    def given(self, obs: Observation) -> BoundPolicy:
        """The seam's side of the policy: images are encoded here, once for all denoising steps and candidates."""
        self._check(obs)
        condition = self.encode(obs)

        def predict(noisy: ActionChunk, timestep: int) -> ActionChunk:
            return self.predict_noise(noisy, timestep, repeat_rows(condition, len(noisy)))

        return BoundPolicy(predict, lambda chunk: self.to_actions(chunk, obs)) if self._framed else BoundPolicy(predict)

    def _check(self, obs: Observation) -> None:
        expected = {**self.shapes.obs, **{GOAL + key: shape for key, shape in self.shapes.goal.items()}}
        for key, shape in expected.items():
            if key not in obs:
                raise UserError(f"the policy needs the observation {key!r} (given: {', '.join(obs)})")
            frames = self.history if key in self.shapes.obs else obs[key].shape[1]
            if tuple(obs[key].shape[1:]) != (frames, *shape):
                raise UserError(f"the policy was trained on {key} of shape {(frames, *shape)} (frames first), not {tuple(obs[key].shape[1:])}")

    def _features(self, group: str) -> int:
        return self.encoders[group].features if group in self.encoders else 0  # type: ignore[return-value]


def make_scheduler(schedule: Schedule, *, ddim: bool) -> Any:
    """diffusers' scheduler as the configuration describes it."""
    common = {
        "num_train_timesteps": schedule.num_train_timesteps,
        "beta_schedule": schedule.beta_schedule,
        "clip_sample": schedule.clip_sample,
        "clip_sample_range": schedule.clip_sample_range,
        "prediction_type": schedule.prediction_type,
        "timestep_spacing": schedule.timestep_spacing,
    }
    try:
        if ddim:
            return DDIMScheduler(**common, set_alpha_to_one=schedule.set_alpha_to_one, steps_offset=schedule.steps_offset)
        return DDPMScheduler(**common)
    except NotImplementedError as error:
        raise UserError(f"beta_schedule {schedule.beta_schedule!r} is not one of diffusers'") from error
