"""The outcome transformer: from what the cameras show now and an action chunk, noisy or not, to how the scene will look (paper, sections 3 and B.1).

Images are tokens of a frozen encoder (`dynaguide.encoders`). The tokens of all cameras, one token of proprioception and one of the chunk go through
post-norm transformer layers; the outputs at the image tokens are the prediction.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dynaguide.chunks import Windows
from dynaguide.errors import UserError
from dynaguide.noising import ChunkNoise
from dynaguide.types import ActionChunk, ChunkFunction, repeat_rows

Tokens = Float[Tensor, "batch token width"]


@dataclass(frozen=True)
class DynamicsConfig:
    """Everything that rebuilds a dynamics model but its encoder.

    cameras         image observations, in the order of their tokens
    tokens          image tokens a camera, as the encoder makes them
    features        numbers an image token
    width           of the transformer; image tokens of another width are projected
    picture_sizes   (height, width) of each camera's pictures in the training data; empty if nobody noted them
    proprio_mean    subtracted from the proprioception; empty: nothing, as published
    proprio_std     it is divided by these; empty: by one
    proprio_angles  which of its numbers are angles that jump by a full turn: the model sees their sine and cosine
    action_numbers  numbers that each action becomes; together they are the action token, projected if they are not as many as `width`
    action_hidden   hidden units on the way from an action to its numbers; 0: a linear map, as published
    residual        predict the change of the image tokens instead of the tokens
    noise           which action chunks are noised in training, and how far
    renderer        what drew the pictures in the training data, where that is recorded: conditions of another one do not compare
    """

    cameras: tuple[str, ...]
    action_dim: int
    picture_sizes: tuple[tuple[int, ...], ...] = ()
    tokens: int = 256
    features: int = 384
    proprio_key: str | None = "proprio"
    proprio_dim: int = 15
    proprio_mean: tuple[float, ...] = ()
    proprio_std: tuple[float, ...] = ()
    proprio_angles: tuple[int, ...] = ()
    windows: Windows = field(default_factory=lambda: Windows(history=1, horizon=16, offset=-1, outcome="last"))
    width: int = 384
    layers: int = 6
    heads: int = 8
    feed_forward: int = 2048
    action_numbers: int = 24
    action_hidden: int = 0
    residual: bool = False
    noise: ChunkNoise = field(default_factory=lambda: ChunkNoise(share=0.5, relative_to=None, scale=1.0))
    renderer: str | None = None

    def __post_init__(self) -> None:
        if not self.cameras:
            raise UserError("a dynamics model needs at least one camera")
        for name in ("proprio_mean", "proprio_std"):
            if len(getattr(self, name)) not in (0, self.proprio_dim):
                raise UserError(f"{name} must have {self.proprio_dim} numbers or none, not {len(getattr(self, name))}")
        if any(not 0 <= index < self.proprio_dim for index in self.proprio_angles):
            raise UserError(f"proprio_angles {list(self.proprio_angles)} are not all among {self.proprio_dim} numbers")
        if self.width % self.heads:
            raise UserError(f"the transformer's width {self.width} is not a multiple of its {self.heads} heads")

    @property
    def image_tokens(self) -> int:
        return self.tokens * len(self.cameras)


class DynamicsModel(nn.Module):
    """`model(images, proprio, actions)`: tokens of the predicted outcome."""

    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.positions = nn.Parameter(0.02 * torch.randn(1, config.image_tokens + bool(config.proprio_key) + 1, width))
        self.read_image = nn.Identity() if config.features == width else nn.Linear(config.features, width)
        self.read_proprio = nn.Linear(config.proprio_dim + len(config.proprio_angles), width) if config.proprio_key else None
        self.read_action = _read_action(config)
        joined = config.action_numbers * config.windows.horizon
        self.join_actions = nn.Identity() if joined == width else nn.Linear(joined, width)
        self.layers = nn.ModuleList(TransformerLayer(width, config.heads, config.feed_forward) for _ in range(config.layers))
        self.write_image = nn.Linear(width, config.features) if config.residual or config.features != width else nn.Identity()
        if config.residual and isinstance(self.write_image, nn.Linear):
            nn.init.zeros_(self.write_image.weight)

    def forward(self, images: Tokens, proprio: Tensor | None, actions: ActionChunk) -> Tokens:
        """images: (batch, cameras x tokens, features); proprio: (batch, numbers)"""
        return self.given(images, proprio)(actions)

    def given(self, images: Tokens, proprio: Tensor | None) -> ChunkFunction:
        """The function of the chunk, several for each row if wanted; what does not depend on the chunk is computed here."""
        count = self.config.image_tokens
        if images.shape[1:] != (count, self.config.features):
            raise UserError(f"the dynamics model needs image tokens of shape {(count, self.config.features)}, not {tuple(images.shape[1:])}")
        parts = [self.read_image(images)] + ([self.read_proprio(self._checked(proprio))[:, None]] if self.read_proprio is not None else [])
        known = torch.cat(parts, dim=1) + self.positions[:, :-1]

        def predict(actions: ActionChunk) -> Tokens:
            x = torch.cat([repeat_rows(known, len(actions)), self._action_token(actions) + self.positions[:, -1:]], dim=1)
            for layer in self.layers:
                x = layer(x)
            predicted = self.write_image(x[:, :count])
            return predicted + repeat_rows(images, len(actions)) if self.config.residual else predicted

        return predict

    def _action_token(self, actions: ActionChunk) -> Tokens:
        """Each action becomes `action_numbers` numbers; those of one kind lie next to each other. (B, 1, width)"""
        expected = (self.config.windows.horizon, self.config.action_dim)
        if tuple(actions.shape[1:]) != expected:
            raise UserError(f"the dynamics model was trained on chunks of shape {expected}, not {tuple(actions.shape[1:])}")
        return self.join_actions(self.read_action(actions).transpose(1, 2).flatten(1))[:, None]

    def _checked(self, proprio: Tensor | None) -> Tensor:
        if proprio is None or proprio.shape[-1] != self.config.proprio_dim:
            found = "none" if proprio is None else f"{proprio.shape[-1]} numbers"
            raise UserError(f"the dynamics model needs {self.config.proprio_dim} numbers of {self.config.proprio_key!r}, given: {found}")
        return with_angles(standardised(proprio, self.config.proprio_mean, self.config.proprio_std), proprio, self.config.proprio_angles)


def standardised(numbers: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(numbers - mean) / std, where there are a mean and a standard deviation."""
    if mean:
        numbers = numbers - torch.tensor(mean).to(numbers)
    return numbers / torch.tensor(std).to(numbers) if std else numbers


