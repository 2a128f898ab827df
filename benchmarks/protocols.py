"""Evaluation protocols of in-context classifiers on tasks cut from one table.

``original``, as in the original experiment: folds over the rows of the training tasks. ``held-out``: tasks of rows that
no training task has. ``flipped``: the held-out tasks with reversed class indices of the context rows. With two classes,
a classifier that reads its context then has the ROC AUC 1 - a in place of a; one that has memorised the table keeps a.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from benchmarks.baselines import Flags
from datamodules import TableTasks
from datamodules.prior.cut import CutBatches
from tabattn.contract.batches import TableBatch
from tabattn.prior.metrics import TableScores
from tabattn.tasks import PriorClassification

FOLDS = 5
PROTOCOLS = ("original", "held-out", "flipped")

Predict = Callable[[TableBatch], Tensor]
"""Class probabilities of the target rows, ``(batch, target rows, classes)``."""


def scores(predict: Predict, data: TableTasks) -> dict[str, float]:
    """Mean ROC AUC over tasks by each of ``PROTOCOLS``, on as many training tasks as test tasks."""
    tasks = data.tasks["test"] or 0
    trained_on = min(tasks, data.tasks["train"] or tasks)
    seen = _batches(CutBatches(data.cutters["train"], data.batch_size, trained_on, scored=True))
    held_out = _batches(CutBatches(data.cutters["test"], data.batch_size, tasks, scored=True))
    sets = (
        [fold for batch in seen for fold in folds(batch)],
        held_out,
        [flip(batch, data.classes) for batch in held_out],
    )
    return {name: mean_auc(predict, batches, data.classes) for name, batches in zip(PROTOCOLS, sets, strict=True)}


def folds(batch: TableBatch) -> list[TableBatch]:
    """Split the rows of each task of a batch into stratified folds; batch i holds fold i of every task."""
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    splits = [list(splitter.split(labels, labels)) for labels in batch.y.numpy()]
    cut = []
    for number in range(FOLDS):
        order = torch.from_numpy(np.stack([np.concatenate(split[number]) for split in splits]))
        x = batch.x.gather(1, order[..., None].expand_as(batch.x))
        # scikit-learn deals rows out in turn, so a fold has the same number of rows in every task.
        context = len(splits[0][number][0])
        cut.append(batch._replace(x=x, y=batch.y.gather(1, order), context=context))
    return cut


def flip(batch: TableBatch, classes: int) -> TableBatch:
    """Reverse the class indices of the context rows."""
    y = batch.y.clone()
    y[:, : batch.context] = classes - 1 - y[:, : batch.context]
    return batch._replace(y=y)


def mean_auc(predict: Predict, batches: Sequence[TableBatch], classes: int) -> float:
    """Mean over tasks of the ROC AUC, each on the pooled predictions of its batches."""
    table_scores = TableScores(classes)
    for batch in batches:
        if batch.table is None:
            raise ValueError("a batch must say the numbers of its tasks, got table None")
        table_scores.update(predict(batch), batch.y[:, batch.context :], batch.table)
    return float(np.nanmean([entry.auroc for entry in table_scores.compute().values()]))


def in_context(task: PriorClassification) -> Predict:
    """Prediction function of a trained network, on its device."""
    task.eval()

    def predict(batch: TableBatch) -> Tensor:
        with torch.inference_mode():
            return task.predict_step(move_data_to_device(batch, task.device), 0).cpu()

    return predict


def fitted(make: Callable[[Flags, int], Any], classes: int, seed: int) -> Predict:
    """Prediction function of a classical model fitted to the context rows of each task, all cells as numbers."""

    def predict(batch: TableBatch) -> Tensor:
        found = torch.zeros(len(batch.x), batch.x.shape[1] - batch.context, classes)
        for index, (x, y) in enumerate(zip(batch.x.numpy(), batch.y.numpy(), strict=True)):
            cells = x if batch.columns is None else x[:, : batch.columns[index]]
            model = make(np.zeros(cells.shape[1], dtype=bool), seed)
            model.fit(cells[: batch.context], y[: batch.context])
            probabilities = torch.from_numpy(model.predict_proba(cells[batch.context :]))
            found[index, :, model.classes_] = probabilities.float()
        return found

    return predict


def _batches(cut: CutBatches) -> list[TableBatch]:
    return [cut[index] for index in range(len(cut))]
