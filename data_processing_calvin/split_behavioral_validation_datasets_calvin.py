"""Split labelled episodes by behaviour: one file each (OUTPUT_FOLDER/button_on.hdf5, ...) for guidance conditions, and mixed.hdf5 with what is left.

With --holdout N the first N episodes of each behaviour go into its file and the others into mixed.hdf5, so that tests never see the conditions;
without it every episode is in its behaviour's file and in mixed.hdf5.
"""

import logging
from argparse import Namespace
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from dynaguide import cli
from dynaguide.episodes import EpisodeFile, copy_episodes
from dynaguide.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__,
        example="python data_processing_calvin/split_behavioral_validation_datasets_calvin.py --dataset valid.hdf5 --output_folder conditions",
    )
    made.add_argument("--dataset", type=Path, required=True, help="labelled episodes")
    made.add_argument("--output_folder", type=Path, required=True)
    made.add_argument("--holdout", type=int, help="episodes of each behaviour that are kept out of mixed.hdf5")
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    by_behavior = labelled(args.dataset)
    if args.holdout is not None and args.holdout < 1:
        raise UserError(f"--holdout must be at least 1, not {args.holdout}")
    mixed = []
    for behavior, names in sorted(by_behavior.items()):
        own, rest = (names, names) if args.holdout is None else (names[: args.holdout], names[args.holdout :])
        copy_episodes(args.dataset, own, args.output_folder / f"{behavior}.hdf5")
        mixed += rest
        logging.info("%s: %d episodes, %d in mixed.hdf5", behavior, len(own), len(rest))
    if not mixed:
        raise UserError(f"--holdout {args.holdout} leaves nothing for mixed.hdf5")
    copy_episodes(args.dataset, mixed, args.output_folder / "mixed.hdf5")


def labelled(path: Path) -> dict[str, list[str]]:
    """Behaviour -> names of the episodes that show it."""
    found = defaultdict(list)
    with EpisodeFile(path) as file:
        for name in file.names:
            found[str(file.attrs(name).get("behavior", ""))].append(name)
    if "" in found:
        raise UserError(f"{path}: {len(found[''])} episodes have no label (attribute 'behavior'), as {found[''][0]}")
    return dict(found)


if __name__ == "__main__":
    main()
