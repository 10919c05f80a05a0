"""DINOv2's vision transformers, numerically facebookresearch's, under their key names; weights come from files that the user has."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dynaguide import checkpoint
from dynaguide.encoders.base import OutcomeEncoder, imagenet_normalised
from dynaguide.errors import UserError, unknown_name
from dynaguide.files import existing_file

KIND = "dinov2"
PATCH = 14
IMAGE_SIZE = 224
POSITION_OFFSET = 0.1  # facebookresearch add this to the patches a side before they interpolate the positions
TRAINED_SIDE = 37  # patches a side in training, 518 / 14


class Variant(NamedTuple):
    width: int
    depth: int
    heads: int
    gated: bool = False  # SwiGLU in place of an MLP


VARIANTS = {
    "vits14": Variant(384, 12, 6),
    "vitb14": Variant(768, 12, 12),
    "vitl14": Variant(1024, 24, 16),
    "vitg14": Variant(1536, 40, 24, gated=True),
}
HUGGING_FACE = {"vits14": "dinov2-small", "vitb14": "dinov2-base", "vitl14": "dinov2-large", "vitg14": "dinov2-giant"}


@dataclass(frozen=True)
class DinoConfig:
    """tokens: the image's patches, or the one class token (an ablation: it says little about where things are)"""

    variant: str = "vits14"
    tokens: Literal["patches", "cls"] = "patches"

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise unknown_name("DINOv2 variant", self.variant, list(VARIANTS))


class DinoV2(OutcomeEncoder):
    """(batch, 3, 224, 224) -> (batch, 256, width): the normalised patch tokens of the last layer."""

    kind = KIND
    image_size = IMAGE_SIZE

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        variant = VARIANTS[config.variant]
        self.config, self.width = config, variant.width
        self.count = (IMAGE_SIZE // PATCH) ** 2 if config.tokens == "patches" else 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, variant.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, TRAINED_SIDE**2 + 1, variant.width))
        self.mask_token = nn.Parameter(torch.zeros(1, variant.width))  # of the pretraining; in every weight file
        self.patch_embed = _PatchEmbedding(variant.width)
        self.blocks = nn.ModuleList(_Block(variant) for _ in range(variant.depth))
        self.norm = nn.LayerNorm(variant.width, eps=1e-6)
        self._positions: Tensor | None = None

    def tokens(self, images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch token width"]:
        patches = self.patch_embed(imagenet_normalised(images))
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1) + self._interpolated_positions()
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x[:, 1:] if self.config.tokens == "patches" else x[:, :1]

    def _interpolated_positions(self) -> Tensor:
        """The positions of 37 x 37 patches brought to 16 x 16, once for frozen weights. (1, 257, width)"""
        if self._positions is not None and not self.pos_embed.requires_grad and self._positions.device == self.pos_embed.device:
            return self._positions
        side = IMAGE_SIZE // PATCH
        grid = self.pos_embed[:, 1:].unflatten(1, (TRAINED_SIDE, TRAINED_SIDE)).permute(0, 3, 1, 2)
        scale = (side + POSITION_OFFSET) / TRAINED_SIDE
        small = functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
        self._positions = torch.cat([self.pos_embed[:, :1], small.flatten(2).transpose(1, 2)], dim=1)
        return self._positions


class _PatchEmbedding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, tokens, width / heads)
        return self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class _GatedMlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = (int(4 * width * 2 / 3) + 7) // 8 * 8
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(functional.silu(gate) * value)


