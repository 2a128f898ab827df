"""Table of cells: numbers standardised by declared rows, and indices of categories."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tabattn.contract.cells import Column
from tabattn.contract.checks import listed, nearest
from tabattn.contract.columns import Reading, Standard, learn
from tabattn.contract.errors import TableWarning

Floats = NDArray[np.float64]

BINS = 48
"""Most bins between the quantiles of a column."""


class CellTable(NamedTuple):
    """Table as numbers.

    Attributes:
        cells: Numbers in the data's units and indices of categories, ``(rows, columns)`` double; NaN = missing.
        columns: The columns, in the order of the table.
        entries: Entries that the categories of each column stand for; empty for a numeric column.
    """

    cells: Floats
    columns: tuple[Column, ...]
    entries: tuple[list[Any], ...]

    def standardised(self) -> NDArray[np.float32]:
        """Cells as the network sees them: numbers standardised, ``(rows, columns)``; NaN = missing."""
        mean = np.asarray([column.mean for column in self.columns])
        std = np.asarray([column.std for column in self.columns])
        return Standard(mean, std)(self.cells)


class CellEncoder:
    """Encoder of a table's cells, learned from declared rows.

    The kind of a feature column, its categories, mean, standard deviation and quantiles are those of the declared rows;
    the categories of a target are those of all rows, so that each class has an output. Cells that are unlike the
    declared rows (an unknown category, text in a numeric column) are missing.

    Args:
        targets: Names of the target columns.
    """

    def __init__(self, targets: tuple[Any, ...] = ()) -> None:
        self.targets = targets

    def fit(self, frame: pd.DataFrame, features: NDArray[np.int64], labels: NDArray[np.int64]) -> "CellEncoder":
        """Learn from declared rows.

        Args:
            frame: All columns.
            features: Rows whose features may be read.
            labels: Rows whose targets may be read.

        Raises:
            ValueError: A target is missing in the table, or in each of its declared rows.
        """
        unknown = next((name for name in self.targets if name not in frame.columns), None)
        if unknown is not None:
            hint = nearest(str(unknown), map(str, frame.columns))
            raise ValueError(f"the table has no column {unknown!r}{hint}{listed(frame.columns)}")
        self.readings: dict[Any, Reading] = {}
        self.entries: dict[Any, list[Any]] = {}
        columns = []
        for name in frame.columns:
            target = name in self.targets
            whole = frame[name]
            declared = whole.iloc[labels if target else features]
            reading, note = learn(whole if target else declared)
            if note:
                warnings.warn(f"column {name!r} {note}", TableWarning, stacklevel=2)
            values = reading.apply(declared)[0]
            if not (~np.isnan(values)).any():
                if target:
                    raise ValueError(f"target {name!r} has no value in the rows to train on")
                warnings.warn(f"column {name!r} has no value: it is left out", TableWarning, stacklevel=2)
                continue
            self.readings[name] = reading
            self.entries[name] = _entries(whole, reading)
            standard = Standard.of(values[:, None])
            if reading.categories is not None:
                columns.append(Column(str(name), tuple(reading.categories), target=target))
                continue
            scale = float(standard.mean[0]), float(standard.size[0])
            columns.append(Column(str(name), (), *scale, target, quantiles(standard(values[:, None])[:, 0])))
        self.columns = tuple(columns)
        return self

    def encode(self, frame: pd.DataFrame) -> CellTable:
        """Encode rows."""
        cells = np.stack([reading.apply(frame[name])[0] for name, reading in self.readings.items()], axis=1)
        return CellTable(cells, self.columns, tuple(self.entries.values()))


def quantiles(z: NDArray[np.float32]) -> tuple[float, ...]:
    """Distinct quantiles of standardised values at ``BINS + 1`` equal steps, both ends included; NaN = missing."""
    edges = np.unique(np.nanquantile(z.astype(np.float64), np.linspace(0, 1, BINS + 1)).astype(np.float32))
    return tuple(edges.tolist())


def _entries(column: pd.Series, reading: Reading) -> list[Any]:
    """First entry of each category, in the order of the categories."""
    if reading.categories is None:
        return []
    codes = reading.apply(column)[0]
    found, first = np.unique(codes[~np.isnan(codes)], return_index=True)
    rows = np.flatnonzero(~np.isnan(codes))[first]
    values = dict(zip(found.astype(int).tolist(), rows.tolist(), strict=True))
    return [column.iloc[values[code]] if code in values else name for name, code in reading.categories.items()]


def duplicated(features: Floats, roles: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows that are not for training equal a training row in all features, ``(rows,)``."""
    train = {row.tobytes() for row in np.nan_to_num(features[roles == 0], nan=np.inf)}
    return np.asarray(
        [
            role > 0 and row.tobytes() in train
            for row, role in zip(np.nan_to_num(features, nan=np.inf), roles, strict=True)
        ]
    )
