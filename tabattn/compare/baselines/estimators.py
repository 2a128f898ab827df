"""Classical models of the columns of a table: linear and of trees."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

Flags = NDArray[np.bool_]
"""Whether each column holds categories, ``(columns,)``."""


def prepared(categorical: Flags) -> ColumnTransformer:
    """Preprocessing for linear models: one-hot categories, means for missing numbers, unit variance."""
    numbers = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    filled = SimpleImputer(strategy="constant", fill_value=-1, keep_empty_features=True)
    categories = make_pipeline(filled, OneHotEncoder(handle_unknown="ignore", sparse_output=False))
    return ColumnTransformer([("numbers", numbers, ~categorical), ("categories", categories, categorical)])


def linear(categorical: Flags, *, classes: bool) -> Pipeline:
    """Logistic regression, or ridge regression with its penalty by leave-one-out."""
    last = LogisticRegression(max_iter=2000) if classes else RidgeCV(np.logspace(-3, 3, 13))
    return make_pipeline(prepared(categorical), last)


def boosting(categorical: Flags, *, classes: bool) -> Any:
    """Gradient boosting of histograms, which reads categories and missing cells."""
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return kind(categorical_features=categorical, random_state=0)


def forest() -> RandomForestClassifier:
    """Random forest of 100 trees, which reads missing cells."""
    return RandomForestClassifier(100, random_state=0)
