"""The networks of the diffusion policy: image encoders and the conditional 1-D U-Net. Parameter names are those of the published checkpoints."""

from collections.abc import Sequence

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dynaguide.encoders.base import OutcomeEncoder
from dynaguide.encoders.pixels import pixel_trunk
from dynaguide.errors import UserError
from dynaguide.types import ActionChunk
from dynaguide_robomimic.config import ChunkMLP, VisualCoreKwargs

CHANNELS_PER_GROUP = 16


class Backbone(nn.Module):
    """Image -> feature map; `nets` as robomimic names it."""

    def __init__(self, nets: nn.Sequential, channels: int) -> None:
        super().__init__()
        self.nets, self.channels = nets, channels

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channel rows columns"]:
        return self.nets(image)


def resnet18(*, pretrained: bool) -> Backbone:
    """torchvision's ResNet-18 without its pooling and head, BatchNorm replaced by GroupNorm (16 channels a group)."""
    try:
        net = torchvision.models.resnet18(weights="DEFAULT" if pretrained else None)
    except OSError as error:
        raise UserError(f"the pretrained ResNet-18 weights cannot be downloaded ({error}); set backbone_kwargs.pretrained to false") from error
    body = nn.Sequential(*list(net.children())[:-2])
    replace_batchnorm(body)
    return Backbone(body, 512)


def replace_batchnorm(module: nn.Module) -> None:
    """GroupNorm with 16 channels a group in the place of every BatchNorm: averaged weights and running statistics do not go together."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(child.num_features // CHANNELS_PER_GROUP, child.num_features))
        else:
            replace_batchnorm(child)


class SpatialSoftmax(nn.Module):
    """Feature map -> the expected image position of each of `keypoints` learned features, x and y in [-1, 1]."""

    pos_x: Tensor
    pos_y: Tensor
    temperature: Tensor

    def __init__(self, channels: int, size: tuple[int, int], keypoints: int, *, temperature: float, learnable: bool, noise_std: float) -> None:
        super().__init__()
        self.nets = nn.Conv2d(channels, keypoints, 1)
        self.noise_std = noise_std
        if learnable:
            self.temperature = nn.Parameter(torch.full((1,), temperature))
        else:
            self.register_buffer("temperature", torch.full((1,), temperature))
        y, x = torch.meshgrid(torch.linspace(-1, 1, size[0]), torch.linspace(-1, 1, size[1]), indexing="ij")
        self.register_buffer("pos_x", x.reshape(1, -1))
        self.register_buffer("pos_y", y.reshape(1, -1))

    def forward(self, features: Float[Tensor, "batch channel rows columns"]) -> Float[Tensor, "batch keypoint 2"]:
        attention = functional.softmax(self.nets(features).flatten(2) / self.temperature, dim=-1)  # (B, K, cells)
        points = torch.stack([(attention * self.pos_x).sum(-1), (attention * self.pos_y).sum(-1)], dim=-1)
        return points + self.noise_std * torch.randn_like(points) if self.training and self.noise_std else points


def camera(key: str, shape: tuple[int, ...], kwargs: VisualCoreKwargs, crop: tuple[int, int] | None) -> tuple[Backbone, SpatialSoftmax]:
    """Backbone and spatial softmax for one camera's images."""
    height, width = crop or shape[1:]
    if height > shape[1] or width > shape[2]:
        raise UserError(f"the config crops {key} to {height} x {width}, but its images are {shape[1]} x {shape[2]}")
    backbone = (
        resnet18(pretrained=kwargs.backbone_kwargs.pretrained)
        if kwargs.backbone_class == "ResNet18Conv"
        else Backbone(pixel_trunk(kwargs.backbone_kwargs.channels), kwargs.backbone_kwargs.channels)
    )
    pool = SpatialSoftmax(
        backbone.channels,
        _map_size(backbone, height, width),
        kwargs.pool_kwargs.num_kp,
        temperature=kwargs.pool_kwargs.temperature,
        learnable=kwargs.pool_kwargs.learnable_temperature,
        noise_std=kwargs.pool_kwargs.noise_std,
    )
    return backbone, pool


