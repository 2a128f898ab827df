"""Throughput of a training: items per second, time of a step, share of waiting for data, and memory."""

import time
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from callbacks.clock import Clock, Memory
from callbacks.probe import leading_size
from tabattn.contract.checks import check_least


class Throughput(Callback):
    """Logs the speed of a training over windows of steps, without its first steps and without validations.

    Scalars, to every logger: ``speed/step_ms``, the time of a step, loading included; ``speed/<items>_per_second`` for
    what the batches of this rank hold (tables and rows, sequences and tokens ...); ``speed/data_share``, the share of
    the time between the end of a step and the start of the next, when batches are awaited and other callbacks work;
    ``speed/peak_memory_mb``, the most memory so far in MB (10^6 bytes) beyond that before the run: of tensors on CUDA,
    of the process on the CPU. A GPU is synchronised with once a window, not at each step. ``History`` logs a row for
    every step instead, warm-up included. Only rank 0 logs, about itself.

    The task may define ``counted(batch)``, the number of items by name.

    Args:
        every: Steps of a window.
        warmup: Steps that are left out at the start of a run, and of a resumed one.
    """

    def __init__(self, every: int = 20, warmup: int = 5) -> None:
        check_least(every=(every, 1), warmup=(warmup, 0))
        self.every, self.warmup = every, warmup
        self.clock = Clock()
        self.memory: Memory | None = None
        self.peak = float("nan")
        self.left, self.seen, self.steps = 0, 0, 0
        self.taken, self.waited, self.mark = 0.0, 0.0, 0.0
        self.items: dict[str, int] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there is a logger, and measure memory use before the run; raise before any work."""
        if stage != "fit":
            return
        if not trainer.loggers:
            raise MisconfigurationException(
                "Throughput logs scalars and the trainer has no logger: add one with "
                "--trainer.logger=TensorBoardLogger --trainer.logger.save_dir=runs, or leave Throughput out"
            )
        self.memory = Memory(trainer.strategy.root_device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.left, self.seen = self.warmup, trainer.global_step
        self._restart()
        self._resume()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._resume()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.waited += time.perf_counter() - self.mark

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        # Before other callbacks measure the peak anew.
        if self.memory is not None:
            self.peak = max(self.memory.peak(), self.peak if self.peak == self.peak else 0.0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for name, count in counted(pl_module, batch).items():
            self.items[name] = self.items.get(name, 0) + count
        if trainer.global_step > self.seen:
            # With accumulated gradients a step takes several batches.
            self.seen = trainer.global_step
            self.steps += 1
            if self.left:
                self._warm(trainer)
            elif self.steps == self.every:
                self._log(trainer)
        self.mark = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.taken += self.clock.lap(trainer.strategy.root_device)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._resume()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.steps and not self.left:
            self._log(trainer)

    def _resume(self) -> None:
        """Start the clocks; the time since they were stopped does not count."""
        self.clock.resume()
        self.mark = time.perf_counter()

    def _restart(self) -> None:
        self.steps, self.taken, self.waited, self.items = 0, 0.0, 0.0, {}

    def _warm(self, trainer: Trainer) -> None:
        """Count a step of the warm-up, and begin the first window after the last."""
        self.left -= 1
        if not self.left:
            self.clock.lap(trainer.strategy.root_device)
        self._restart()

    def _log(self, trainer: Trainer) -> None:
        taken = self.taken + self.clock.lap(trainer.strategy.root_device)
        scalars = {
            "speed/step_ms": 1000 * taken / self.steps,
            **{f"speed/{name}_per_second": count / taken for name, count in self.items.items()},
            "speed/data_share": self.waited / taken,
            "speed/peak_memory_mb": self.peak,
        }
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics(scalars, trainer.global_step)
        self._restart()


def counted(task: Any, batch: Any) -> dict[str, int]:
    """Number of items in a batch by name: what the task says, or the leading size of its first tensor."""
    said: dict[str, int] | None = getattr(task, "counted", lambda batch: None)(batch)
    return {"items": leading_size(batch)} if said is None else said
