"""Meta-features of a table: 23 of pymfe under their names, and a group for numeric targets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tabattn.contract.checks import nearest
from tabattn.metafeatures.discrete import binned, information, numbered
from tabattn.metafeatures.reading import missing, numbers, plain
from tabattn.metafeatures.regression import NAMES as REGRESSION
from tabattn.metafeatures.regression import regression
from tabattn.metafeatures.statistical import overlap, statistical
from tabattn.metafeatures.summaries import Floats, Values, summarised
from tabattn.metafeatures.trees import tree

TargetKind = Literal["auto", "regression", "classification"]

ALONE = "attr_to_inst class_ent eq_num_attr gravity inst_to_attr nodes_per_attr nr_attr nr_class ns_ratio"
SINGLE = frozenset([*ALONE.split(), *(name for name in REGRESSION if name != "y_cor")])
"""Meta-features of one value; the others have a mean and a standard deviation."""
GROUPS = "attr_conc attr_ent attr_to_inst class_conc class_ent cor cov eq_num_attr f1 f2 gravity inst_to_attr kurtosis "
GROUPS += "leaves_branch leaves_per_class mut_inf nodes_per_attr nr_attr nr_class ns_ratio skewness sparsity tree_depth"
ORIGINAL = tuple(GROUPS.split())
"""The original's list of meta-features, in alphabetical order, which is pymfe's."""


def _named(features: Iterable[str]) -> list[str]:
    return [each for name in features for each in ([name] if name in SINGLE else [f"{name}.mean", f"{name}.sd"])]


NAMES = tuple(_named(ORIGINAL) + _named(REGRESSION))
"""Names of all values: 37 of the original's list, then those of numeric targets (``y_cor.mean`` and such)."""

RATIOS = "attr_to_inst cov eq_num_attr gravity inst_to_attr kurtosis leaves_branch nodes_per_attr nr_attr nr_class "
RATIOS += "ns_ratio skewness tree_depth knn_r2 ridge_r2 tree_reg_depth tree_reg_leaves y_kurtosis y_skewness"
BOUNDED = frozenset(name for name in NAMES if name.partition(".")[0] not in RATIOS.split())
"""Values that are within a few units; all others are scaled by a logarithm."""
SEEDS = 2**32 - 1
"""Largest seed."""


