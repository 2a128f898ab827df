"""Scikit-learn estimators of in-context classification and regression."""

from tabattn.prior.estimator.classifier import TabularClassifier
from tabattn.prior.estimator.regressor import TabularRegressor

__all__ = ["TabularClassifier", "TabularRegressor"]
