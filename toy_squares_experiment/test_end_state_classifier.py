"""Measure an end-state classifier on held-out layouts, and draw where it pushes.

Leaves in EXP_DIR: accuracy.json (accuracy over all moments, in an episode's first two steps, by steps left to the touch and by noise level, and the
confusion matrix), confusion.png, and gradients.png: for every colour and several noise levels, the direction in which log p(colour) rises, drawn from
the last place of demonstrated chunks. Arrows that point to the colour's square are what steers; accuracy alone does not tell.
"""

from argparse import Namespace
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynaguide import cli
from dynaguide.chunks import Batch, ChunkDataset
from dynaguide.classifier import CHUNK_END, LABEL, EndStateClassifier, data_keys, labels_of, load_classifier
from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide.files import writable_folder, write_json, written_whole
from dynaguide.randomness import generator, seed_everything
from dynaguide_robomimic.envs.block_touch.world import COLORS

matplotlib.use("Agg")
from matplotlib import pyplot as plt

STEPS_LEFT = (8, 16, 24)  # borders of the groups
NOISE_LEVELS = (0, 10, 20, 40, 70)
DRAWN_LEVELS = (0, 20, 70)
PICTURES = 3  # layouts in the drawing
PLACES = "states"


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__,
        example="python toy_squares_experiment/test_end_state_classifier.py --exp_dir results/block_touch/classifier_test \\\n"
        "      --mixed_hdf5 results/block_touch/valid/data.hdf5 --checkpoint checkpoints/block_touch/classifier.safetensors",
    )
    made.add_argument("--exp_dir", type=Path, required=True, help="where the results go")
    made.add_argument("--mixed_hdf5", type=Path, required=True, help="labelled episodes of all colours, in layouts that were not trained on")
    made.add_argument("--checkpoint", required=True, help="the classifier")
    made.add_argument("--action_chunk_length", type=int, help="checked against the classifier's own; nothing else")
    made.add_argument("--n_windows", type=int, default=4096, help="moments to measure on")
    cli.add_seed(made)
    cli.add_device(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    classifier = load_classifier(args.checkpoint, cli.device(args.device)).classifier
    horizon = classifier.config.windows.horizon
    if args.action_chunk_length not in (None, horizon):
        raise UserError(f"{args.checkpoint} was trained on chunks of {horizon} actions, not of --action_chunk_length {args.action_chunk_length}")
    seed_everything(args.seed)
    folder, data = writable_folder(args.exp_dir), _held_out(args.mixed_hdf5, classifier)
    sample = _sample(data, args.n_windows, args.seed, cli.device(args.device))
    report = {"checkpoint": str(args.checkpoint), "data": str(args.mixed_hdf5), "seed": args.seed, **measure(classifier, sample)}
    write_json(folder / "accuracy.json", report)
    _draw_confusion(folder / "confusion.png", classifier.classes, np.array(report["confusion"]))
    _draw_gradients(folder / "gradients.png", classifier, data)
    by_left = ", ".join(f"{name} {value['accuracy']:.2f}" for name, value in report["by_steps_left"].items())
    print(f"accuracy {report['accuracy']:.3f} over {len(sample.left)} moments; steps left: {by_left}; results: {folder}")


class Sample(NamedTuple):
    """Moments of held-out episodes."""

    batch: Batch
    left: NDArray[np.int64]  # steps to the touch
    step: NDArray[np.int64]  # since the beginning


def _held_out(path: Path, classifier: EndStateClassifier) -> ChunkDataset:
    with EpisodeFile(path) as file:
        missing = {LABEL, PLACES} - file.obs_shapes.keys()
    if missing:
        raise UserError(f"{path} has no observation {min(missing)!r}: collect it with collect_scripted_data_pymunk.py")
    return ChunkDataset(path, [*data_keys(classifier.config), PLACES], classifier.config.windows)


def _sample(data: ChunkDataset, count: int, seed: int, device: torch.device) -> Sample:
    index = torch.randperm(len(data), generator=generator(seed))[:count].numpy()
    return Sample(data.batch(index).to(device), data.steps_left(index), data.step(index))


@torch.no_grad()
def measure(classifier: EndStateClassifier, sample: Sample) -> dict[str, Any]:
    """Accuracies, and the confusion matrix: one row for each true class."""
    labels = labels_of(sample.batch).cpu().numpy()
    guesses = {level: _guesses(classifier, sample.batch, level) for level in NOISE_LEVELS}
    right = guesses[0] == labels
    groups = {f"{low + 1}-{high}": (sample.left > low) & (sample.left <= high) for low, high in pairwise((0, *STEPS_LEFT))}
    groups[f">{STEPS_LEFT[-1]}"] = sample.left > STEPS_LEFT[-1]
    confusion = np.zeros((len(classifier.classes),) * 2, int)
    np.add.at(confusion, (labels, guesses[0]), 1)
    return {
        "accuracy": float(right.mean()),
        "first_two_steps": _share(right, sample.step < 2),
        "by_steps_left": {name: _share(right, members) for name, members in groups.items()},
        "by_noise_level": {str(level): float((guess == labels).mean()) for level, guess in guesses.items()},
        "classes": list(classifier.classes),
        "confusion": confusion.tolist(),
    }


def _guesses(classifier: EndStateClassifier, batch: Batch, level: int) -> NDArray[np.int64]:
    embedding = classifier.embed(batch.obs[classifier.image_key][:, -1])
    return classifier.log_probabilities(embedding, _noised(classifier, batch, level)).argmax(-1).cpu().numpy()


def _noised(classifier: EndStateClassifier, batch: Batch, level: int) -> Tensor:
    if level == 0:
        return batch.actions
    return classifier.config.noise.at_steps(batch.actions, batch.obs, torch.full((len(batch.actions),), level, device=batch.actions.device))


def _share(right: NDArray[np.bool_], members: NDArray[np.bool_]) -> dict[str, Any]:
    return {"accuracy": float(right[members].mean()) if members.any() else None, "n": int(members.sum())}


def _draw_confusion(path: Path, classes: Sequence[str], counts: NDArray[np.int64]) -> None:
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    figure, panel = plt.subplots(figsize=(4.6, 4))
    shown = panel.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for row, column in np.ndindex(*shares.shape):
        panel.text(column, row, f"{shares[row, column]:.2f}", ha="center", va="center", color="white" if shares[row, column] > 0.5 else "black")
    panel.set_xticks(range(len(classes)), classes)
    panel.set_yticks(range(len(classes)), classes)
    panel.set_xlabel("predicted")
    panel.set_ylabel("touched")
    figure.colorbar(shown, label="share of moments")
    _save(figure, path)


def _draw_gradients(path: Path, classifier: EndStateClassifier, data: ChunkDataset) -> None:
    """One column a colour; a few layouts below each other, with one row for each noise level."""
    index = np.flatnonzero(data.step(np.arange(len(data))) == 4)[:: max(1, data.first.size // PICTURES)][:PICTURES]
    batch = data.batch(index).to(next(classifier.parameters()).device)
    moments = list(product(range(len(index)), DRAWN_LEVELS))
    columns = len(classifier.classes)
    figure, panels = plt.subplots(len(moments), columns, figsize=(2.5 * columns, 2.6 * len(moments)), squeeze=False)
    for (picture, level), row in zip(moments, panels, strict=True):
        here = slice(picture, picture + 1)
        one = Batch({key: value[here] for key, value in batch.obs.items()}, batch.actions[here], {}, batch.windows[here])
        for column, panel in enumerate(row):
            _draw_push(panel, classifier, one, level, column)
            panel.set_title(f"log p({classifier.classes[column]}), noise {level}", fontsize=8)
    _save(figure, path)


def _draw_push(panel: Any, classifier: EndStateClassifier, one: Batch, level: int, wanted: int, arrows: int = 24) -> None:
    """Arrows of the gradient, averaged over the chunk's last actions, at several noises of one chunk."""
    many = Batch({key: value.repeat_interleave(arrows, 0) for key, value in one.obs.items()}, one.actions.repeat(arrows, 1, 1), {}, one.windows)
    torch.manual_seed(0)
    actions = _noised(classifier, many, level).requires_grad_()
    log_p = classifier.log_probabilities(classifier.embed(many.obs[classifier.image_key][:, -1]), actions)[:, wanted]
    (gradient,) = torch.autograd.grad(log_p.sum(), actions)
    ends, push = actions.detach()[:, -CHUNK_END:].mean(1).cpu().numpy(), gradient[:, -CHUNK_END:].mean(1).cpu().numpy()
    push = 0.25 * push / np.linalg.norm(push, axis=1, keepdims=True).clip(1e-12)
    image = one.obs[classifier.image_key][0, -1].permute(1, 2, 0).cpu().numpy()
    panel.imshow(image, extent=(-1, 1, 1, -1))
    panel.quiver(*ends.T, *push.T, angles="xy", scale_units="xy", scale=1, width=0.008, color="0.3")
    square = one.obs[PLACES][0, -1].cpu().numpy().reshape(-1, 2)[wanted]
    panel.plot(*square, marker="o", markersize=16, fillstyle="none", color=np.array(COLORS[classifier.classes[wanted]]) / 300)
    panel.set(xlim=(-1.2, 1.2), ylim=(1.2, -1.2), xticks=[], yticks=[])


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=100, format=path.suffix[1:])
    plt.close(figure)


if __name__ == "__main__":
    main()
