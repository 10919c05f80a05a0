"""Set a share of a data file's episodes aside for validation: writes mask/train and mask/valid into the file, as robomimic does."""

from argparse import Namespace
from collections.abc import Sequence

from dynaguide import cli
from dynaguide.episodes import split


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python data_processing_calvin/split_train_val.py --dataset play.hdf5 --ratio 0.03")
    made.add_argument("--dataset", required=True, help="a robomimic HDF5 file; changed in place")
    made.add_argument("--ratio", type=float, default=0.1, help="share of the episodes for validation")
    cli.add_seed(made)
    cli.run(run, made, argv)


def run(args: Namespace) -> None:
    chosen = split(args.dataset, ratio=args.ratio, seed=args.seed)
    print(f"{args.dataset}: {len(chosen['train'])} episodes to train on, {len(chosen['valid'])} to validate on")


if __name__ == "__main__":
    main()
