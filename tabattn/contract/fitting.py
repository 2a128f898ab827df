"""Atomic fits of estimators: one that fails or is interrupted leaves the estimator as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def atomic(estimator: Any) -> Iterator[None]:
    """Context in which an estimator is fitted as a whole: where it raises, the attributes are again those from before.

    An earlier fit is neither lost nor mixed with parts of the new one, and an estimator without one stays unfitted. A
    context rather than a decorator, so that warnings still point to who called ``fit``.
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
