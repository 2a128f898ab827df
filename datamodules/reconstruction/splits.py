"""Roles of rows: training, validation or test, as a pure function of a seed."""

import math
import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from datamodules.reconstruction.options import SplitOptions
from tabattn.contract.checks import check_seed
from tabattn.contract.errors import TableWarning

TRAIN, VAL, TEST = 0, 1, 2
"""Roles of rows."""

FREE = -1
"""Stratum of the rows of all classes that are too rare to stratify by."""

Ints = NDArray[np.int64]


def roles_of(rows: int, classes: Ints | None, options: SplitOptions, seed: int) -> Ints:
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
    free: set[int] = set()
    if options.test_rows is not None:
        if options.test_rows > rows - 2:
            raise ValueError(
                f"split.test_rows must be at most {rows - 2} of {rows} labelled rows, got {options.test_rows}"
            )
        classes = None if classes is None else classes[: -options.test_rows]
        rest = np.arange(rows - options.test_rows)
    else:
        if options.folds > rows:
            raise ValueError(f"split.folds must be at most the number of labelled rows ({rows}), got {options.folds}")
        rest, free = _without_fold(rows, classes, options, seed)
    share = options.val * rows / len(rest)
    least = 1 / len(rest)
    if not least <= share <= 1 - least:
        raise ValueError(f"split.val must leave a row to train and to validate on of {len(rest)}, got {options.val}")
    left = None if classes is None else classes[rest]
    train, val, more = parted(rest, left, math.ceil(share * len(rest)), seed)
    if classes is not None and (free or more):
        _tell(free | more, classes)
    roles = np.full(rows, TEST)
    roles[train], roles[val] = TRAIN, VAL
    return roles


def parted(rows: Ints, classes: Ints | None, count: int, seed: int) -> tuple[Ints, Ints, set[int]]:
    """Split rows at random into two parts, stratified by their classes as far as these have rows enough.

    Args:
        rows: Numbers of the rows, ``(rows,)``.
        classes: Class of each, by which the parts are stratified; None = they are not.
        count: Number of rows of the second part.
        seed: Seed.

    Returns:
        The rows of the first part and of the second, and the classes that are too rare to stratify by. If these have
        one row in all, it is in the first part.
    """
    if classes is None:
        return *train_test_split(rows, test_size=count, random_state=seed), set()
    strata = _strata(classes, 2, min(count, len(rows) - count))
    free = strata == FREE
    if free.all():
        first, second = train_test_split(rows, test_size=count, random_state=seed)
    else:
        alone = free if free.sum() == 1 else np.zeros(len(rows), dtype=bool)
        first, second = train_test_split(rows[~alone], test_size=count, random_state=seed, stratify=strata[~alone])
        first = np.concatenate([first, rows[alone]])
    return first, second, set(classes[free].tolist())


def _without_fold(rows: int, classes: Ints | None, options: SplitOptions, seed: int) -> tuple[Ints, set[int]]:
    """Rows outside of the fold to test on, and the classes that have fewer rows than there are folds."""
    strata = np.full(rows, FREE) if classes is None else _strata(classes, options.folds, rows)
    free = strata == FREE
    cut = (KFold if free.all() else StratifiedKFold)(options.folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class in y")
        rest = list(cut.split(np.arange(rows), strata))[options.fold][0]
    return rest, set() if classes is None else set(classes[free].tolist())


def _strata(classes: Ints, least: int, most: int) -> Ints:
    """Strata of rows: the ``most`` largest classes of at least ``least`` rows; all others are one of these strata."""
    found, sizes = np.unique(classes, return_counts=True)
    kept = found[np.argsort(-sizes, kind="stable")][: (sizes >= least).sum()]
    if len(found) > min(len(kept), most):
        kept = kept[: most - 1]
    return np.where(np.isin(classes, kept), classes, FREE)


def _tell(free: set[int], classes: Ints) -> None:
    """Say that classes are too rare to stratify by."""
    sizes = np.unique(classes, return_counts=True)[1]
    warnings.warn(
        f"{len(free)} of {len(sizes)} classes are too rare to stratify by (the rarest: {sizes.min()} rows): "
        "their rows are shared out as if of one class",
        TableWarning,
        stacklevel=3,
    )
