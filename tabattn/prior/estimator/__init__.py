"""The scikit-learn estimator on top of the in-context classifier."""

from tabattn.prior.estimator.classifier import TabularClassifier

__all__ = ["TabularClassifier"]
