"""Scikit-learn estimators that train a Non-Parametric Transformer on the table that they are given."""

from tabattn.reconstruction.estimator.classifier import NPTClassifier
from tabattn.reconstruction.estimator.imputer import TabularImputer
from tabattn.reconstruction.estimator.regressor import NPTRegressor
from tabattn.reconstruction.estimator.settings import CLASSIFICATION, IMPUTATION, PREDICTION, TrainingSettings

__all__ = [
    "CLASSIFICATION",
    "IMPUTATION",
    "PREDICTION",
    "NPTClassifier",
    "NPTRegressor",
    "TabularImputer",
    "TrainingSettings",
]
