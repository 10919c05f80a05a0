"""The command lines of the repository, loaded from their files."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def script(path: str) -> ModuleType:
    folder = str((ROOT / path).parent)
    if folder not in sys.path:
        sys.path.append(folder)  # a script finds its neighbours, as when it is run
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mistake(capsys: pytest.CaptureFixture[str], path: str, *flags: Any) -> str:
    """What a script prints on a user's mistake: one line, and its status is 2."""
    with pytest.raises(SystemExit) as stopped:
        script(path).main([str(flag) for flag in flags])
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, captured.err
    return errors[0]
