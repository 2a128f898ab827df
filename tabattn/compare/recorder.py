"""Recording of a training for a comparison: learning curve, training time, peak memory and regular checkpoints."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from callbacks.clock import Clock, Memory
from tabattn.storage.checkpoints import LastCheckpoint

POINTS = 200
"""Most points of a learning curve between validations."""

SAVED = 20.0
"""Seconds between two checkpoints within an epoch."""

FIELDS = ("step", "seconds", "loss", "score")


class Recorder(Callback):
    """Records the curve, seconds and peak memory of a training, and saves ``last.ckpt`` every 20 seconds.

    A row of the curve holds the mean training loss since the last row, and the validation score where a validation
    followed. All of it is part of the checkpoint. Seconds are CPU time of the process, on a GPU elapsed time, without
    validation. Memory is in MB (10^6 bytes) beyond that before the training.

    Args:
        metric: Validation metric of the curve; None = the curve has no scores.
    """

    def __init__(self, metric: str | None) -> None:
        self.metric = metric
        self.clock = Clock("cpu")
        self.memory: Memory | None = None
        self.peak = 0.0
        self.rows: list[dict[str, float | None]] = []
        self.sum: Tensor | None = None
        self.count = 0
        self.step = 0
        self._saved = time.monotonic()

    def insert(self, trainer: Trainer) -> None:
        """Add this callback to a trainer, before those that save checkpoints."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        place = next((i for i, each in enumerate(callbacks) if isinstance(each, Checkpoint)), len(callbacks))
        callbacks.insert(place, self)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the clock of the device, and measure the memory in use."""
        device = trainer.strategy.root_device
        self.clock = Clock("cpu" if device.type == "cpu" else "wall", self.clock.seconds)
        self.memory = Memory(device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.step = trainer.global_step
        self._resume()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._resume()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self.memory is not None
        self.clock.lap(trainer.strategy.root_device)
        self.peak = max(self.peak, self.memory.peak())
        self._add(outputs.get("loss") if isinstance(outputs, Mapping) else outputs)
        if trainer.global_step != self.step:
            self.step = trainer.global_step
            if self.step % max(1, trainer.max_steps // POINTS) == 0 or self.step == trainer.max_steps:
                self._write(None)
        self._save(trainer)
        self._resume()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            score = None if self.metric is None else trainer.callback_metrics.get(self.metric)
            self._write(None if score is None else float(score))
            self._resume()

    def state_dict(self) -> dict[str, Any]:
        total = None if self.sum is None else float(self.sum)
        parts = {"rows": [dict(row) for row in self.rows], "sum": total, "count": self.count}
        return {**parts, "seconds": self.clock.seconds, "peak": self.peak}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.count, self.peak = state_dict["rows"], state_dict["count"], state_dict["peak"]
        self.sum = None if state_dict["sum"] is None else torch.tensor(state_dict["sum"], dtype=torch.double)
        self.clock = Clock(self.clock.timing, state_dict["seconds"])

    def _resume(self) -> None:
        self.clock.resume()
        if self.memory is not None:
            self.memory.restart()

    def _add(self, loss: Any) -> None:
        if isinstance(loss, Tensor):
            # In double precision, so that a checkpoint holds the sum exactly; on the device, as reading it would wait.
            loss = loss.detach().double()
            self.sum = loss if self.sum is None else self.sum.to(loss.device) + loss
            self.count += 1

    def _write(self, score: float | None) -> None:
        """Add a row, or a score to the row of this step."""
        mean = None if self.sum is None else float(self.sum) / self.count
        self.sum, self.count = None, 0
        if self.rows and self.rows[-1]["step"] == self.step:
            self.rows[-1]["score"] = score
        else:
            self.rows.append(dict(zip(FIELDS, (self.step, self.clock.seconds, mean, score), strict=True)))

    def _save(self, trainer: Trainer) -> None:
        """Save ``last.ckpt``, if it is time and no validation is due, which the resumed run would leave out."""
        loop = trainer.fit_loop.epoch_loop
        fetcher = trainer.fit_loop._data_fetcher
        due = time.monotonic() - self._saved >= SAVED
        if not due or fetcher is None or loop._should_accumulate() or loop._is_training_done:
            return
        if loop._should_check_val_fx(fetcher):
            return
        for each in trainer.checkpoint_callbacks:
            if isinstance(each, LastCheckpoint):
                each.save(trainer)
        self._saved = time.monotonic()
