"""Classical regressors with predictive distributions, each with its usual preprocessing of columns."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from benchmarks.baselines import Flags, spread

LEAST = 1e-9
"""Least standard deviation of a prediction."""

Numbers = NDArray[np.float64]


class NormalForecast(NamedTuple):
    """Normal distributions of the targets of rows.

    Attributes:
        location: Means, ``(rows,)``.
        std: Standard deviations, ``(rows,)``.
    """

    location: Numbers
    std: Numbers

    def cdf(self, y: Numbers) -> Numbers:
        return np.asarray(norm.cdf(y, self.location[:, None], self.std[:, None]))

    def log_density(self, y: Numbers) -> Numbers:
        return np.asarray(norm.logpdf(y, self.location, self.std))

    def quantile(self, q: Numbers) -> Numbers:
        return np.asarray(norm.ppf(q, self.location[:, None], self.std[:, None]))

    def mean(self) -> Numbers:
        return self.location


Method = Callable[[Flags, int, Numbers, Numbers, Numbers], NormalForecast]
"""Function of the categorical columns, the seed, context rows, their targets, and rows; returns the prediction."""


def crossed(model: Any, x: Numbers, y: Numbers, rest: Numbers) -> NormalForecast:
    """Prediction of a regressor without distributions: normal, with the deviation of cross-validated residuals."""
    folds = KFold(5, shuffle=True, random_state=0)
    std = np.sqrt(np.mean((y - cross_val_predict(model, x, y, cv=folds)) ** 2))
    return NormalForecast(model.fit(x, y).predict(rest), np.full(len(rest), max(float(std), LEAST)))


def ridge(categorical: Flags, seed: int, x: Numbers, y: Numbers, rest: Numbers) -> NormalForecast:
    """Ridge regression with its penalty by leave-one-out."""
    return crossed(make_pipeline(spread(categorical), RidgeCV(np.logspace(-3, 3, 13))), x, y, rest)


def random_forest(categorical: Flags, seed: int, x: Numbers, y: Numbers, rest: Numbers) -> NormalForecast:
    """Random forest of 100 trees: normal, with the deviation of out-of-bag residuals."""
    filled = SimpleImputer().fit(x)
    model = RandomForestRegressor(100, random_state=seed, oob_score=True).fit(filled.transform(x), y)
    std = float(np.sqrt(np.mean((y - model.oob_prediction_) ** 2)))
    return NormalForecast(model.predict(filled.transform(rest)), np.full(len(rest), max(std, LEAST)))


def histogram_boosting(categorical: Flags, seed: int, x: Numbers, y: Numbers, rest: Numbers) -> NormalForecast:
    """Histogram gradient boosting, with native categories and missing cells."""
    return crossed(HistGradientBoostingRegressor(categorical_features=categorical, random_state=seed), x, y, rest)


def boosting(categorical: Flags, seed: int, x: Numbers, y: Numbers, rest: Numbers) -> NormalForecast:
    """Stochastic gradient boosting of 500 trees of depth 4, at a rate of 0.05."""
    trees = GradientBoostingRegressor(
        n_estimators=500, max_depth=4, learning_rate=0.05, subsample=0.7, random_state=seed
    )
    return crossed(make_pipeline(SimpleImputer(), trees), x, y, rest)


def gaussian_process(categorical: Flags, seed: int, x: Numbers, y: Numbers, rest: Numbers) -> NormalForecast:
    """Gaussian process with a Matérn-5/2 kernel, a length scale for each feature, and noise, by marginal likelihood."""
    scaled = spread(categorical).fit(x)
    cells = scaled.transform(x)
    kernel = ConstantKernel() * Matern(np.ones(cells.shape[1]), nu=2.5) + WhiteKernel(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # A length scale at its bound is that of a column of no use.
        model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed).fit(cells, y)
    return NormalForecast(*model.predict(scaled.transform(rest), return_std=True))


REGRESSORS: dict[str, Method] = {
    "ridge regression": ridge,
    "random forest (100)": random_forest,
    "histogram boosting": histogram_boosting,
    "gradient boosting (500)": boosting,
    "Gaussian process": gaussian_process,
}
