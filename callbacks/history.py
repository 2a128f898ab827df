"""Training history as a table: time, loss, memory and score of the steps."""

import csv
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.clock import Clock, Memory, Timing
from callbacks.probe import leading_size

FILE = "history.csv"


class Row(NamedTuple):
    """Row of the history; None = not measured.

    ``scores`` are the metrics to record, and ``validated`` says whether a validation followed the step.
    """

    step: int
    cumulative_time: float
    step_time: float
    train_loss: float | None
    current_mem: float
    peak_mem: float
    scores: tuple[float | None, ...]
    validated: bool = False


ROC_AUC = "ROC AUC"
"""Column of the metrics in ``ROC_AUCS``, as earlier programs name it; any other metric has a column of its own name."""

ROC_AUCS = (None, "val/auroc", "val_auroc")

COLUMNS = ("step", "cumulative time", "step time", "train loss", "current mem MB", "peak mem MB")
"""Columns of a row before its scores."""

TRAINING = "train/"
"""Beginning of the metrics of a training batch, which every row has."""


class History(Callback):
    """Writes ``history.csv`` in the run folder: a row for each training step.

    Columns: the step, from 0; the seconds of training so far and of this step; the loss of the batch; the memory after
    the step and its peak within it; and the scores of the validation that followed, if any. A step lasts from the end
    of the one before, with loading, GPU work and other callbacks, but without validation. Memory is in MB (10^6 bytes)
    beyond that in use before the run: on CUDA that of tensors, on the CPU the resident memory of the process. A resumed
    run continues both counts, and in its own folder appends to the file. The throughput in items (tables, sequences) of
    this rank is logged as ``train/items_per_second``, of single steps (``Throughput`` averages over windows). Only rank
    0 writes, about itself; a ``fast_dev_run`` writes nothing.

    Args:
        every: Steps per row; a step before a validation always has one.
        metric: Validation metric to record, or several, each in a column of its name (``ROC AUC`` for a ROC AUC); one
            of training, such as ``train/mse``, is recorded in every row. None = the column is empty.
        timing: ``wall``: elapsed time; ``cpu``: CPU time of the process, summed over threads, which other
            processes on the machine do not lengthen; the work of a GPU is not counted.
    """

    def __init__(
        self, every: int = 1, metric: str | tuple[str, ...] | None = "val/auroc", timing: Timing = "wall"
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.every = every
        self.metrics = metric if isinstance(metric, tuple | list) else (metric,)
        if len(set(self.metrics)) < len(self.metrics) or not self.metrics:
            raise ValueError(f"metric must name different metrics, at least one, got {list(self.metrics)}")
        self.clock = Clock(timing)
        self.steps = 0
        self.taken = 0.0
        self.items = 0
        self.row: Row | None = None
        self.path: Path | None = None
        self.memory: Memory | None = None
        self.resumed = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run folder, and measure memory use before the run."""
        if stage != "fit" or getattr(trainer, "fast_dev_run", False):
            return
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        self.memory = Memory(trainer.strategy.root_device)
        if trainer.is_global_zero:
            self.path = folder / FILE
            folder.mkdir(parents=True, exist_ok=True)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the file; a resumed run appends to that of its folder."""
        if self.path is None:
            return
        if self.resumed and self.path.exists():
            _drop_half_row(self.path)
        else:
            with self.path.open("w", newline="") as file:
                csv.writer(file).writerow((*COLUMNS, *(ROC_AUC if name in ROC_AUCS else name for name in self.metrics)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.steps = trainer.global_step
        self._resume()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._resume()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.memory is None:
            return
        self.taken += self.clock.lap(trainer.strategy.root_device)
        self.items += leading_size(batch)
        if trainer.global_step == self.steps:
            return  # With accumulated gradients a step takes several batches.
        self._write()
        self.steps = trainer.global_step
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self.row = Row(
            self.steps - 1,
            self.clock.seconds,
            self.taken,
            None if loss is None else float(loss),
            self.memory.current(),
            self.memory.peak(),
            tuple(self._score(trainer, name) if _of_training(name) else None for name in self.metrics),
        )
        if self.taken > 0:
            pl_module.log("train/items_per_second", self.items / self.taken, batch_size=max(1, self.items))
        self.taken, self.items = 0.0, 0
        self.memory.restart()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        scores = [
            None if _of_training(name) or _not_yet(trainer, name) else self._score(trainer, name)
            for name in self.metrics
        ]
        if self.row is not None and not trainer.sanity_checking:
            both = zip(self.row.scores, scores, strict=True)
            scores = [trained if score is None else score for trained, score in both]
            self.row = self.row._replace(scores=tuple(scores), validated=self.metrics != (None,))
            self._write()
        self._resume()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # On a full disk, the exception is about that already, and other callbacks have to be called for it.
        with suppress(OSError):
            self._write()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.clock.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.clock = Clock(self.clock.timing, state_dict["seconds"])
        self.resumed = True

    def _resume(self) -> None:
        self.clock.resume()
        if self.memory is not None:
            self.memory.restart()

    def _score(self, trainer: Trainer, name: str | None) -> float | None:
        if name is None:
            return None
        if name not in trainer.callback_metrics:
            training = _of_training(name)
            logged = ", ".join(each for each in trainer.callback_metrics if _of_training(each) == training) or "nothing"
            raise MisconfigurationException(
                f"History: {'training' if training else 'validation'} logs no {name!r} but {logged}: name its score by "
                "metric, or none by null"
            )
        return trainer.callback_metrics[name].item()

    def _write(self) -> None:
        """Write the last row, if it is due."""
        row, self.row = self.row, None
        if row is None or self.path is None:
            return
        if not row.validated and (row.step + 1) % self.every:
            return
        *measured, scores, _ = row
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow("" if value is None else f"{value:.9g}" for value in (*measured, *scores))


def _of_training(name: str | None) -> bool:
    return name is not None and name.startswith(TRAINING)


def _not_yet(trainer: Trainer, name: str | None) -> bool:
    """Whether a metric of a part, such as that of a table, may be of batches after those of a sanity check."""
    if name is None or name in trainer.callback_metrics or not trainer.sanity_checking:
        return False
    first, _, score = name.partition("/")
    whole = f"{first}/{score.rpartition('/')[2]}"
    return whole in trainer.callback_metrics and trainer.num_sanity_val_batches != trainer.num_val_batches


def _drop_half_row(path: Path) -> None:
    """Cut off the last row where a full disk or a kill cut it short."""
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
