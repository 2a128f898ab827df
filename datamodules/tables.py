"""Real tables: loading them by name, and cutting them into folds."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.model_selection import StratifiedKFold, train_test_split

from tabattn.batches import TableBatch

SKLEARN_TABLES = ("breast_cancer", "wine", "iris", "digits")


class RealTable(NamedTuple):
    """One table: cells ``(rows, features)`` float, NaN = missing; classes ``(rows,)``; and its names."""

    name: str
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    features: tuple[str, ...]
    classes: tuple[str, ...]


def load_table(source: str) -> RealTable:
    """Load a table by its source, ``sklearn:<name>``.

    Raises:
        ValueError: No such source.
    """
    kind, _, name = source.partition(":")
    if kind != "sklearn" or name not in SKLEARN_TABLES:
        known = ", ".join(f"sklearn:{table}" for table in SKLEARN_TABLES)
        raise ValueError(f"no table is called {source!r}; known: {known}")
    bunch = getattr(datasets, f"load_{name}")()
    return RealTable(
        name,
        bunch.data.astype(np.float32),
        bunch.target.astype(np.int64),
        tuple(map(str, bunch.feature_names)),
        tuple(map(str, bunch.target_names)),
    )


def stratified_rows(table: RealTable, limit: int, seed: int) -> RealTable:
    """At most ``limit`` rows of a table, each class by its share."""
    if len(table.y) <= limit:
        return table
    rows, _ = train_test_split(np.arange(len(table.y)), train_size=limit, stratify=table.y, random_state=seed)
    return table._replace(x=table.x[rows], y=table.y[rows])


def fold_batches(table: RealTable, index: int, folds: int, seed: int) -> list[TableBatch]:
    """Cut a table into stratified folds: each a batch of one task whose targets are the fold.

    Args:
        table: The table.
        index: Its number among the datamodule's tables.
        folds: Number of folds.
        seed: Decides who is in which fold.

    Raises:
        ValueError: A class has fewer rows than there are folds.
    """
    smallest = np.bincount(table.y).min()
    if folds < 2 or smallest < folds:
        raise ValueError(f"folds must be between 2 and the smallest class of {table.name} ({smallest}), got {folds}")
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return [_batch(table, index, fit, rest) for fit, rest in splitter.split(table.x, table.y)]


def _batch(table: RealTable, index: int, context: NDArray[np.int64], target: NDArray[np.int64]) -> TableBatch:
    rows = np.concatenate([context, target])
    return TableBatch(
        torch.from_numpy(table.x[rows])[None],
        torch.from_numpy(table.y[rows])[None],
        len(context),
        table=torch.tensor([index]),
    )
