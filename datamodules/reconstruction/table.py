"""Table of cells: numbers standardised by declared rows, and indices of categories."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tabattn.contract.cells import REACH, Column
from tabattn.contract.checks import listed, nearest
from tabattn.contract.columns import Reading, Standard, declared, doubts, drawn_in, learn
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
        """Cells as the network sees them: numbers standardised, ``(rows, columns)``; NaN = missing.

        Features beyond ``REACH`` standard deviations are drawn in; targets, which are scored, stay as they are.
        """
        mean = np.asarray([column.mean for column in self.columns])
        std = np.asarray([column.std for column in self.columns])
        drawn = np.asarray([not column.target and not column.categories for column in self.columns], dtype=bool)
        z = Standard(mean, std)(self.cells)
        return np.where(drawn, drawn_in(z), z)


class CellEncoder:
    """Encoder of a table's cells, learned from declared rows.

    The kind of a feature column, its categories, mean, standard deviation and quantiles are those of the declared rows;
    the categories of a target are those of all rows, so that each class has an output. Cells that are unlike the
    declared rows (an unknown category, text in a numeric column) are missing.

    A ``TableWarning`` names what was guessed of a column, entries that could not be read, and outliers.

    Columns of pandas' category type and booleans, as ARFF files declare them, are categorical also if their categories
    look like numbers.

    Args:
        targets: Names of the target columns.
        categorical: Names of further columns that are categorical.
    """

    def __init__(self, targets: tuple[Any, ...] = (), categorical: tuple[Any, ...] = ()) -> None:
        self.targets, self.categorical = targets, categorical

    def fit(self, frame: pd.DataFrame, features: NDArray[np.int64], labels: NDArray[np.int64]) -> "CellEncoder":
        """Learn from declared rows.

        Args:
            frame: All columns.
            features: Rows whose features may be read.
            labels: Rows whose targets may be read.

        Raises:
            ValueError: A target is missing in the table, or in each of its declared rows, or infinite in a row.
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
            column = self._learn(frame[name], labels if target else features, target)
            if column is not None:
                columns.append(column)
        self.columns = tuple(columns)
        return self

    def _learn(self, whole: pd.Series, rows: NDArray[np.int64], target: bool) -> Column | None:
        """Learn a column from its declared rows; None if it has no value in them."""
        reading, note = learn(
            whole if target else whole.iloc[rows], categorical=is_categorical(whole, self.categorical)
        )
        values, unread = reading.apply(whole)
        if target and (infinite := [entry for entry in unread if entry.infinite]):
            raise ValueError(
                f"target {whole.name!r} must be finite, got {infinite[0].text!r} in row {infinite[0].row}: correct it, "
                "or leave it empty to predict it"
            )
        declared = np.full_like(values, np.nan)
        declared[rows] = values[rows]
        for doubt in doubts(whole, reading, note, declared, unread):
            _say(whole, doubt)
        if np.isnan(declared).all():
            if target:
                raise ValueError(f"target {whole.name!r} has no value in the rows to train on")
            _say(whole, "has no value: it is left out")
            return None
        if target and len(np.unique(declared[~np.isnan(declared)])) == 1:
            _say(whole, "has a single value in the rows to train on: there is nothing to learn of it")
        self.readings[whole.name] = reading
        self.entries[whole.name] = _entries(whole, reading)
        if reading.categories is not None:
            return Column(str(whole.name), tuple(reading.categories), target=target)
        standard = Standard.of(declared[:, None])
        held_out = np.where(np.isnan(declared), values, np.nan)
        if outliers := _about_outliers(held_out, standard(held_out[:, None])[:, 0], target):
            _say(whole, outliers)
        z = standard(declared[:, None])[:, 0]
        mean, std = float(standard.mean[0]), float(standard.size[0])
        return Column(str(whole.name), (), mean, std, target, quantiles(z if target else drawn_in(z)))

    def encode(self, frame: pd.DataFrame) -> CellTable:
        """Encode rows."""
        cells = np.stack([reading.apply(frame[name])[0] for name, reading in self.readings.items()], axis=1)
        return CellTable(cells, self.columns, tuple(self.entries.values()))


def is_categorical(column: pd.Series, names: tuple[Any, ...]) -> bool:
    """Whether a column is categorical for certain: by its type, or as its name is among some."""
    return column.name in names or declared(column) or pd.api.types.is_bool_dtype(column.dtype)


def quantiles(z: NDArray[np.float32]) -> tuple[float, ...]:
    """Distinct quantiles of standardised values at ``BINS + 1`` equal steps, both ends included; NaN = missing."""
    edges = np.unique(np.nanquantile(z.astype(np.float64), np.linspace(0, 1, BINS + 1)).astype(np.float32))
    return tuple(edges.tolist())


def _about_outliers(values: Floats, z: NDArray[np.float32], target: bool) -> str | None:
    """What is in doubt of values of held-out rows, and of what they are standardised; None = nothing."""
    rows = np.flatnonzero(np.abs(z) > REACH)
    if not len(rows):
        return None
    row = int(rows[np.abs(z[rows]).argmax()])
    then = "scores count it as it is, and the loss draws errors in" if target else "numbers are drawn in"
    return (
        f"has {values[row]:g} in row {row}, {abs(z[row]):.3g} standard deviations from the mean of training rows: "
        f"is it right? {then} beyond {REACH:g} ({len(rows)} such rows in all)"
    )


def _say(column: pd.Series, words: str) -> None:
    warnings.warn(f"column {column.name!r} {words}", TableWarning, stacklevel=5)


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
