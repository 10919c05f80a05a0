"""One training loop for every model here.

A run is a folder: state.pt (to resume from), model.safetensors (the averaged weights so far), snapshots/, metrics.jsonl and TensorBoard's events.
Every random draw of a step follows from the seed and the step's number, so a run that was killed and resumed ends with the same weights.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from dynaguide import checkpoint
from dynaguide.chunks import Batch, BatchOrder, ChunkDataset, batches
from dynaguide.errors import UserError
from dynaguide.files import writable_folder, written_whole
from dynaguide.progress import bar
from dynaguide.randomness import seed_everything

log = logging.getLogger(__name__)

Export = Callable[[Path], None]  # writes the model as it stands, so that it loads without knowing how it was trained


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how fast. Steps are optimizer steps; `batch_size` counts windows a step and process.

    ema_power          diffusers' EMA warm-up exponent (decay = 1 - (1 + step)^-power); None trains without an average
    milestones         steps at which the learning rate is multiplied by `decay`
    """

    steps: int
    batch_size: int = 64
    learning_rate: float = 1e-4
    schedule: str = "constant"  # or "cosine"
    warmup_steps: int = 0
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    weight_decay: float = 0.0
    clip_norm: float | None = None
    ema_power: float | None = 0.75
    ema_max_decay: float = 0.9999
    seed: int = 0
    mixed_precision: str = "no"  # or "bf16", "fp16"
    workers: int = 2
    log_every: int = 50
    validate_every: int | None = None
    validation_batches: int = 10
    save_every: int = 500
    snapshot_every: int | None = None

    def learning_rate_at(self, step: int) -> float:
        """Warm-up, then constant or a half cosine, times decay for each milestone passed."""
        rate = self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return rate * self.decay ** sum(step >= milestone for milestone in self.milestones)


class Data(NamedTuple):
    """What to train on, and what to validate on."""

    train: ChunkDataset
    valid: ChunkDataset | None = None


def train(objective: nn.Module, data: Data, plan: TrainingPlan, folder: Path, *, export: Export, device: torch.device, resume: bool = False) -> Path:
    """Minimise `objective(batch)["loss"]`; further entries of what it returns are logged.

    export    writes the trained model; called with the averaged weights in place
    resume    go on from the folder's last saved state (from the start, if it has none)
    Returns the path of the final model.
    """
    run = _Run(objective, plan, folder, export, device)
    start = run.begin(resume)
    order = BatchOrder(len(data.train), plan.batch_size, plan.seed, run.accelerator.num_processes, run.accelerator.process_index)
    source = batches(data.train, order, start=start, stop=plan.steps, workers=plan.workers)
    try:
        for step, batch in enumerate(run.progress(source, start), start=start):
            run.step(step, batch)
            run.after(step + 1, data.valid)
    finally:
        run.close()
    return run.model_path


