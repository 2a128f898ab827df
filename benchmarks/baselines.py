"""Baseline classifiers, each with its usual preprocessing of columns."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

Flags = NDArray[np.bool_]
"""Whether each column holds category codes, ``(columns,)``."""


def spread(categorical: Flags) -> ColumnTransformer:
    """Preprocessing for linear and distance-based methods: one-hot categories, mean imputation, unit variance."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    categories = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=-1), OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    )
    return ColumnTransformer([("numbers", numbers, ~categorical), ("categories", categories, categorical)])


def logistic_regression(categorical: Flags, seed: int) -> Pipeline:
    """Logistic regression with scikit-learn's default penalty."""
    return make_pipeline(spread(categorical), LogisticRegression(max_iter=5000, random_state=seed))


def nearest_neighbours(categorical: Flags, seed: int) -> Pipeline:
    """Classifier of the five nearest neighbours."""
    return make_pipeline(spread(categorical), KNeighborsClassifier())


def random_forest(categorical: Flags, seed: int) -> Pipeline:
    """Random forest of 100 trees."""
    return make_pipeline(SimpleImputer(), RandomForestClassifier(100, random_state=seed))


def gradient_boosting(categorical: Flags, seed: int) -> Any:
    """Histogram gradient boosting, with native categories and missing cells."""
    return HistGradientBoostingClassifier(categorical_features=categorical, random_state=seed)


def decision_tree(categorical: Flags, seed: int) -> Any:
    """Decision tree with scikit-learn's defaults, which reads missing cells."""
    return DecisionTreeClassifier(random_state=seed)


BASELINES: dict[str, Callable[[Flags, int], Any]] = {
    "logistic regression": logistic_regression,
    "random forest (100)": random_forest,
    "nearest neighbours": nearest_neighbours,
    "gradient boosting": gradient_boosting,
}

LEVELS: dict[str, Callable[[Flags, int], Any]] = {
    "random forest (100)": random_forest,
    "nearest neighbours": nearest_neighbours,
    "decision tree": decision_tree,
}
"""Classical methods beside in-context classifiers in plots, as in the attention fork of nanoTabPFN."""