class _LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _Block(nn.Module):
    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(variant.width, eps=1e-6), nn.LayerNorm(variant.width, eps=1e-6)
        self.attn = _Attention(variant.width, variant.heads)
        self.mlp: nn.Module = _GatedMlp(variant.width) if variant.gated else _Mlp(variant.width)
        self.ls1, self.ls2 = _LayerScale(variant.width), _LayerScale(variant.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


def dinov2_from_weights(weights: Mapping[str, Tensor], where: str, *, tokens: Literal["patches", "cls"] = "patches") -> DinoV2:
    """A frozen DINOv2 in facebookresearch's or Hugging Face's key names; the variant follows from the weights' shapes."""
    own = _from_hugging_face(weights) if any(key.startswith(("embeddings.", "dinov2.embeddings.")) for key in weights) else dict(weights)
    if "pos_embed" not in own or "patch_embed.proj.weight" not in own:
        raise UserError(f"{where} does not hold DINOv2 weights (no pos_embed or patch_embed among its {len(own)} tensors)")
    width, depth = (
        own["pos_embed"].shape[-1],
        1 + max((int(match[1]) for match in map(re.compile(r"blocks\.(\d+)\.").match, own) if match), default=-1),
    )
    found = [name for name, variant in VARIANTS.items() if (variant.width, variant.depth) == (width, depth)]
    if not found or "register_tokens" in own:
        extra = " and register tokens" if "register_tokens" in own else ""
        raise UserError(f"{where} holds a DINOv2 of width {width} and {depth} blocks{extra}; known are {', '.join(VARIANTS)}, without registers")
    encoder = DinoV2(DinoConfig(found[0], tokens))
    checkpoint.fit_weights(encoder, own, where)
    return encoder.requires_grad_(False).eval()


def find_dinov2(variant: str = "vits14", *, tokens: Literal["patches", "cls"] = "patches", download: bool = True) -> DinoV2:
    """Out of the torch hub's or Hugging Face's cache, or from the torch hub where it can be reached; an error that says what to do otherwise."""
    if variant not in VARIANTS:
        raise unknown_name("DINOv2 variant", variant, list(VARIANTS))
    for path in _cached_files(variant):
        if path.exists():
            return load_dinov2(path, tokens=tokens)
    if download and _downloaded(variant):
        return load_dinov2(_hub_file(variant), tokens=tokens)
    raise UserError(
        f"no DINOv2 weights ({variant}) on this machine, and the torch hub cannot be reached. Three ways to get them: (1) download {_url(variant)} "
        f"elsewhere and give it as --encoder FILE; (2) put it into {_hub_file(variant).parent}, or a Hugging Face cache with "
        f"facebook/{HUGGING_FACE[variant]}; (3) give a published dynamics checkpoint, which carries them, as --encoder FILE. Without any of them, "
        "train_patch_encoder.py trains a small encoder on your own data"
    )


def load_dinov2(path: Path | str, *, tokens: Literal["patches", "cls"] = "patches") -> DinoV2:
    """From a file: facebookresearch's .pth, Hugging Face's .safetensors or .bin, or a published dynamics checkpoint."""
    path = existing_file(path, "encoder weights")
    content = _safetensors(path) if path.suffix == ".safetensors" else checkpoint.load_pytorch(path, "encoder weights")
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"encoder weights {path} are not a plain state dict")
    prefix = "state_encoder."
    inside = {key[len(prefix) :]: value for key, value in content.items() if key.startswith(prefix)}
    return dinov2_from_weights(inside or content, f"encoder weights {path}", tokens=tokens)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise UserError(f"encoder weights {path} are truncated or not a safetensors file ({error})") from error


def _url(variant: str) -> str:
    return f"https://dl.fbaipublicfiles.com/dinov2/dinov2_{variant}/dinov2_{variant}_pretrain.pth"


def _hub_file(variant: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / f"dinov2_{variant}_pretrain.pth"


def _cached_files(variant: str) -> list[Path]:
    """Where the weights may lie: the torch hub's cache, then the snapshots in Hugging Face's."""
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshots = Path(HF_HUB_CACHE) / f"models--facebook--{HUGGING_FACE[variant]}" / "snapshots"
    return [_hub_file(variant), *sorted(snapshots.glob("*/model.safetensors")), *sorted(snapshots.glob("*/pytorch_model.bin"))]


def _downloaded(variant: str) -> bool:
    target = _hub_file(variant)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(_url(variant), str(target))
    except OSError:  # what urllib raises without a network is one
        return False
    return True


_RENAMED = (
    (r"^dinov2\.", ""),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.mask_token$", "mask_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"^layernorm\.", "norm."),
)


def _from_hugging_face(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face's names to facebookresearch's; query, key and value become one matrix."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    parts = [key for key in renamed if ".attention.attention.query." in key]
    for query in parts:
        joined = [renamed.pop(query.replace(".query.", f".{part}.")) for part in ("query", "key", "value")]
        renamed[query.replace(".attention.attention.query.", ".attn.qkv.")] = torch.cat(joined)
    return renamed
