"""Base of callbacks that show the first items of the first validation and test batch."""

from abc import ABC, abstractmethod
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks import probe
from callbacks.board import Cadence


class FirstBatch(Callback, ABC):
    """Keeps the first items of the first validation and test batch, and shows them on rank 0.

    Args:
        every: Show at every n-th validation, the first included.
        items: How many items to keep.
    """

    def __init__(self, every: int, items: int) -> None:
        self.cadence = Cadence(every)
        self.items = items
        self.probes: dict[str, Any] = {}

    @abstractmethod
    def look(self, trainer: Trainer, task: LightningModule, split: str, batch: Any) -> None:
        """Show the kept items, on the device of the task's parameters; ``split`` is validation or test."""

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.keep(trainer, "validation", batch, batch_idx)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.keep(trainer, "test", batch, batch_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer, pl_module, "validation")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer, pl_module, "test")

    def keep(self, trainer: Trainer, split: str, batch: Any, number: int) -> None:
        """Keep the first items of the first batch that comes; called with each batch and its number on this rank."""
        if trainer.is_global_zero and split not in self.probes:
            self.probes[split] = probe.cut(batch, self.items)

    def _look(self, trainer: Trainer, task: LightningModule, split: str) -> None:
        if self.cadence.turn(trainer) and split in self.probes:
            self.look(trainer, task, split, probe.to_device(task, self.probes[split]))
