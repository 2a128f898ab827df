"""The scikit-learn estimator on top of the in-context classifier."""

from tabattn.estimator.classifier import TabularClassifier

__all__ = ["TabularClassifier"]