@torch.no_grad()
def _map_size(backbone: Backbone, height: int, width: int) -> tuple[int, int]:
    rows, columns = backbone(torch.zeros(1, 3, height, width)).shape[-2:]
    return rows, columns


class VisualCore(nn.Module):
    """One camera: backbone, spatial softmax, a linear layer to `features` numbers, and the ReLU that robomimic puts after every encoder."""

    def __init__(self, backbone: Backbone, pool: SpatialSoftmax, keypoints: int, features: int) -> None:
        super().__init__()
        self.backbone, self.pool, self.features = backbone, pool, features
        self.project = nn.Linear(2 * keypoints, features)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch feature"]:
        return functional.relu(self.project(self.pool(self.backbone(image)).flatten(1)))


class FrozenPatches(nn.Module):
    """One camera: the tokens of a frozen patch encoder, or those that were computed before, and a linear layer to `features` numbers."""

    def __init__(self, encoder: OutcomeEncoder, features: int, noise: float) -> None:
        super().__init__()
        self.encoder, self.features, self.noise = encoder.requires_grad_(False), features, noise
        self.project = nn.Linear(encoder.count * encoder.width, features)

    def forward(self, seen: Tensor) -> Float[Tensor, "batch feature"]:
        """seen: images, (batch, 3, height, width), or their tokens, (batch, token, width)"""
        tokens = self.encoder(seen) if seen.ndim == 4 else seen.float()
        if self.training and self.noise:
            tokens = tokens + self.noise * torch.randn_like(tokens)
        return functional.relu(self.project(tokens.flatten(1)))


class SinusoidalEmbedding(nn.Module):
    """Diffusion step -> sines and cosines of `size / 2` frequencies between 1 and 1/10,000."""

    frequencies: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        exponents = torch.arange(size // 2) / (size // 2 - 1)
        self.register_buffer("frequencies", torch.exp(-exponents * torch.log(torch.tensor(10_000.0))), persistent=False)

    def forward(self, step: Float[Tensor, " batch"]) -> Float[Tensor, "batch size"]:
        angles = step[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class ConditionalMLP(nn.Module):
    """Residual MLP over the flattened chunk, scaled and shifted in each block as observation and noise level say (FiLM)."""

    def __init__(self, action_shape: tuple[int, int], condition: int, settings: ChunkMLP, *, step_embedding: int) -> None:
        super().__init__()
        chunk, width = action_shape[0] * action_shape[1], settings.width
        self.code = nn.Sequential(nn.Linear(condition, settings.width), nn.Mish(), nn.Linear(settings.width, settings.code))
        self.step = nn.Sequential(SinusoidalEmbedding(step_embedding), nn.Linear(step_embedding, 128), nn.Mish(), nn.Linear(128, 128))
        self.enter, self.leave = nn.Linear(chunk, width), nn.Linear(width, chunk)
        self.films = nn.ModuleList([nn.Linear(settings.code + 128, 2 * width) for _ in range(settings.blocks)])
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(width, width), nn.Mish(), nn.Linear(width, width)) for _ in range(settings.blocks)])
        self.norm = nn.LayerNorm(width, elementwise_affine=False)

    def forward(self, noisy: ActionChunk, step: Float[Tensor, " batch"], condition: Float[Tensor, "batch condition"]) -> ActionChunk:
        film = functional.mish(torch.cat([self.code(condition), self.step(step)], dim=-1))
        hidden = self.enter(noisy.flatten(1))
        for modulate, block in zip(self.films, self.blocks, strict=True):
            scale, shift = modulate(film).chunk(2, dim=-1)
            hidden = hidden + block(self.norm(hidden) * (1 + scale) + shift)
        return self.leave(self.norm(hidden)).view_as(noisy)


