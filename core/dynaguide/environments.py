"""Environments by the name that a data file or a checkpoint gives them.

A package registers its own when it is imported, and names the module that does so in the entry-point group `dynaguide.environments`: whoever asks for
an environment need not know which package brings it.
"""

import functools
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import gymnasium as gym

from dynaguide.errors import UserError, unknown_name

GOAL = "goal/"  # prefix of the observation keys that show a goal; of their frames the last one counts


@dataclass(frozen=True)
class _Known:
    """foreign: the name comes with another program's settings, which say nothing to ours"""

    identifier: str
    foreign: bool = False


_names: dict[str, _Known] = {}


def register(identifier: str, entry_point: str, *, names: tuple[str, ...] = (), foreign: tuple[str, ...] = ()) -> None:
    """A Gymnasium id, and the other names that files know the environment by."""
    gym.register(identifier, entry_point=entry_point)
    for name in (identifier, *names, *foreign):
        _names[name] = _Known(identifier, name in foreign)


@functools.cache
def _installed() -> None:
    """Import every package that brings environments, once."""
    for package in entry_points(group="dynaguide.environments"):
        package.load()


def names_of(identifier: str) -> list[str]:
    """All names of an environment, its id first."""
    return [name for name, known in _names.items() if known.identifier == identifier]


def make_env(env_meta: dict[str, Any], **overrides: Any) -> gym.Env[Any, Any]:
    """The environment that a data file or a checkpoint names, by its Gymnasium id or its published name."""
    name = env_meta.get("env_name")
    if not name:
        raise UserError("the checkpoint does not say which environment it is for: name one with --env")
    if name not in _names:
        _installed()
    if name not in _names:
        raise unknown_name("environment", str(name), list(_names))
    known = _names[name]
    kwargs = {} if known.foreign else env_meta.get("env_kwargs", {})
    try:
        return gym.make(known.identifier, disable_env_checker=True, **{**kwargs, **overrides})
    except TypeError as error:
        raise UserError(f"environment {name}: {error}") from error
