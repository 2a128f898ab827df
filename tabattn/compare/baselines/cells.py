"""Baselines of reconstruction: each target column from the visible cells of the other columns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.model_selection import KFold, cross_val_predict
from torch import Tensor
from torch.distributions import MixtureSameFamily

from tabattn.compare.baselines.estimators import Flags, boosting, linear
from tabattn.contract.cells import CellBatch, Column
from tabattn.nn.densities import mixture
from tabattn.reconstruction.metrics import ColumnScores, Predicted

FOLDS = 5
LEAST = 1e-3
"""Least standard deviation of a standardised number."""


def constant(categorical: Flags, *, classes: bool) -> Any:
    """Mean, or frequency of each category."""
    return DummyClassifier(strategy="prior") if classes else DummyRegressor()


MODELS: Mapping[str, Any] = {
    "mean or frequencies": constant,
    "ridge or logistic regression": linear,
    "gradient boosting": boosting,
}


def score(name: str, data: Any, batches: Iterable[CellBatch], stage: str) -> dict[str, float]:
    """Score a model as the task scores a network.

    Args:
        name: One of ``MODELS``.
        data: The datamodule.
        batches: Its batches for evaluation.
        stage: ``val`` or ``test``.
    """
    columns: Sequence[Column] = data.columns
    places = [place for place, column in enumerate(columns) if column.target]
    metrics = {place: ColumnScores(columns[place]) for place in places}
    duplicated = getattr(data, "duplicated", None)
    for metric in metrics.values():
        metric.duplicated = None if duplicated is None else torch.as_tensor(duplicated)
    for batch in batches:
        for place, metric in metrics.items():
            rows = batch.scored[0, :, place]
            if rows.any():
                metric.update(predict(MODELS[name], batch, columns, place, rows), batch.row[0, rows])
    figures: dict[str, float] = {}
    losses = []
    for place, metric in metrics.items():
        if scores := metric.compute():
            losses.append(scores["loss"])
            prefix = f"{stage}/{columns[place].name}/" if len(places) > 1 else f"{stage}/"
            figures |= {f"{prefix}{key}": value for key, value in scores.items()}
    return {**figures, f"{stage}/loss": float(np.mean(losses)) if losses else float("nan")}


def predict(make: Any, batch: CellBatch, columns: Sequence[Column], place: int, rows: Tensor) -> Predicted:
    """Predict a column for some rows by a model of those whose cell is visible, in any of the contexts of the batch.

    Args:
        make: Makes the model.
        batch: The table with hidden cells.
        columns: The columns.
        place: Place of the column to predict.
        rows: Which rows to predict, ``(rows,)`` boolean.
    """
    others = [at for at in range(len(columns)) if at != place]
    seen = torch.where(batch.hidden, torch.nan, batch.x)
    known = ~batch.hidden[..., place] & ~batch.truth[..., place].isnan()
    _, first = np.unique(batch.row[known].numpy(), return_index=True)
    x, y = seen[known][first][:, others].double().numpy(), seen[known][first][:, place].double().numpy()
    asked = seen[0, rows][:, others].double().numpy()
    truth = batch.truth[0, rows, place]
    model = make(np.array([bool(columns[at].categories) for at in others]), classes=bool(columns[place].categories))
    if columns[place].categories:
        return Predicted(truth, _probabilities(model.fit(x, y), asked, len(columns[place].categories)), None)
    mean = torch.from_numpy(np.asarray(model.fit(x, y).predict(asked), dtype=np.float64)).float()
    return Predicted(truth, mean, _density(mean, _spread(model, x, y)))


def _probabilities(model: Any, asked: NDArray[np.float64], categories: int) -> Tensor:
    found = torch.zeros(len(asked), categories)
    found[:, model.classes_.astype(int)] = torch.from_numpy(model.predict_proba(asked)).float()
    return found


def _spread(model: Any, x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Standard deviation of the errors on rows left out."""
    folds = KFold(min(FOLDS, len(y)), shuffle=True, random_state=0)
    errors = y - cross_val_predict(model, x, y, cv=folds) if len(y) > 1 else y
    return max(float(np.sqrt(np.square(errors).mean())), LEAST)


def _density(mean: Tensor, std: float) -> MixtureSameFamily:
    return mixture(torch.zeros(len(mean), 1), mean[:, None], torch.full((len(mean), 1), std))