class ConvBlock(nn.Module):
    """Convolution over time, GroupNorm, Mish."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2), nn.GroupNorm(groups, outputs), nn.Mish())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class ResidualBlock(nn.Module):
    """Two convolution blocks with a skip; between them FiLM: scale and shift each channel as the condition says."""

    def __init__(self, inputs: int, outputs: int, condition: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([ConvBlock(inputs, outputs, kernel, groups), ConvBlock(outputs, outputs, kernel, groups)])
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * outputs))
        self.residual_conv = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Float[Tensor, "batch inputs time"], condition: Float[Tensor, "batch condition"]) -> Float[Tensor, "batch outputs time"]:
        scale, shift = self.cond_encoder(condition)[..., None].chunk(2, dim=1)
        return self.blocks[1](scale * self.blocks[0](x) + shift) + self.residual_conv(x)


class Resample(nn.Module):
    """Halve or double the time axis."""

    def __init__(self, conv: nn.Conv1d | nn.ConvTranspose1d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class ConditionalUNet1D(nn.Module):
    """The noise predictor: eps(a^k, k, condition) over action chunks."""

    def __init__(self, action_size: int, condition_size: int, *, step_embedding: int, widths: Sequence[int], kernel: int, groups: int) -> None:
        super().__init__()
        condition = step_embedding + condition_size
        pairs = list(zip([action_size, *widths[:-1]], widths, strict=True))

        def residual(inputs: int, outputs: int) -> ResidualBlock:
            return ResidualBlock(inputs, outputs, condition, kernel, groups)

        def level(inputs: int, outputs: int, resample: nn.Module) -> nn.ModuleList:
            return nn.ModuleList([residual(inputs, outputs), residual(outputs, outputs), resample])

        def halve(width: int, last: bool) -> nn.Module:
            return nn.Identity() if last else Resample(nn.Conv1d(width, width, 3, stride=2, padding=1))

        def double(width: int) -> nn.Module:
            return Resample(nn.ConvTranspose1d(width, width, 4, stride=2, padding=1))

        # registered in the published order: a checkpoint's averaged weights are a plain list in it
        self.mid_modules = nn.ModuleList([residual(widths[-1], widths[-1]) for _ in range(2)])
        self.diffusion_step_encoder = nn.Sequential(
            SinusoidalEmbedding(step_embedding),
            nn.Linear(step_embedding, 4 * step_embedding),
            nn.Mish(),
            nn.Linear(4 * step_embedding, step_embedding),
        )
        self.up_modules = nn.ModuleList([level(2 * outputs, inputs, double(inputs)) for inputs, outputs in reversed(pairs[1:])])
        self.down_modules = nn.ModuleList([level(inputs, outputs, halve(outputs, outputs == widths[-1])) for inputs, outputs in pairs])
        self.final_conv = nn.Sequential(ConvBlock(widths[0], widths[0], kernel, groups), nn.Conv1d(widths[0], action_size, 1))

    def forward(
        self, noisy: Float[Tensor, "batch horizon action"], step: Float[Tensor, " batch"], condition: Float[Tensor, "batch condition"]
    ) -> Float[Tensor, "batch horizon action"]:
        condition = torch.cat([self.diffusion_step_encoder(step), condition], dim=-1)
        x = noisy.movedim(-1, -2)  # (B, action, horizon)
        skips = []
        for level in self.down_modules:
            first, second, resample = _parts(level)
            x = second(first(x, condition), condition)
            skips.append(x)
            x = resample(x)
        for block in self.mid_modules:
            x = block(x, condition)
        for level in self.up_modules:
            first, second, resample = _parts(level)
            x = torch.cat([x, skips.pop()], dim=1)
            x = resample(second(first(x, condition), condition))
        return self.final_conv(x).movedim(-1, -2)


def _parts(level: nn.Module) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The three modules of one level of the U-Net."""
    first, second, resample = level.children()
    return first, second, resample
