"""Attention mechanisms for tokens that are not words, swappable by one flag in every task."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tabattn.pairs.estimator import SequenceInferrer
    from tabattn.prior.estimator import TabularClassifier, TabularRegressor
    from tabattn.reconstruction.estimator import NPTClassifier, NPTRegressor, TabularImputer

__version__ = "0.1.0"
__all__ = [
    "NPTClassifier",
    "NPTRegressor",
    "SequenceInferrer",
    "TabularClassifier",
    "TabularImputer",
    "TabularRegressor",
    "__version__",
]

_HOMES = {
    "SequenceInferrer": "tabattn.pairs.estimator",
    "TabularClassifier": "tabattn.prior.estimator",
    "TabularRegressor": "tabattn.prior.estimator",
} | dict.fromkeys(("NPTClassifier", "NPTRegressor", "TabularImputer"), "tabattn.reconstruction.estimator")


def __getattr__(name: str) -> Any:
    """Import an estimator on first access, so that importing the package is fast."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
