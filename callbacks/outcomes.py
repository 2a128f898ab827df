"""Outcomes of a run: truth and predicted distributions, pooled over batches of a validation or test."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from callbacks import probe
from callbacks.board import Cadence
from callbacks.pictures import folder_of
from tabattn.contract.checks import check_least
from tabattn.contract.views import ScoredColumn, Shown

MOST_CLASSES = 8
"""Most classes of a column whose probabilities are kept: those most frequent in its first batch."""


_predicted: WeakKeyDictionary[LightningModule, tuple[Any, list[ScoredColumn]]] = WeakKeyDictionary()
"""The last batch that was predicted in the validation or test of a task, and its outcomes: callbacks share them."""


class Classes(NamedTuple):
    """Predictions of classes.

    Attributes:
        names: Names of the classes whose probabilities are kept.
        confidence: Probability of the most probable class of all, ``(rows,)``.
        right: Whether it is the true one, ``(rows,)``.
        chances: Probabilities of the named classes, ``(rows, classes)``.
        truth: Which of them is the true one, ``(rows, classes)``.
    """

    names: tuple[str, ...]
    confidence: NDArray[np.float64]
    right: NDArray[np.bool_]
    chances: NDArray[np.float64]
    truth: NDArray[np.bool_]


@dataclass
class Pool:
    """Predictions of one column, reduced to what curves need, so that a vocabulary of any size fits into memory."""

    chosen: list[int] = field(default_factory=list)
    names: tuple[str, ...] = ()
    parts: list[tuple[torch.Tensor, ...]] = field(default_factory=list)

    def add(self, column: ScoredColumn) -> None:
        """Add predictions; those that are not finite are left out."""
        if not column.categories:
            assert column.below is not None
            self.parts.append((column.below[column.below.isfinite()].double(),))
            return
        finite = column.predicted.isfinite().all(1)
        truth, predicted = column.truth[finite], column.predicted[finite].double()
        if not self.chosen:
            counts = torch.bincount(truth, minlength=len(column.categories))
            self.chosen = sorted(counts.argsort(descending=True, stable=True)[:MOST_CLASSES].tolist())
            self.names = tuple(column.categories[place] for place in self.chosen)
        best = predicted.max(1)
        hits = truth[:, None] == torch.tensor(self.chosen)
        self.parts.append((best.values, best.indices == truth, predicted[:, self.chosen], hits))

    def arrays(self) -> list[Any]:
        """Joined parts, as arrays."""
        return [torch.cat(part).numpy() for part in zip(*self.parts, strict=True)]

    @property
    def classes(self) -> Classes | None:
        """Predictions of classes; None for numbers."""
        return Classes(self.names, *self.arrays()) if self.chosen else None

    @property
    def below(self) -> NDArray[np.float64]:
        """Predicted cumulative probability of each true number, ``(rows,)``."""
        found: NDArray[np.float64] = self.arrays()[0]
        return found


class OutcomeCallback(Callback, ABC):
    """Base of callbacks that show predicted distributions against their truth.

    In a validation, and in a test, the task predicts a few batches once more, once for all such callbacks, and this
    base pools them. Training itself stays bit-identical. Only rank 0 predicts, batches of its own.

    Args:
        every: Show at every n-th validation, the first included.
        batches: Batches to predict, spread over the validation.
        columns: Most columns to show: tables, sequences or target columns, the first ones.
    """

    needs_classes = False
    """Whether columns of numbers are left out."""

    def __init__(self, every: int, batches: int, columns: int) -> None:
        check_least(batches=(batches, 1), columns=(columns, 1))
        self.cadence = Cadence(every)
        self.batches, self.columns = batches, columns
        self.pools: dict[str, Pool] | None = None
        self.position, self.total = -1, math.inf
        self.folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the task predicts distributions, and find the run folder; raise before any work."""
        if stage != "predict":
            self.check_task(pl_module, stage)
            self.folder = folder_of(trainer)

    def check_task(self, task: LightningModule, stage: str) -> None:
        """Check that the class of the task predicts distributions; the command line calls this before any data."""
        if stage != "predict" and getattr(type(task), "outcomes", Shown.outcomes) is Shown.outcomes:
            raise MisconfigurationException(
                f"{type(task).__name__} predicts no distributions: the callback {type(self).__name__} is for "
                "tasks like PriorClassification"
            )

    @abstractmethod
    def draw(self, trainer: Trainer, split: str, pools: dict[str, Pool]) -> None:
        """Show the pooled predictions, by the name of their column; ``split`` is validation or test."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, pl_module, sum(trainer.num_val_batches))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, pl_module, sum(trainer.num_test_batches))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._gather(trainer, pl_module, batch)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end(trainer, pl_module, "validation")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end(trainer, pl_module, "test")

    def _begin(self, trainer: Trainer, task: LightningModule, total: float) -> None:
        _predicted.pop(task, None)
        turn = self.cadence.turn(trainer) and trainer.is_global_zero
        self.pools, self.position, self.total = ({} if turn else None), -1, total

    def _gather(self, trainer: Trainer, task: Any, batch: Any) -> None:
        self.position += 1
        if self.pools is None or not probe.evenly(self.position, self.batches, self.total):
            return
        if task not in _predicted or _predicted[task][0] is not batch:
            with probe.unnoticed(trainer, task):
                _predicted[task] = batch, task.outcomes(batch)
        for column in _predicted[task][1]:
            known = column.name in self.pools or len(self.pools) < self.columns
            if len(column.truth) and known and (column.categories or not self.needs_classes):
                self.pools.setdefault(column.name, Pool()).add(column)

    def _end(self, trainer: Trainer, task: LightningModule, split: str) -> None:
        _predicted.pop(task, None)
        pools, self.pools = self.pools, None
        if pools:
            self.draw(trainer, split, pools)
