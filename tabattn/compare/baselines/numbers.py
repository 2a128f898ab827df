"""Baselines of in-context regression: fitted to the context rows of each table, scored on its target rows."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import KFold, cross_val_predict
from torch.distributions import Normal

from tabattn.compare.baselines.estimators import linear
from tabattn.contract.batches import RegressionBatch
from tabattn.prior.regression import standardised
from tabattn.prior.regression_scores import QUANTILES, RegressionScores, TableRegressionScores

MODELS: Mapping[str, Callable[[int], Any]] = {
    "mean": lambda columns: DummyRegressor(),
    "ridge regression": lambda columns: linear(np.zeros(columns, dtype=bool), classes=False),
    "random forest (100)": lambda columns: RandomForestRegressor(100, random_state=0),
}
"""Regressors by name, made for a number of columns; category codes are numbers to them."""

LEAST = 1e-3
"""Least standard deviation of a prediction, in that of the context."""


def score(name: str, data: Any, batches: Iterable[RegressionBatch], stage: str) -> dict[str, float]:
    """Score a regressor as the task scores a network; its density is a normal with the deviation of its residuals.

    Args:
        name: One of ``MODELS``.
        data: The datamodule.
        batches: Its batches for evaluation.
        stage: ``val`` or ``test``.
    """
    metric = TableRegressionScores()
    for batch in batches:
        given = predict(MODELS[name], batch)
        targets = standardised(batch).y[:, batch.context :]
        quantiles = given.mean[..., None] + given.stddev[..., None] * Normal(0.0, 1.0).icdf(torch.tensor(QUANTILES))
        tables = torch.zeros(len(batch.x), dtype=torch.long) if batch.table is None else batch.table
        metric.update(given.mean, given.log_prob(targets.nan_to_num()), quantiles, targets, tables)
    found, names = metric.compute(), tuple(getattr(data, "tables", None) or ())
    own = {
        f"{stage}/{names[at]}/{field}": value
        for at, scores in found.items()
        if names
        for field, value in scores._asdict().items()
    }
    means = {
        f"{stage}/{field}": float(np.mean([getattr(scores, field) for scores in found.values()]))
        for field in RegressionScores._fields
    }
    return own | means


def predict(make: Callable[[int], Any], batch: RegressionBatch) -> Normal:
    """Normal density of the standardised numbers of target rows, ``(batch, target rows)``."""
    numbers = standardised(batch).y
    means, deviations = torch.zeros_like(numbers[:, batch.context :]), torch.zeros(len(batch.x), 1)
    for at, (cells, y) in enumerate(zip(batch.x.double().numpy(), numbers.double().numpy(), strict=True)):
        model, shown = make(cells.shape[1]), y[: batch.context]
        folds = KFold(min(5, len(shown)), shuffle=True, random_state=0)
        residuals = shown - cross_val_predict(model, cells[: batch.context], shown, cv=folds)
        deviations[at] = max(LEAST, float(np.sqrt(np.mean(residuals**2))))
        means[at] = torch.from_numpy(model.fit(cells[: batch.context], shown).predict(cells[batch.context :]))
    return Normal(means, deviations.expand_as(means))
