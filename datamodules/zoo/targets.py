"""Targets of users' tables: numbers, or the classes of a classification."""

import warnings

import numpy as np
from numpy.typing import NDArray

from tabattn.contract.errors import TableWarning


def targets_of(
    number: int, y: NDArray[np.generic], labels: bool | None, outputs: int | None
) -> tuple[NDArray[np.float32], int]:
    """Targets of a table, ``(rows, targets)``, and their number of classes; 0 = they are numbers.

    Classes are one column for each, 1 for that of the row; two classes of networks with one output, a logit, are one
    column. A ``TableWarning`` says what is guessed of whole numbers.

    Args:
        number: Number of the table, for messages.
        y: ``(rows,)`` or ``(rows, targets)``.
        labels: Whether they are classes; None = classes where they are words or truth values, or a column of whole
            numbers of which networks may have an output each.
        outputs: Number of outputs of the networks; None = there is no network.
    """
    column = y.ndim == 1 or y.shape[1] == 1
    if labels is None:
        labels = y.dtype.kind not in "iuf" or (column and _guessed(number, y.reshape(-1), outputs or 1))
    if not labels:
        return np.asarray(y, np.float32).reshape(len(y), -1), 0
    names, codes = np.unique(y.reshape(-1), return_inverse=True)
    codes, classes = codes.reshape(-1), len(names)
    if outputs is not None and classes < outputs and y.dtype.kind in "iuf" and _numbered(names, outputs):
        # Numbers of outputs, of which the table lacks some.
        codes, classes = y.reshape(-1).astype(np.int64), outputs
    if classes == 2 and outputs == 1:
        return codes.astype(np.float32)[:, None], 2
    return np.eye(classes, dtype=np.float32)[codes], classes


def _numbered(values: NDArray[np.generic], outputs: int) -> bool:
    """Whether values are numbers of outputs, from 0."""
    return bool(np.isin(values, np.arange(outputs)).all())


def _guessed(number: int, y: NDArray[np.generic], outputs: int) -> bool:
    """Whether a column of numbers is classes, as far as the outputs of the networks tell."""
    values = np.unique(y)
    if not (np.isfinite(values) & (values == np.round(values))).all():
        return False
    if outputs > 1 and 1 < len(values) <= outputs and (len(values) == outputs or _numbered(values, outputs)):
        words = f"has {len(values)} whole numbers and its networks {outputs} outputs: read as classes"
    elif outputs == 1 and len(values) == 2:
        words = "has two whole numbers and its networks one output: read as numbers, not as the classes of a logit"
    else:
        return False
    warnings.warn(f"target of table {number} {words} (labels, --target)", TableWarning, stacklevel=2)
    return outputs > 1
