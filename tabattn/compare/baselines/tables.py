"""Baselines of in-context classification: fitted to the context rows of each table, scored on its target rows."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from torch import Tensor

from tabattn.compare.baselines.estimators import forest, linear
from tabattn.contract.batches import TableBatch
from tabattn.prior.metrics import Scores, TableScores

MODELS: Mapping[str, Callable[[int], Any]] = {
    "majority": lambda columns: DummyClassifier(strategy="prior"),
    "logistic regression": lambda columns: linear(np.zeros(columns, dtype=bool), classes=True),
    "random forest (100)": lambda columns: forest(),
}
"""Classifiers by name, made for a number of columns; category codes are numbers to them."""


def score(name: str, data: Any, batches: Iterable[TableBatch], stage: str) -> dict[str, float]:
    """Score a classifier as the task scores a network.

    Args:
        name: One of ``MODELS``.
        data: The datamodule.
        batches: Its batches for evaluation.
        stage: ``val`` or ``test``.
    """
    metric = TableScores(data.classes)
    for batch in batches:
        tables = torch.zeros(len(batch.x), dtype=torch.long) if batch.table is None else batch.table
        metric.update(predict(MODELS[name], batch, data.classes), batch.y[:, batch.context :], tables)
    found, names = metric.compute(), tuple(getattr(data, "tables", None) or ())
    scores = {
        f"{stage}/{names[at]}/{field}": value
        for at, own in found.items()
        if names
        for field, value in own._asdict().items()
    }
    return scores | {f"{stage}/{field}": _mean(found.values(), field) for field in Scores._fields}


def predict(make: Callable[[int], Any], batch: TableBatch, classes: int) -> Tensor:
    """Class probabilities of target rows, ``(batch, target rows, classes)``."""
    found = torch.zeros(len(batch.x), batch.x.shape[1] - batch.context, classes)
    for at, (cells, labels) in enumerate(zip(batch.x.numpy(), batch.y.numpy(), strict=True)):
        own: NDArray[np.float32] = cells if batch.columns is None else cells[:, : int(batch.columns[at])]
        known = labels[: batch.context] >= 0
        model = make(own.shape[1]).fit(own[: batch.context][known], labels[: batch.context][known])
        found[at][:, model.classes_] = torch.from_numpy(model.predict_proba(own[batch.context :])).float()
    return found


def _mean(scores: Iterable[Scores], field: str) -> float:
    """Mean over tables; a table with a single class has no ROC AUC."""
    values = np.array([getattr(own, field) for own in scores])
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")
