"""Validation by optimizer steps, and not by batches or epochs as in the Trainer."""

import sys
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

NEVER = sys.maxsize
"""Interval of batches that no training has."""


class Validations(Callback):
    """Validates at equal intervals of optimizer steps.

    An interval of batches would miss the end of a training whose epochs are no multiples of the accumulated batches.

    Args:
        every: Optimizer steps between two validations.
    """

    def __init__(self, every: int) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.every = every
        self.step = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave no validation but those of this callback."""
        trainer.check_val_every_n_epoch = None
        trainer.val_check_interval = NEVER

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have a resumed run find that a validation was due at its step: it is repeated if it was not complete."""
        self.step = trainer.global_step
        at_boundary = not trainer.fit_loop.epoch_loop._should_accumulate()
        self._plan(trainer, self.step > 0 and self.step % self.every == 0 and at_boundary)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Have a validation follow where it is due."""
        before, self.step = self.step, trainer.global_step
        self._plan(trainer, self.step // self.every > before // self.every)

    def _plan(self, trainer: Trainer, due: bool) -> None:
        trainer.val_check_batch = 1 if due else NEVER
