"""Train the end-state classifier: an image and an action chunk to the colour that the episode will end on.

Needs labelled episodes of which every layout comes with every target (collect_scripted_data_pymunk.py --repeat_environment --dataset_obs), else it
learns layouts by heart. Leaves EXP_DIR/model.safetensors, state.pt (for --resume), metrics.jsonl and TensorBoard's events; the accuracy on
--test_hdf5 is logged after every epoch. An epoch is 100 steps.
"""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from dynaguide import cli
from dynaguide.chunks import ChunkDataset, Windows
from dynaguide.classifier import LABEL, ChunkNoise, ClassifierConfig, ClassifierObjective, EndStateClassifier, data_keys, save_classifier
from dynaguide.episodes import EpisodeFile
from dynaguide.errors import UserError
from dynaguide.randomness import seed_everything
from dynaguide.training import Data, TrainingPlan, train
from dynaguide_robomimic.envs.block_touch.world import COLOR_NAMES

IMAGE = "image"
STEPS_PER_EPOCH = 100
HISTORY = 2  # frames of the policy that will be guided: its chunks begin with the oldest of them


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__,
        example="python toy_squares_experiment/train_end_state_classifier.py --exp_dir results/block_touch/classifier \\\n"
        "      --train_hdf5 results/block_touch/train/data.hdf5 --test_hdf5 results/block_touch/valid/data.hdf5 --num_epochs 12 --noised",
    )
    made.add_argument("--exp_dir", type=Path, required=True, help="folder of the run")
    made.add_argument("--train_hdf5", type=Path, required=True, help="labelled episodes to learn from")
    made.add_argument("--test_hdf5", type=Path, required=True, help="labelled episodes in other layouts, to measure on")
    made.add_argument("--num_epochs", type=int, default=12, help=f"epochs of {STEPS_PER_EPOCH} steps")
    made.add_argument("--action_chunk_length", type=int, default=16, help="actions in a chunk, as in the policy's")
    made.add_argument("--batch_size", type=int, default=64, help="images a step; each comes with four chunks' noises")
    made.add_argument("--learning_rate", type=float, default=1e-3)
    made.add_argument("--resume", action="store_true", help="go on from the last saved state of the same run")
    _add_noise(made)
    cli.add_seed(made)
    cli.add_device(made)
    cli.run(run, made, argv)


def _add_noise(made: ArgumentParser) -> None:
    group = made.add_argument_group("noised chunks (as the policy that will be guided denoises them)")
    group.add_argument("--noised", action="store_true", help="noise half of the chunks, most of them a little")
    group.add_argument("--relative_to", default="agent_pos", help="algo.action_frame.relative_to of the policy; empty for none")
    group.add_argument("--action_scale", type=float, default=1.4, help="algo.action_frame.scale of the policy")
    group.add_argument("--mean_step", type=float, default=20.0, help="mean noise level, of 100")


def run(args: Namespace) -> None:
    if min(args.num_epochs, args.batch_size, args.action_chunk_length) < 1:
        raise UserError("--num_epochs, --batch_size and --action_chunk_length must be at least 1")
    seed_everything(args.seed)
    config = _config(args)
    classifier = EndStateClassifier(config)
    data = Data(labelled(args.train_hdf5, config, early_share=0.35), labelled(args.test_hdf5, config))
    logging.info("%d windows of %d episodes", len(data.train), len(data.train.names))

    def export(path: Path) -> None:
        save_classifier(path, classifier, data.train.env_meta)

    objective, device = ClassifierObjective(classifier), cli.device(args.device)
    print(train(objective, data, _plan(args), args.exp_dir, export=export, device=device, resume=args.resume))


def _config(args: Namespace) -> ClassifierConfig:
    with EpisodeFile(args.train_hdf5) as file:
        shape = file.obs_shapes.get(IMAGE, ())
    if len(shape) != 3 or shape[0] != shape[1]:
        raise UserError(f"{args.train_hdf5} has no square images under {IMAGE!r}: collect it with --dataset_obs")
    return ClassifierConfig(
        classes=COLOR_NAMES,
        image_key=IMAGE,
        image_size=int(shape[0]),
        windows=Windows(HISTORY, args.action_chunk_length, 1 - HISTORY),
        noise=ChunkNoise(0.5 if args.noised else 0.0, args.mean_step, args.relative_to or None, args.action_scale),
    )


def labelled(path: Path, config: ClassifierConfig, *, early_share: float = 0.0) -> ChunkDataset:
    """The windows of a file whose labels are there and name the classes."""
    with EpisodeFile(path) as file:
        if LABEL not in file.obs_shapes:
            raise UserError(f"{path} has no labels (observation {LABEL!r}): collect it with collect_scripted_data_pymunk.py")
    data = ChunkDataset(path, data_keys(config), config.windows, early_share=early_share)
    labels = set(data.low_dim(LABEL).ravel().tolist())
    if not labels <= set(range(len(config.classes))):
        raise UserError(f"{path}: labels must be 0 to {len(config.classes) - 1} ({', '.join(config.classes)}), not {sorted(labels)}")
    return data


def _plan(args: Namespace) -> TrainingPlan:
    steps = 10 if args.debug else args.num_epochs * STEPS_PER_EPOCH
    return TrainingPlan(
        steps=steps,
        batch_size=min(4, args.batch_size) if args.debug else args.batch_size,
        learning_rate=args.learning_rate,
        schedule="cosine",
        warmup_steps=min(100, steps),
        weight_decay=0.01,
        clip_norm=1.0,
        ema_power=None,
        seed=args.seed,
        validate_every=STEPS_PER_EPOCH,
        save_every=STEPS_PER_EPOCH,
    )


if __name__ == "__main__":
    main()