def with_angles(standard: Tensor, raw: Tensor, angles: tuple[int, ...]) -> Tensor:
    """The angles among some numbers as their sines, in place, and cosines, behind them: an angle that jumps by a full turn then does not."""
    if not angles:
        return standard
    index = list(angles)
    seen = standard.clone()
    seen[..., index] = raw[..., index].sin()
    return torch.cat([seen, raw[..., index].cos()], dim=-1)


def _read_action(config: DynamicsConfig) -> nn.Module:
    if not config.action_hidden:
        return nn.Linear(config.action_dim, config.action_numbers)
    return nn.Sequential(nn.Linear(config.action_dim, config.action_hidden), nn.GELU(), nn.Linear(config.action_hidden, config.action_numbers))


class TransformerLayer(nn.Module):
    """torch's post-norm encoder layer (ReLU, no dropout), with its names; a frozen one costs only its input's gradient."""

    def __init__(self, width: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(width, heads)
        self.linear1, self.linear2 = nn.Linear(width, feed_forward), nn.Linear(feed_forward, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tokens) -> Tokens:
        x = self.norm1(x + self.self_attn(x))
        return self.norm2(x + self.linear2(functional.relu(self.linear1(x))))


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tokens) -> Tokens:
        q, k, v = functional.linear(x, self.in_proj_weight, self.in_proj_bias).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out_proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
