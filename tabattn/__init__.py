"""Attention mechanisms for tokens that are not words, swappable by one flag in every task."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tabattn.prior.estimator import TabularClassifier

__version__ = "0.1.0"
__all__ = ["TabularClassifier", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the estimator on first access, so that importing the package is fast."""
    if name == "TabularClassifier":
        from tabattn.prior.estimator import TabularClassifier

        return TabularClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
