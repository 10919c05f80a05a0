"""Combine files of episodes into one, with a set number of each: guidance conditions for several behaviours at once.

The episodes are taken evenly over each file, or at random with --shuffle; their labels stay.
"""

import logging
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dynaguide import cli
from dynaguide.episodes import EpisodeFile, copy_episodes
from dynaguide.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__, example="python data_processing_calvin/hdf5_combiner.py --inputs button_on.hdf5 door_left.hdf5 --count 20 --output both.hdf5"
    )
    made.add_argument("--inputs", type=Path, nargs="+", required=True)
    made.add_argument("--count", type=int, help="episodes of each file; all if not given")
    made.add_argument("--output", type=Path, required=True)
    made.add_argument("--last", type=int, help="only so many frames of the end of each episode: conditions need one")
    made.add_argument("--shuffle", action="store_true", help="take them at random")
    cli.add_seed(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    for flag in ("count", "last"):
        if getattr(args, flag) is not None and getattr(args, flag) < 1:
            raise UserError(f"--{flag} must be at least 1, not {getattr(args, flag)}")
    if args.output in args.inputs:
        raise UserError(f"--output {args.output} is one of the inputs")
    rng, total = np.random.default_rng(args.seed), 0
    for index, path in enumerate(args.inputs):
        with EpisodeFile(path) as file:
            names = file.names
        if args.count is not None:
            if args.count > len(names):
                raise UserError(f"{path} has {len(names)} episodes, --count asks for {args.count}")
            chosen = rng.permutation(len(names))[: args.count] if args.shuffle else np.linspace(0, len(names) - 1, args.count).round().astype(int)
            names = [names[i] for i in sorted(chosen)]
        copy_episodes(path, names, args.output, append=index > 0, last=args.last)
        total += len(names)
    logging.info("%d episodes in %s", total, args.output)


if __name__ == "__main__":
    main()
