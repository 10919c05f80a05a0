"""One way to show progress: a bar on a terminal, a line every half minute in a log file."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def bar(over: Iterable[Any] | None = None, *, total: int | None, name: str, unit: str, initial: int = 0, hidden: bool = False) -> Any:
    """A tqdm bar over an iterable, or one that the caller moves."""
    interval = 0.2 if sys.stderr.isatty() else 30
    return tqdm(over, total=total, desc=name, unit=unit, initial=initial, disable=hidden, mininterval=interval, maxinterval=interval)
