"""Roles of rows: training, validation or test, as a pure function of a seed."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from datamodules.reconstruction.options import SplitOptions
from tabattn.contract.checks import check_seed
from tabattn.contract.errors import TableWarning

TRAIN, VAL, TEST = 0, 1, 2
"""Roles of rows."""


def roles_of(rows: int, classes: NDArray[np.int64] | None, options: SplitOptions, seed: int) -> NDArray[np.int64]:
    """Role of each row; over the folds, each row is a test row once.

    Args:
        rows: Number of rows.
        classes: Class of each row, ``(rows,)``, by which folds are stratified; None = they are not.
        options: Options of the split.
        seed: Seed of the assignment of rows to folds.

    Raises:
        ValueError: A part would have no row, or the seed is out of bounds.
    """
    check_seed(seed)
    numbers = np.arange(rows)
    if options.test_rows is not None:
        if options.test_rows > rows - 2:
            raise ValueError(
                f"split.test_rows must be at most {rows - 2} of {rows} labelled rows, got {options.test_rows}"
            )
        rest = numbers[: -options.test_rows]
    else:
        if options.folds > rows:
            raise ValueError(f"split.folds must be at most the number of labelled rows ({rows}), got {options.folds}")
        strata = _strata(classes, options.folds)
        cut = KFold if strata is None else StratifiedKFold
        folds = list(cut(options.folds, shuffle=True, random_state=seed).split(numbers, strata))
        rest = folds[options.fold][0]
    share = options.val * rows / len(rest)
    least = 1 / len(rest)
    if not least <= share <= 1 - least:
        raise ValueError(f"split.val must leave a row to train and to validate on of {len(rest)}, got {options.val}")
    strata = None if classes is None else _strata(classes[rest], 2, round(share * len(rest)))
    train, val = train_test_split(rest, test_size=share, random_state=seed, stratify=strata)
    roles = np.full(rows, TEST)
    roles[train], roles[val] = TRAIN, VAL
    return roles


def _strata(classes: NDArray[np.int64] | None, least: int, part: int | None = None) -> NDArray[np.int64] | None:
    """Classes to stratify by; None where one is too rare for it, which is said."""
    if classes is None:
        return None
    sizes = np.bincount(classes)
    sizes = sizes[sizes > 0]
    rarest = int(sizes.min())
    if rarest >= least and (part is None or len(sizes) <= min(part, len(classes) - part)):
        return classes
    warnings.warn(f"the rarest class has {rarest} rows: the split is not stratified", TableWarning, stacklevel=3)
    return None
