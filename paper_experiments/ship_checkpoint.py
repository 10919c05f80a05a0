"""Copy a policy's checkpoint with its weights in half precision: half the size, for a repository. (A dynamics model checks its encoder's weights, and
is copied as it is.)"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from dynaguide import cli
from dynaguide.checkpoint import save_halved


def main(argv: Sequence[str] | None = None) -> None:
    made = cli.parser(__doc__, example="python paper_experiments/ship_checkpoint.py results/calvin/policy/model.safetensors policy.safetensors")
    made.add_argument("source", type=Path)
    made.add_argument("target", type=Path)
    cli.run(ship, made, argv)


def ship(args: Namespace) -> None:
    save_halved(args.source, args.target)


if __name__ == "__main__":
    main()
