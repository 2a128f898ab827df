"""Real tables whose target is a number, as arrays."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from datamodules.tables.source import Source
from datamodules.tables.sources import load_columns
from tabattn.contract.batches import RegressionBatch
from tabattn.contract.columns import TableEncoder, is_numeric, recode, to_single


class NumberTable(NamedTuple):
    """Real table with a numeric target.

    Attributes:
        name: Its short name.
        x: Cells, ``(rows, features)`` double; NaN = missing. Categorical columns hold arbitrary codes.
        y: Number of each row, ``(rows,)``.
        features: Names of the columns; those constant over the whole table are left out.
        categorical: Whether each column is categorical, ``(features,)`` boolean.
        rows: Indices of the rows in the source.
        provenance: Source of the table, in plain values.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    features: tuple[str, ...]
    categorical: NDArray[np.bool_]
    rows: NDArray[np.int64]
    provenance: dict[str, Any]


def load_number_table(source: Source, max_rows: int, seed: int) -> NumberTable:
    """Load a real table whose target is a number, and encode its columns; a large one as a sample of rows.

    Args:
        source: As for ``load_columns``.
        max_rows: Most rows.
        seed: Seed of the sample.

    Raises:
        ValueError: As for ``load_columns``, or the target is no finite number, or no column varies.
        DataError: The table cannot be read or fetched.
    """
    whole = load_columns(source)
    if whole.target not in whole.columns.columns:
        raise ValueError(f"{whole.place} has no column {whole.target!r}: name its target as ::<column>")
    given = whole.columns[whole.target]
    y = _numbers(given, whole.name)
    rows = np.arange(len(y))
    if len(y) > max_rows:
        rows = np.sort(np.random.RandomState(seed).permutation(len(y))[:max_rows])
    encoder = TableEncoder()
    x = encoder.fit_encode(whole.columns.drop(columns=whole.target).iloc[rows], source)
    if not len(encoder.columns_):
        raise ValueError(f"every column of {whole.name} is constant")
    names = tuple(map(str, encoder.get_feature_names_out()))
    return NumberTable(whole.name, x, y[rows], names, encoder.categorical_, rows, whole.facts)


def _numbers(given: pd.Series, name: str) -> NDArray[np.float64]:
    """Target as numbers; raises ValueError for one that is none, or not finite."""
    if not is_numeric(given):
        raise ValueError(f"the target {given.name!r} of {name} must be numbers, got {given.iloc[0]!r}")
    y = given.to_numpy(np.float64, na_value=np.nan)
    if not np.isfinite(y).all():
        place = int(np.flatnonzero(~np.isfinite(y))[0])
        raise ValueError(f"the target {given.name!r} of {name} must be finite, got {y[place]} in row {place}")
    return y


def fold_batches(
    table: NumberTable, index: int, folds: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], RegressionBatch]]:
    """Folds of a table: the rows of each in the source, and a batch of one task whose targets they are.

    Raises:
        ValueError: There are too few or too many folds.
    """
    if not 2 <= folds <= len(table.y) // 2:
        raise ValueError(f"folds must be between 2 and half of the {len(table.y)} rows of {table.name}, got {folds}")
    for context, target in KFold(folds, shuffle=True, random_state=seed).split(table.x):
        rows = np.concatenate([context, target])
        told, kept = recode(table.x[rows], table.categorical, len(context))
        x = np.zeros((len(rows), table.x.shape[1]), np.float32)
        x[:, kept] = to_single(told, len(context))
        y = torch.from_numpy(table.y[rows].astype(np.float32))[None]
        batch = RegressionBatch(torch.from_numpy(x)[None], y, len(context), table=torch.tensor([index]))
        yield table.rows[target], batch