class _Run:
    """The state of one training run, and what happens at each of its steps."""

    def __init__(self, objective: nn.Module, plan: TrainingPlan, folder: Path, export: Export, device: torch.device) -> None:
        self.plan, self.folder, self.export = plan, writable_folder(folder), export
        self.accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=plan.mixed_precision)
        self.objective = objective.to(self.accelerator.device)
        fused = self.accelerator.device.type in ("cpu", "cuda")
        optimizer = torch.optim.AdamW(self.objective.parameters(), plan.learning_rate, weight_decay=plan.weight_decay, fused=fused)
        self.ema = None if plan.ema_power is None else _average(self.objective, plan.ema_power, plan.ema_max_decay)
        self.prepared, self.optimizer = self.accelerator.prepare(self.objective, optimizer)
        self.metrics = _Metrics(folder, plan.log_every) if self.accelerator.is_main_process else None
        self.done = 0

    @property
    def model_path(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def state_path(self) -> Path:
        return self.folder / "state.pt"

    def begin(self, resume: bool) -> int:
        """The step to start with."""
        if self.state_path.exists() and not resume:
            raise UserError(f"{self.folder} already holds a run: go on with --resume, or choose another name")
        if self.state_path.exists():
            self._restore()
        if self.metrics:
            self.metrics.begin(self.done)
        return self.done

    def progress(self, source: Iterator[Batch], start: int) -> Iterator[Batch]:
        hidden = not self.accelerator.is_main_process
        return iter(bar(source, total=self.plan.steps, initial=start, name=self.folder.name, unit="step", hidden=hidden))

    def step(self, step: int, batch: Batch) -> None:
        """One optimizer step; its noise follows from the seed and its number."""
        seed_everything(self.plan.seed, step, self.accelerator.process_index)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate_at(step)
        result = self.prepared(batch.to(self.accelerator.device))
        if not torch.isfinite(result["loss"]):
            raise UserError(f"the loss became {result['loss'].item()} at step {step}: lower the learning rate, or look for damaged data")
        self.accelerator.backward(result["loss"])
        if self.plan.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.prepared.parameters(), self.plan.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.step(self.objective.parameters())
        if self.metrics:
            self.metrics.add(step + 1, result, self.plan.learning_rate_at(step))

    def after(self, done: int, valid: ChunkDataset | None) -> None:
        """What is due after `done` steps: validation, saving, a snapshot."""
        self.done, last = done, done == self.plan.steps
        if valid is not None and self.metrics and _due(done, self.plan.validate_every, last):
            self.metrics.write(done, self._validate(valid))
        if self.accelerator.is_main_process and _due(done, self.plan.save_every, last):
            self.save()
        if self.accelerator.is_main_process and _due(done, self.plan.snapshot_every, False):
            with self._averaged_weights():
                self.export(self.folder / "snapshots" / f"step_{done}.safetensors")

    def save(self) -> None:
        """The model first, then the state: a state on disk always has its model beside it."""
        with self._averaged_weights():
            self.export(self.model_path)
        state = {
            "step": self.done,
            "plan": json.dumps(asdict(self.plan)),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "scaler": None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
        }
        with written_whole(self.state_path) as temporary:
            torch.save(state, temporary)

    def close(self) -> None:
        """Keep what was done since the last save, also when the run is interrupted."""
        if self.accelerator.is_main_process and self.done and self.done % self.plan.save_every and self.done < self.plan.steps:
            self.save()
        if self.metrics:
            self.metrics.close()

    def _restore(self) -> None:
        state = checkpoint.load_pytorch(self.state_path, "training state")
        _same_plan(json.loads(state["plan"]), asdict(self.plan), self.folder)
        checkpoint.fit_weights(self.objective, state["objective"], str(self.state_path))
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
            self.ema.to(self.accelerator.device)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.done = int(state["step"])
        log.info("resuming %s at step %d", self.folder, self.done)

    def _validate(self, valid: ChunkDataset) -> dict[str, float]:
        """The mean over the same windows and the same noise each time, with the averaged weights."""
        order = BatchOrder(len(valid), self.plan.batch_size, self.plan.seed)
        count = min(self.plan.validation_batches, math.ceil(len(valid) / self.plan.batch_size))
        sums: dict[str, float] = {}
        self.objective.eval()
        with torch.no_grad(), self._averaged_weights(), self.accelerator.autocast():
            for index, batch in enumerate(batches(valid, order, stop=count, workers=self.plan.workers)):
                seed_everything(self.plan.seed, index)
                for key, value in self.objective(batch.to(self.accelerator.device)).items():
                    sums[key] = sums.get(key, 0.0) + float(value) / count
        self.objective.train()
        return {f"valid_{key}": value for key, value in sums.items()}

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        if self.ema is None:
            yield
            return
        parameters = list(self.objective.parameters())
        self.ema.store(parameters)
        self.ema.copy_to(parameters)
        try:
            yield
        finally:
            self.ema.restore(parameters)


class _Metrics:
    """metrics.jsonl and TensorBoard: means over the steps since the last entry."""

    def __init__(self, folder: Path, every: int) -> None:
        self._path, self._folder, self._every = folder / "metrics.jsonl", folder, every
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def begin(self, step: int) -> None:
        """Entries after `step`, written before a run was killed, are dropped."""
        kept = []
        if self._path.exists():
            kept = [line for line in self._path.read_text().splitlines() if line.endswith("}") and json.loads(line)["step"] <= step]
        with written_whole(self._path) as temporary:
            temporary.write_text("".join(line + "\n" for line in kept))
        self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step + 1)
        self._file = self._path.open("a")
        self._time = time.perf_counter()

    def add(self, step: int, result: dict[str, Tensor], learning_rate: float) -> None:
        for key, value in result.items():
            self._sums[key] = self._sums.get(key, torch.zeros_like(value.detach())) + value.detach()
        self._count += 1
        if step % self._every == 0:
            means = {key: float(value) / self._count for key, value in self._sums.items()}
            seconds = (time.perf_counter() - self._time) / self._count
            self.write(step, {**means, "learning_rate": learning_rate, "seconds_per_step": seconds})
            self._sums, self._count, self._time = {}, 0, time.perf_counter()

    def write(self, step: int, values: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for key, value in values.items():
            self._board.add_scalar(key, value, step)

    def close(self) -> None:
        self._file.close()
        self._board.close()


def is_main_process() -> bool:
    """Whether this process speaks for all: the only one, or the first of those that `accelerate launch` started."""
    return os.environ.get("RANK", "0") == "0"


def _average(objective: nn.Module, power: float, max_decay: float) -> EMAModel:
    return EMAModel(objective.parameters(), decay=max_decay, power=power, use_ema_warmup=True, inv_gamma=1.0, foreach=True)


def _due(done: int, every: int | None, last: bool) -> bool:
    return last or (every is not None and done % every == 0)


def _same_plan(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """A run may be made longer or told to report differently, not changed in what it learns."""
    free = {"steps", "workers", "log_every", "validate_every", "validation_batches", "save_every", "snapshot_every"}
    if before["schedule"] == "cosine":
        free.remove("steps")
    for key in before.keys() - free:
        was = tuple(before[key]) if isinstance(before[key], list) else before[key]
        if was != now[key]:
            raise UserError(f"{folder} was trained with {key} = {was}, now it is {now[key]}: resume with the same settings, or choose another name")