@dataclass(frozen=True)
class MetaFeatures(Sequence[float]):
    """Meta-features of one table: a sequence of numbers, also by name.

    Args:
        names: Names, in a fixed order.
        values: Values, ``(features,)``; 0 where undefined.
        valid: Whether each is defined, of that shape.
    """

    names: tuple[str, ...]
    values: Floats
    valid: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int | str) -> float: ...

    @overload
    def __getitem__(self, index: slice) -> list[float]: ...

    def __getitem__(self, index: int | str | slice) -> float | list[float]:
        """Return the value of a place or a name, or those of a slice.

        Raises:
            KeyError: There is no meta-feature of that name.
        """
        if isinstance(index, slice):
            return [float(value) for value in self.values[index]]
        if isinstance(index, str):
            if index not in self.names:
                raise KeyError(f"no meta-feature is called {index!r}{nearest(index, self.names)}")
            index = self.names.index(index)
        return float(self.values[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Values as an array."""
        return np.array(self.values, dtype=dtype)


def get_meta_features(
    parameters: ArrayLike,
    target: ArrayLike,
    names: str | Sequence[str] | None = None,
    task: TargetKind = "auto",
    seed: int = 0,
) -> MetaFeatures:
    """Describe a table by meta-features, as pymfe defines them (Alcobaca et al. 2020); the names are ``NAMES``.

    A numeric target is cut into ``min(10, floor(n ** (1/3)))`` classes of equal frequency for the meta-features that
    need classes, and has a group of its own, which is undefined for classes. Missing cells count as the mean of their
    column; rows without a target and columns without a number are left out. Meta-features with a value for each
    column, pair or leaf are summarised by mean and standard deviation of those that are defined.

    Args:
        parameters: Columns of the table, ``(rows, columns)`` of numbers, NaN = missing.
        target: Target column, ``(rows,)`` or ``(rows, 1)``: numbers or labels; NaN or None = missing.
        names: Name or names of the values to return, or of features, such as ``cor`` for ``cor.mean`` and ``cor.sd``;
            none = all.
        task: Whether the target is numeric; ``auto``: it is if it has fractions, or more than ``max(10, sqrt(n))``
            different numbers.
        seed: Seed of the tree, and of the choice of columns and rows in large tables, up to 2**32 - 1.

    Raises:
        ValueError: Shapes do not fit, a column has something that is no number, there are fewer than 2 rows with a
            target, no column has a number, or an argument is unknown.
    """
    asked = _asked(names)
    if not 0 <= seed <= SEEDS:
        raise ValueError(f"seed must be 0 to {SEEDS}, got {seed}")
    with np.errstate(over="ignore"):
        columns, labels = _table(parameters, target)
    if task not in get_args(TargetKind):
        raise ValueError(f"task must be {', '.join(get_args(TargetKind))}, got {task!r}")
    numeric = _is_numeric(labels) if task == "auto" else task == "regression"
    if numeric and labels.dtype.kind not in "fiub":
        raise ValueError(f"task 'regression' needs a target of numbers, got {labels.dtype}")
    with np.errstate(all="ignore"):
        found = _measured(columns, labels, numeric, seed)
    values = np.array([value for name in (*ORIGINAL, *REGRESSION) for value in summarised(found[name])])
    valid = np.isfinite(values)
    values = np.where(valid, values, 0.0)
    places = [NAMES.index(name) for name in asked]
    return MetaFeatures(tuple(asked), values[places], valid[places])


def _measured(columns: Floats, labels: NDArray[Any], numeric: bool, seed: int) -> dict[str, Values]:
    rows, width = columns.shape
    if numeric:
        target = labels.astype(float)
        classes = _quantile_classes(target)
        of_target = regression(columns, target, seed)
    else:
        classes = numbered(labels)
        of_target = {name: float("nan") if name in SINGLE else np.zeros(0) for name in REGRESSION}
    return {
        "attr_to_inst": width / rows,
        "inst_to_attr": rows / width,
        "nr_attr": float(width),
        "nr_class": float(classes.max() + 1),
        **information(binned(columns), classes, seed),
        **statistical(columns, classes),
        **overlap(columns, classes),
        **tree(columns, classes, seed),
        **of_target,
    }


def _quantile_classes(target: Floats) -> NDArray[np.int64]:
    count = max(min(10, int(len(target) ** (1 / 3))), 2)
    edges = np.quantile(target, np.linspace(0, 1, count + 1)[1:-1])
    return numbered(np.searchsorted(edges, target, side="left"))


def _is_numeric(labels: NDArray[Any]) -> bool:
    if labels.dtype.kind not in "fiu":
        return False
    if (labels != np.round(labels)).any():
        return True
    return len(np.unique(labels)) > max(10, len(labels) ** 0.5)


def _asked(names: str | Sequence[str] | None) -> list[str]:
    if names is None:
        return list(NAMES)
    asked: list[str] = []
    for name in [names] if isinstance(names, str) else names:
        own = [name] if name in NAMES else [each for each in NAMES if each.partition(".")[0] == name]
        if not own:
            raise ValueError(f"no meta-feature is called {name!r}{nearest(name, NAMES)}; all: {', '.join(NAMES)}")
        asked += own
    return asked


def _table(parameters: ArrayLike, target: ArrayLike) -> tuple[Floats, NDArray[Any]]:
    """Columns with their missing cells filled, and the target, of the rows that have one."""
    columns, labels = numbers("parameters", parameters), plain("target", target)
    if columns.ndim != 2:
        raise ValueError(f"parameters must have the shape (rows, columns), got {columns.shape}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != columns.shape[:1]:
        raise ValueError(f"target must have the shape ({len(columns)},), a label for each row, got {labels.shape}")
    if labels.dtype.kind == "O":
        columns, labels = columns[~missing(labels)], _plain(labels[~missing(labels)])
    known = np.isfinite(labels) if labels.dtype.kind == "f" else np.ones(len(labels), bool)
    if known.sum() < 2:
        raise ValueError(f"a table needs at least 2 rows with a target, got {known.sum()}")
    columns = np.where(np.isfinite(columns), columns, np.nan)[known]
    present = ~np.isnan(columns).all(0)
    if not present.any():
        raise ValueError(f"a table needs at least 1 column with a number, got none of {len(present)}")
    columns = columns[:, present]
    return np.where(np.isnan(columns), np.nanmean(columns, axis=0), columns), labels[known]


def _plain(labels: NDArray[Any]) -> NDArray[Any]:
    """Objects as numbers if all are, else as text."""
    try:
        return labels.astype(float)
    except (TypeError, ValueError, OverflowError):
        return labels.astype(str)
