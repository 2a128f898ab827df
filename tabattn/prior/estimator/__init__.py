"""Scikit-learn estimator of in-context classification."""

from tabattn.prior.estimator.classifier import TabularClassifier

__all__ = ["TabularClassifier"]
