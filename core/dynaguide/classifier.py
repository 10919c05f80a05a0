"""The paper's toy dynamics model (appendix A.1): an image and an action chunk, noisy or not, to a distribution over what the episode ends in.

The chunk is read as a few places where it may land, the image as a map of how much each of its cells speaks for each class; they meet cell by cell:
log p(class) = log sum_cell exp(landing(cell) + map(cell, class)), normalised over classes. So the gradient in the actions points across the picture,
towards the cells that speak for a class. That is also why the noise level is no input: the gradient gets worse with it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from dynaguide import checkpoint
from dynaguide.chunks import Batch, Windows
from dynaguide.config import parse
from dynaguide.encoders.pixels import CELL, pixel_trunk
from dynaguide.errors import UserError
from dynaguide.noising import ChunkNoise
from dynaguide.types import ActionChunk, repeat_rows, to_float_image

KIND = "end-state classifier"
CHUNK_END = 4  # actions whose mean the landing places start from
LANDING_LOG_WIDTH = -1.2  # and how wide they are then: exp(-1.2) of the picture's half
CLASS_SCALE = 4.0  # lets the maps of the classes grow apart fast
LABEL = "label"


@dataclass(frozen=True)
class ClassifierConfig:
    """Everything that rebuilds a classifier.

    image_size    pixels a side
    landings      places where a chunk may land
    frequencies   of the sines and cosines of the actions, radians a unit; high ones give accurate classifiers with useless gradients
    """

    classes: tuple[str, ...]
    image_key: str = "image"
    image_size: int = 64
    windows: Windows = field(default_factory=Windows)
    noise: ChunkNoise = field(default_factory=ChunkNoise)
    channels: int = 32
    width: int = 256
    landings: int = 4
    frequencies: tuple[float, ...] = (1.57, 3.14, 6.28)

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise UserError(f"a classifier needs two classes or more, not {list(self.classes)}")
        if self.image_size % CELL:
            raise UserError(f"the classifier's images must be a multiple of {CELL} pixels a side, not {self.image_size}")


class Embedding(NamedTuple):
    """What the classifier knows of an image: for each cell, how much it is a place to land on, and how much it speaks for each class."""

    places: Float[Tensor, "batch cell"]
    classes: Float[Tensor, "batch cell class"]

    def repeated(self, rows: int) -> "Embedding":
        """With each row repeated, copies next to each other, so that there are `rows` of them."""
        return Embedding(repeat_rows(self.places, rows), repeat_rows(self.classes, rows))


class EndStateClassifier(nn.Module):
    """log p(class | image, action chunk). Chunks are in the environment's units and cut as `config.windows` says."""

    cells: Tensor
    frequencies: Tensor

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        channels, width, numbers = config.channels, config.width, 2 * (1 + 2 * len(config.frequencies))
        self.trunk = pixel_trunk(channels)
        self.place_map, self.class_map = nn.Conv2d(channels, 1, 1), nn.Conv2d(channels, len(config.classes), 1)
        self.read_chunk = nn.Sequential(
            nn.Linear(config.windows.horizon * numbers, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, 4 * config.landings),
        )
        self.register_buffer("cells", _cell_centres(config.image_size // CELL), persistent=False)
        self.register_buffer("frequencies", torch.tensor(config.frequencies), persistent=False)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.config.classes

    @property
    def image_key(self) -> str:
        return self.config.image_key

    def embed(self, image: Tensor) -> Embedding:
        """image: (batch, 3, height, width), uint8 or float in [0, 1]; once for all chunks."""
        size = self.config.image_size
        if tuple(image.shape[1:]) != (3, size, size):
            raise UserError(f"the classifier was trained on images of shape {(3, size, size)}, not {tuple(image.shape[1:])}")
        features = self.trunk(to_float_image(image))
        return Embedding(self.place_map(features).flatten(1), CLASS_SCALE * self.class_map(features).flatten(2).transpose(1, 2))

    def log_probabilities(self, embedding: Embedding, actions: ActionChunk) -> Float[Tensor, "batch class"]:
        """actions: (batch, horizon, 2), one chunk or several (next to each other) for each embedded image."""
        known = embedding.repeated(len(actions))
        cells = self._landing(actions) + known.places
        return functional.log_softmax(torch.logsumexp(cells[..., None] + known.classes, dim=1), dim=-1)

    def _landing(self, actions: ActionChunk) -> Float[Tensor, "batch cell"]:
        """How likely the chunk lands on each cell: a mixture of round Gaussians that begin where the chunk ends."""
        angles = actions[..., None] * self.frequencies
        read = self.read_chunk(torch.cat([actions, angles.sin().flatten(-2), angles.cos().flatten(-2)], dim=-1).flatten(1))
        place, log_width, share = read.unflatten(-1, (-1, 4)).split((2, 1, 1), dim=-1)  # (B, landings, .)
        place = place + actions[:, None, -CHUNK_END:].mean(2)
        log_width = log_width.clamp(-4, 3) + LANDING_LOG_WIDTH
        squared = (place[:, :, None] - self.cells).square().sum(-1)  # (B, landings, cells)
        log_density = -0.5 * squared * torch.exp(-2 * log_width) - 2 * log_width
        return torch.logsumexp(functional.log_softmax(share, dim=1) + log_density, dim=1)


def _cell_centres(count: int) -> Float[Tensor, "cell 2"]:
    """x and y of each cell, row by row, in [-1, 1]."""
    middle = (torch.arange(count) + 0.5) / count * 2 - 1
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


class ClassifierObjective(nn.Module):
    """Cross-entropy of the episode's label, given the current image and the chunk; `draws` noises for each window."""

    def __init__(self, classifier: EndStateClassifier, *, draws: int = 4) -> None:
        super().__init__()
        self.classifier, self.draws = classifier, draws

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        classifier, rows = self.classifier, self.draws * len(batch.actions)
        embedding = classifier.embed(batch.obs[classifier.image_key][:, -1])
        actions = classifier.config.noise.at_random(repeat_rows(batch.actions, rows), batch.obs)
        log_p = classifier.log_probabilities(embedding, actions)
        labels = repeat_rows(labels_of(batch), rows)
        return {"loss": functional.nll_loss(log_p, labels), "accuracy": (log_p.argmax(-1) == labels).float().mean()}


def labels_of(batch: Batch) -> Int[Tensor, " batch"]:
    return batch.obs[LABEL][:, -1, 0].long()


def data_keys(config: ClassifierConfig) -> list[str]:
    """The observations that training needs."""
    keys = [config.image_key, LABEL, *([config.noise.relative_to] if config.noise.relative_to else [])]
    return list(dict.fromkeys(keys))


class LoadedClassifier(NamedTuple):
    """A frozen classifier, and the environment that its data came from."""

    classifier: EndStateClassifier
    env_meta: dict[str, Any]


def save_classifier(path: Path, classifier: EndStateClassifier, env_meta: dict[str, Any]) -> None:
    """Our format: safetensors, with the configuration and the environment in the header."""
    checkpoint.save(path, KIND, {"classifier": asdict(classifier.config), "env_meta": env_meta}, classifier.state_dict())


def load_classifier(path: Path | str, device: torch.device | str = "cpu") -> LoadedClassifier:
    """Frozen and in evaluation mode."""
    stored = checkpoint.load(path, KIND)
    config, _ = parse(ClassifierConfig, stored.config["classifier"], f"checkpoint {path}")
    classifier = EndStateClassifier(config)
    checkpoint.fit_weights(classifier, stored.weights, f"checkpoint {path}")
    classifier.requires_grad_(False).eval().to(device)
    return LoadedClassifier(classifier, stored.config["env_meta"])


def checked_weights(classes: Sequence[str], weights: Sequence[float]) -> tuple[float, ...]:
    """One finite weight a class, not all of them zero."""
    if len(weights) != len(classes):
        raise UserError(f"one weight for each of {', '.join(classes)} is needed: {len(classes)}, not {len(weights)}")
    if not all(map(_finite, weights)) or not any(weights):
        raise UserError(f"the weights of {', '.join(classes)} must be finite and not all zero, not {list(weights)}")
    return tuple(map(float, weights))


def _finite(number: float) -> bool:
    return abs(number) < float("inf")
