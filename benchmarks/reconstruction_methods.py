"""Baselines for one fold of a table, with the usual preprocessing of columns."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor, GradientBoostingClassifier
from sklearn.ensemble import GradientBoostingRegressor as Boosting
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, SVR

from benchmarks.baselines import Flags, spread

LARGEST = 2000
"""Most training rows of a Gaussian process."""

Method = Callable[[Flags, int, bool], Any]
"""Function of the categorical columns, the seed, and whether the target is categorical; returns an estimator."""


def linear(categorical: Flags, seed: int, classes: bool) -> Any:
    """Ridge regression with its penalty by leave-one-out, or logistic regression."""
    last = LogisticRegression(max_iter=5000, random_state=seed) if classes else RidgeCV(np.logspace(-3, 3, 13))
    return make_pipeline(spread(categorical), last)


def support_vectors(categorical: Flags, seed: int, classes: bool) -> Any:
    """Support vector machine with an RBF kernel and C = 10."""
    last = SVC(C=10, probability=True, random_state=seed) if classes else SVR(C=10, epsilon=0.01)
    return make_pipeline(spread(categorical), last)


def gaussian_process(categorical: Flags, seed: int, classes: bool) -> Any:
    """Gaussian process with a Matern-5/2 kernel, and a length scale for each column in regression."""
    if classes:
        return make_pipeline(spread(categorical), GaussianProcessClassifier(Matern(nu=2.5), random_state=seed))
    return make_pipeline(spread(categorical), _Ard(seed))


class _Ard(GaussianProcessRegressor):
    """Gaussian process that has a length scale for each column that it is fitted to."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(normalize_y=True, random_state=seed)
        self.seed = seed

    def fit(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> "_Ard":
        self.kernel = ConstantKernel() * Matern(np.ones(X.shape[1]), nu=2.5) + WhiteKernel(0.01)
        return super().fit(X, y)  # type: ignore[no-any-return]


def extra_trees(categorical: Flags, seed: int, classes: bool) -> Any:
    """Extremely randomised trees, 300 of them."""
    kind = ExtraTreesClassifier if classes else ExtraTreesRegressor
    return make_pipeline(SimpleImputer(), kind(300, random_state=seed))


def boosting(categorical: Flags, seed: int, classes: bool) -> Any:
    """Gradient boosting of 500 trees."""
    kind = GradientBoostingClassifier if classes else Boosting
    return make_pipeline(SimpleImputer(), kind(n_estimators=500, random_state=seed))


def catboost(categorical: Flags, seed: int, classes: bool) -> Any:
    """CatBoost with its defaults, on one thread."""
    from catboost import CatBoostClassifier, CatBoostRegressor

    kind = CatBoostClassifier if classes else CatBoostRegressor
    return kind(random_seed=seed, thread_count=1, verbose=False, allow_writing_files=False)


def realmlp(categorical: Flags, seed: int, classes: bool) -> Any:
    """RealMLP with tuned defaults (Holzmueller et al. 2024), by pytabkit, on one thread."""
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    kind = RealMLP_TD_Classifier if classes else RealMLP_TD_Regressor
    return make_pipeline(SimpleImputer(), kind(random_state=seed, n_threads=1, device="cpu"))


def tabm(categorical: Flags, seed: int, classes: bool) -> Any:
    """TabM with its defaults (Gorishniy et al. 2024), by pytabkit, on one thread.

    Without a bound of epochs: a training ends when the validation has not improved for 16 of them.
    """
    from pytabkit import TabM_D_Classifier, TabM_D_Regressor

    kind = TabM_D_Classifier if classes else TabM_D_Regressor
    return make_pipeline(SimpleImputer(), kind(random_state=seed, n_threads=1, device="cpu"))


METHODS: dict[str, Method] = {
    "linear": linear,
    "SVM": support_vectors,
    "Gaussian process": gaussian_process,
    "ExtraTrees (300)": extra_trees,
    "GradientBoosting (500)": boosting,
    "CatBoost": catboost,
    "RealMLP": realmlp,
    "TabM": tabm,
}
EXTRA = {"CatBoost": "catboost", "RealMLP": "pytabkit", "TabM": "pytabkit"}
"""Methods that need a package of the extra ``baselines``, and its module."""
