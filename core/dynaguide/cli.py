"""What every command line here has in common: shared flags, one worked example in --help, and errors without tracebacks."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dynaguide.errors import UserError

if TYPE_CHECKING:
    import torch


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults are shown, the description and the example keep their lines."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=120)


def parser(description: str | None, *, example: str) -> argparse.ArgumentParser:
    """A parser with this project's help layout and the flag that every script has."""
    made = argparse.ArgumentParser(description=description, epilog=f"example:\n  {example}", formatter_class=_Help)
    made.add_argument("--debug", action="store_true", help="show the traceback of an error; training stops after ten steps")
    return made


def add_device(made: argparse.ArgumentParser) -> None:
    made.add_argument("--device", default="auto", help="auto (the GPU if there is one), cpu, cuda, cuda:1, mps")


def add_seed(made: argparse.ArgumentParser, default: int | None = 0) -> None:
    made.add_argument("--seed", type=int, default=default, help="seeds everything that is random, before anything is drawn")


def device(name: str) -> "torch.device":
    """The torch device of a --device flag. Only who asks for one waits for PyTorch."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        present = ["cpu", *(["cuda"] if torch.cuda.is_available() else []), *(["mps"] if torch.backends.mps.is_available() else [])]
        raise UserError(f"--device {name}: no such device here (this machine has: {', '.join(present)})") from error
    return chosen


def run(main: Callable[[argparse.Namespace], None], made: argparse.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Parse and run. A user's mistake is one line on stderr and status 2; Ctrl-C is one line and status 130."""
    args = made.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for noisy in ("accelerate", "matplotlib", "PIL", "imageio", "diffusers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        main(args)
    except UserError as error:
        if args.debug:
            raise
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(2)
    except OSError as error:
        if args.debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"error: {where}{error.strerror or error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
