"""Real tables whose target is a number, as arrays."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.tables.source import Source
from datamodules.tables.sources import load_frame
from tabattn.contract.columns import TableEncoder, is_numeric


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
        source: As for ``load_frame``.
        max_rows: Most rows.
        seed: Seed of the sample.

    Raises:
        ValueError: As for ``load_frame``, or the target is no finite number, or no column varies.
        DataError: The table cannot be read or fetched.
    """
    frame = load_frame(source)
    if not is_numeric(frame.y):
        raise ValueError(
            f"the target {frame.y.name!r} of {frame.name} must be numbers, such as {frame.y.iloc[0]!r} is not"
        )
    y = frame.y.to_numpy(np.float64, na_value=np.nan)
    if not np.isfinite(y).all():
        place = int(np.flatnonzero(~np.isfinite(y))[0])
        raise ValueError(f"the target {frame.y.name!r} of {frame.name} must be finite, got {y[place]} in row {place}")
    rows = np.arange(len(y))
    if len(y) > max_rows:
        rows = np.sort(np.random.RandomState(seed).permutation(len(y))[:max_rows])
    encoder = TableEncoder()
    x = encoder.fit_encode(frame.x.iloc[rows], source)
    if not len(encoder.columns_):
        raise ValueError(f"every column of {frame.name} is constant")
    names = tuple(map(str, encoder.get_feature_names_out()))
    return NumberTable(frame.name, x, y[rows], names, encoder.categorical_, rows, frame.provenance)
