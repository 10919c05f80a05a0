"""The training loop: it learns, it logs, and killed at any moment and resumed it ends where an undisturbed run ends."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dynaguide import UserError, checkpoint
from dynaguide.chunks import Batch, ChunkDataset, Windows
from dynaguide.episodes import EpisodeWriter
from dynaguide.training import Data, TrainingPlan, train

CPU = torch.device("cpu")
PLAN = TrainingPlan(
    steps=60, batch_size=16, learning_rate=1e-2, log_every=10, save_every=7, validate_every=20, validation_batches=2, snapshot_every=30
)


class Imitation(nn.Module):
    """Predicts the chunk from the pose, with dropout, so that resuming also depends on random numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 16))

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        predicted = self.net(batch.obs["pose"].flatten(1)).unflatten(1, (8, 2))
        return {"loss": (predicted - batch.actions).square().mean(), "size": predicted.abs().mean()}


def write_data(path: Path) -> Path:
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, {}) as writer:
        for _ in range(10):
            pose = np.repeat(rng.normal(size=(1, 2)), 30, 0).astype(np.float32)
            writer.add(np.tanh(pose), {"pose": pose})
    return path


def run(folder: Path, data_path: Path, plan: TrainingPlan = PLAN, resume: bool = False) -> Path:
    objective, data = Imitation(), ChunkDataset(data_path, ["pose"], Windows(2, 8, -1))

    def export(path: Path) -> None:
        checkpoint.save(path, "imitation", {}, objective.state_dict())

    return train(objective, Data(data, data), plan, folder, export=export, device=CPU, resume=resume)


@pytest.fixture(scope="module")
def data_path(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("training") / "data.hdf5")


@pytest.fixture(scope="module")
def undisturbed(data_path, tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("runs") / "undisturbed", data_path)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same_weights(one: Path, other: Path) -> bool:
    a, b = (checkpoint.load(path, "imitation").weights for path in (one, other))
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_loss_falls_and_is_logged(undisturbed):
    losses = [entry["loss"] for entry in lines(undisturbed.parent) if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]
    assert [entry["step"] for entry in lines(undisturbed.parent) if "loss" in entry] == [10, 20, 30, 40, 50, 60]
    assert [entry["step"] for entry in lines(undisturbed.parent) if "valid_loss" in entry] == [20, 40, 60]
    assert (undisturbed.parent / "snapshots" / "step_30.safetensors").exists()
    assert list((undisturbed.parent / "tensorboard").iterdir())


def test_resuming_an_interrupted_run_gives_the_same_weights(undisturbed, data_path, tmp_path):
    class Interrupted(ChunkDataset):
        calls = 0

        def batch(self, index):
            Interrupted.calls += 1
            if Interrupted.calls == 32:
                raise KeyboardInterrupt
            return super().batch(index)

    objective, data = Imitation(), Interrupted(data_path, ["pose"], Windows(2, 8, -1))
    with pytest.raises(KeyboardInterrupt):
        train(objective, Data(data), PLAN, tmp_path / "run", export=lambda path: checkpoint.save(path, "imitation", {}, {}), device=CPU)
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 31  # not only the last regular save, 28
    assert same_weights(run(tmp_path / "run", data_path, resume=True), undisturbed)


def test_a_run_killed_at_a_random_moment_resumes_to_the_same_weights(undisturbed, data_path, tmp_path):
    folder = tmp_path / "killed"
    program = (
        "import sys, time, torch; sys.path.insert(0, sys.argv[1]); torch.set_num_threads(1)\n"
        "import test_training as t; from pathlib import Path\n"
        "step = t.Imitation.forward\n"
        "t.Imitation.forward = lambda *a: (time.sleep(0.02), step(*a))[1]\n"
        "t.run(Path(sys.argv[2]), Path(sys.argv[3]))"
    )
    arguments = [sys.executable, "-c", program, str(Path(__file__).parent), str(folder), str(data_path)]
    child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (folder / "state.pt").exists():
        assert child.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    time.sleep(random.uniform(0, 0.8))
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert 7 <= torch.load(folder / "state.pt", weights_only=True)["step"] < 60
    assert same_weights(run(folder, data_path, resume=True), undisturbed)
    steps = [entry["step"] for entry in lines(folder) if "loss" in entry]
    assert steps == sorted(set(steps))


def test_two_processes_train_as_one_with_twice_the_batch(data_path, tmp_path):
    program = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); torch.set_num_threads(1)\n"
        "import test_training as t; from pathlib import Path; from dataclasses import replace\n"
        "make = t.Imitation.__init__\n"
        "t.Imitation.__init__ = lambda self: (make(self), self.net.__delitem__(2))[0]\n"  # no dropout: it differs between processes
        "t.run(Path(sys.argv[2]), Path(sys.argv[3]), replace(t.PLAN, steps=20, batch_size=int(sys.argv[4])))"
    )
    (tmp_path / "program.py").write_text(program)
    here, launcher = str(Path(__file__).parent), ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for name, launch, batch in (("one", [], "16"), ("two", launcher, "8")):
        arguments = [sys.executable, *launch, str(tmp_path / "program.py"), here, str(tmp_path / name), str(data_path), batch]
        done = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, "ACCELERATE_USE_CPU": "1"}, timeout=120)
        assert done.returncode == 0, done.stderr
    one, two = (checkpoint.load(tmp_path / name / "model.safetensors", "imitation").weights for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=1e-4)


def test_a_finished_run_can_be_made_longer(data_path, tmp_path):
    run(tmp_path / "run", data_path, replace(PLAN, steps=20))
    longer = run(tmp_path / "run", data_path, replace(PLAN, steps=40), resume=True)
    assert same_weights(longer, run(tmp_path / "other", data_path, replace(PLAN, steps=40)))


def test_error_when_the_folder_holds_a_run_already(undisturbed, data_path):
    with pytest.raises(UserError, match="already holds a run: go on with --resume"):
        run(undisturbed.parent, data_path)


def test_error_when_the_settings_changed(undisturbed, data_path):
    with pytest.raises(UserError, match="trained with batch_size = 16, now it is 8"):
        run(undisturbed.parent, data_path, replace(PLAN, batch_size=8), resume=True)


def test_error_with_a_truncated_state(data_path, tmp_path):
    run(tmp_path / "run", data_path, replace(PLAN, steps=7))
    state = tmp_path / "run" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(UserError, match="training state .* is truncated"):
        run(tmp_path / "run", data_path, resume=True)


def test_error_when_the_folder_cannot_be_written(data_path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to the folder"):
        run(tmp_path / "file" / "run", data_path)


def test_error_when_the_loss_is_not_finite(data_path, tmp_path):
    with pytest.raises(UserError, match="the loss became .* at step"):
        run(tmp_path / "run", data_path, replace(PLAN, learning_rate=1e30))
