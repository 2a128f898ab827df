"""Tables to score an in-context classifier on: the same target rows behind contexts of several sizes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import log_loss, roc_auc_score

from datamodules.prior.scm_options import DEFAULT_OPTIONS
from datamodules.prior.synthetic import ScmBatches, TableSizes
from datamodules.tables.collections import load_frames
from datamodules.tables.real import encode_frame
from tabattn.contract.batches import TableBatch
from tabattn.contract.columns import recode, to_single

HELD_OUT = 10**6
"""First seed of synthetic tables, which no training reaches."""


class ContextTable(NamedTuple):
    """Table with its rows in random order, the target rows last.

    Attributes:
        name: Its name.
        x: Cells, ``(rows, features)``.
        y: Class indices, ``(rows,)``.
        categorical: Whether each column is categorical.
        targets: Number of target rows.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    categorical: np.ndarray
    targets: int

    def cut(self, context: int) -> TableBatch:
        """The first context rows and the target rows, as one batch.

        Raises:
            ValueError: The table has fewer rows.
        """
        if context + self.targets > len(self.y):
            raise ValueError(
                f"--rows {context} with {self.targets} target rows needs {context + self.targets} rows, "
                f"{self.name} has {len(self.y)}"
            )
        rows = np.r_[:context, -self.targets : 0]
        told, _ = recode(self.x[rows], self.categorical, context)
        x = torch.from_numpy(np.ascontiguousarray(to_single(told, context)))
        return TableBatch(x[None], torch.from_numpy(self.y[rows])[None], context)

    def scores(self, probabilities: np.ndarray) -> dict[str, float]:
        """ROC AUC (one class against the rest) and log-loss of the target rows.

        Args:
            probabilities: Of the table's classes, ``(targets, classes)``.
        """
        y, shown = self.y[-self.targets :], probabilities.astype(np.float64)
        shown /= shown.sum(1, keepdims=True)
        classes = shown.shape[1]
        labels = list(range(classes))
        area = roc_auc_score(y, shown[:, 1] if classes == 2 else shown, multi_class="ovr", labels=labels)
        return {"auroc": float(area), "loss": float(log_loss(y, shown, labels=labels))}


def synthetic(count: int, rows: int, targets: int, features: int, seed: int) -> Iterator[ContextTable]:
    """Tables of two classes from the default prior, which no training has drawn."""
    total = rows + targets
    sizes = TableSizes((total, total), (features, features), (2, 2), (rows / total,) * 2)
    drawn = ScmBatches(sizes, DEFAULT_OPTIONS, 1, max_cells=total * features, grow=0, seed=HELD_OUT + seed)
    for number in range(count):
        batch = drawn[number]
        x, y = batch.x[0].numpy().astype(float), batch.y[0].numpy()
        yield ContextTable(f"synthetic {number}", x, y, np.zeros(features, bool), targets)


def named(sources: Sequence[str], targets: int, seed: int) -> Iterator[ContextTable]:
    """Tables by their sources: a file, ``sklearn:``, ``openml:``, a folder with an index.

    Raises:
        ValueError: There is no such table.
    """
    for source in sources:
        for frame in load_frames(source):
            table = encode_frame(frame, source)
            order = np.random.RandomState(seed).permutation(len(table.y))
            yield ContextTable(table.name, table.x[order], table.y[order], table.categorical, targets)
