"""Take episodes out of a file, by name (a bad segmentation), by behaviour or by length, and write the others to a new one."""

import logging
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from dynaguide import cli
from dynaguide.episodes import EpisodeFile, copy_episodes
from dynaguide.errors import UserError, unknown_name


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(
        __doc__, example="python data_processing_calvin/hdf5_filter.py --dataset button_on.hdf5 --remove demo_3 demo_17 --output button_on_clean.hdf5"
    )
    made.add_argument("--dataset", type=Path, required=True)
    made.add_argument("--output", type=Path, required=True)
    made.add_argument("--remove", nargs="+", default=[], metavar="NAME", help="episodes to leave out, as demo_3")
    made.add_argument("--keep_behaviors", nargs="+", metavar="BEHAVIOR", help="keep only episodes with these labels")
    made.add_argument("--shortest", type=int, default=1, help="keep only episodes of so many frames at least")
    made.add_argument("--longest", type=int, help="and so many at most")
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    if args.output == args.dataset:
        raise UserError("--output must be another file than --dataset")
    with EpisodeFile(args.dataset) as file:
        for name in args.remove:
            if name not in file.names:
                raise unknown_name(f"episode of {args.dataset}", name, file.names)
        labels = {name: str(file.attrs(name).get("behavior", "")) for name in file.names}
        for behavior in args.keep_behaviors or []:
            if behavior not in labels.values():
                raise unknown_name(f"behaviour in {args.dataset}", behavior, sorted(set(labels.values())))
        longest = args.longest or int(file.lengths.max())
        lengths = dict(zip(file.names, file.lengths.tolist(), strict=True))
        kept = [name for name in file.names if name not in args.remove and args.shortest <= lengths[name] <= longest]
        kept = [name for name in kept if not args.keep_behaviors or labels[name] in args.keep_behaviors]
        total = len(file.names)
    if not kept:
        raise UserError(f"nothing of {args.dataset} is left")
    copy_episodes(args.dataset, kept, args.output)
    logging.info("%d of %d episodes in %s", len(kept), total, args.output)


if __name__ == "__main__":
    main()
