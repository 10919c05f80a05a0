"""Files are written whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dynaguide.errors import UserError


def existing_file(path: Path | str, what: str) -> Path:
    """The path, if there is a file; `what` names it in the error."""
    path = Path(path)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{what}: {path} {reason}")
    return path


def writable_folder(path: Path | str) -> Path:
    """Make the folder and prove that a file can be written there, before any long work starts."""
    path = Path(path)
    probe = path / f".writable-{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write to the folder {path}: {error.strerror}") from error
    return path


@contextmanager
def written_whole(path: Path | str) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it becomes `path` if the block succeeds and disappears if it does not."""
    path = Path(path)
    writable_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)  # safetensors makes files that only their owner may read
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any) -> None:
    """`value` as indented JSON, written whole."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: Path | str, what: str) -> Any:
    """The content of a JSON file; a syntax error names its line."""
    path = existing_file(path, what)
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{what}: {path} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{what}: {path} is not a text file") from error
