"""Configuration files as frozen dataclasses: types checked, unknown keys refused with the nearest known name."""

import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union

from dynaguide.errors import UserError, unknown_name

T = TypeVar("T")


def parse(cls: type[T], data: Any, where: str, *, ignored: frozenset[str] = frozenset()) -> tuple[T, list[str]]:
    """`data` as an instance of the dataclass `cls`, and the keys that were present but belong to `ignored`.

    where    names the file in errors; keys are named by their dotted path, as in `algo.ddim.beta_schedule`
    ignored  dotted paths of keys (with all below them) that are accepted although nothing here reads them
    """
    passed_over: list[str] = []
    return _dataclass(cls, data, "", _Reader(where, ignored, passed_over)), sorted(passed_over)


class _Reader(typing.NamedTuple):
    where: str
    ignored: frozenset[str]
    passed_over: list[str]

    def wrong(self, path: str, expected: str, value: Any) -> UserError:
        return UserError(f"{self.where}: {path or 'the whole file'} must be {expected}, not {_shown(value)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:57] + '...'}"


def _dataclass(cls: Any, data: Any, path: str, reader: _Reader) -> Any:
    if not isinstance(data, dict):
        raise reader.wrong(path, "an object with keys", data)
    known = {field.name: field for field in fields(cls)}
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in data.items():
        dotted = f"{path}.{key}" if path else key
        if key in known:
            values[key] = _value(hints[key], value, dotted, reader)
        elif dotted in reader.ignored:
            reader.passed_over.append(dotted)
        else:
            raise UserError(f"{reader.where}: {unknown_name(f'key in {path}' if path else 'key', key, list(known))}")
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{reader.where}: the key {f'{path}.{name}' if path else name} is missing")
    return cls(**values)


def _value(hint: Any, value: Any, path: str, reader: _Reader) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if is_dataclass(hint):
        return _dataclass(hint, value, path, reader)
    if origin in (Union, types.UnionType):
        return _union(arguments, value, path, reader)
    if origin is Literal:
        if value not in arguments:
            raise reader.wrong(path, " or ".join(map(repr, arguments)), value)
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise reader.wrong(path, "a list", value)
        return tuple(_value(arguments[0], item, f"{path}[{index}]", reader) for index, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise reader.wrong(path, "an object with keys", value)
        return {key: _value(arguments[1], item, f"{path}.{key}", reader) for key, item in value.items()}
    return _scalar(hint, value, path, reader)


def _union(arguments: tuple[Any, ...], value: Any, path: str, reader: _Reader) -> Any:
    if value is None and type(None) in arguments:
        return None
    (only,) = [argument for argument in arguments if argument is not type(None)]
    return _value(only, value, path, reader)


def _scalar(hint: Any, value: Any, path: str, reader: _Reader) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        names = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
        raise reader.wrong(path, names[hint], value)
    return value
