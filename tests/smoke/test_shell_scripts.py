"""The scripts that make the play table's data and models from nothing, at their smallest."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from dynaguide.outcomes import load_dynamics
from dynaguide_robomimic.checkpoints import load_policy
from scripts import ROOT


def shell(path: str, *argv: str, **settings: object) -> str:
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **{key: str(value) for key, value in settings.items()}}
    finished = subprocess.run(["bash", ROOT / path, *argv], env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture
def made(tmp_path):
    """A folder with the data in `out`, conditions and models in `models`, and the experiments."""
    shutil.copytree(ROOT / "calvin_exp_configs_examples", tmp_path / "experiments")
    shell("data_processing_calvin/make_calvin_data.sh", str(tmp_path / "out"), STARTS=3, VALID_STARTS=8, EXAMPLES=1, PROCESSES=1,
          THIRD_PERSON=64, EYE_IN_HAND=48, CONDITIONS=tmp_path / "models", EXPERIMENTS=tmp_path / "experiments")  # fmt: skip
    shell("paper_experiments/train_calvin.sh", str(tmp_path / "out"), FLAGS="--debug", MODELS=tmp_path / "models", DEVICE="cpu")
    return tmp_path


def test_data_and_models_are_made_from_nothing_and_once(made):
    assert len(list((made / "models" / "conditions").glob("*_1.hdf5"))) == 15
    assert len(list((made / "models" / "conditions" / "underspecified").glob("*_1.hdf5"))) == 8
    for name in ("policy", "gc_policy"):
        policy, env_meta = load_policy(made / "models" / f"{name}.safetensors")
        assert env_meta["env_name"] == "PlayTable"
        assert policy.action_shape == (16, 7)
    assert load_dynamics(made / "models" / "dynamics.safetensors").config.cameras == ("third_person", "eye_in_hand")
    assert json.loads((made / "out" / "health" / "health.json").read_text())["can_steer"] in (True, False)
    modes = {path.stat().st_mode & 0o777 for path in (made / "models").rglob("*") if path.is_file()}
    (made / "probe").touch()
    assert modes == {(made / "probe").stat().st_mode & 0o777}

    before = (made / "out" / "play.hdf5").stat().st_mtime_ns
    said = shell("data_processing_calvin/make_calvin_data.sh", str(made / "out"), CONDITIONS=made / "models")
    assert "play: done already" in said
    assert (made / "out" / "play.hdf5").stat().st_mtime_ns == before
