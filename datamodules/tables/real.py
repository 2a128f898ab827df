"""Real tables as arrays: loading by source, and stratified folds."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, train_test_split

from datamodules.tables.collections import load_frames
from datamodules.tables.source import Source
from datamodules.tables.sources import Frame, load_frame
from tabattn.contract.batches import TableBatch
from tabattn.contract.checks import check_seed
from tabattn.contract.columns import TableEncoder, encode_labels, recode, to_single


class RealTable(NamedTuple):
    """Real table as arrays of numbers.

    Attributes:
        name: Its short name.
        x: Cells, ``(rows, features)`` double; NaN = missing. Categorical columns hold arbitrary codes: a task cut from
            the table re-encodes them by its context (``recode``) and rounds the cells to single precision
            (``to_single``).
        y: Class index of each row, ``(rows,)``.
        features: Names of the columns; those constant over the whole table are left out.
        classes: Names of the classes.
        categorical: Whether each column is categorical, ``(features,)`` boolean.
        provenance: Source of the table, in plain values.
        rows: Indices of the rows in the source, where only a sample was taken; None = all.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.int64]
    features: tuple[str, ...]
    classes: tuple[str, ...]
    categorical: NDArray[np.bool_]
    provenance: dict[str, Any]
    rows: NDArray[np.int64] | None = None


def load_table(source: Source, target: str | None = None, cache_dir: str | Path | None = None) -> RealTable:
    """Load a real table by its source and encode it as numbers.

    Args:
        source: ``sklearn:<name>``, ``openml:<id or name>`` or a file; ``::<column>`` behind it names the target. Or a
            DataFrame.
        target: Target column; none = that of the source.
        cache_dir: Cache folder of OpenML; none = its default.

    Raises:
        ValueError: No such source or target, or no column that varies.
        DataError: The table cannot be read or fetched.
    """
    return encode_frame(load_frame(source, target, cache_dir), source)


def encode_frame(frame: Frame, source: Source) -> RealTable:
    """Encode a real table as numbers.

    Args:
        frame: The table.
        source: Its source, for messages.

    Raises:
        ValueError: No column varies.
    """
    encoder = TableEncoder()
    x = encoder.fit_encode(frame.x, source)
    if not len(encoder.columns_):
        raise ValueError(f"every column of {source if isinstance(source, str) else 'the DataFrame'} is constant")
    codes, classes = encode_labels(frame.y)
    return RealTable(
        frame.name,
        x,
        codes,
        tuple(map(str, encoder.get_feature_names_out())),
        classes,
        encoder.categorical_,
        frame.provenance,
    )


def load_tables(sources: Source | tuple[Source, ...], max_rows: int, seed: int) -> list[RealTable]:
    """Load several real tables by their sources; large ones as a stratified sample of rows.

    A suite of OpenML and a folder are several tables, see ``load_frames``. DataFrames are called by their
    ``attrs["name"]``, else ``table``, ``table 2`` and so on; the last column is the target.

    Raises:
        ValueError: As for ``load_table``, or two tables have the same name.
        DataError: As for ``load_table``.
    """
    if not isinstance(sources, list | tuple):
        sources = (sources,)
    tables: list[RealTable] = []
    frames = []
    for source in sources:
        if isinstance(source, pd.DataFrame):
            frames.append((len(tables), source))
        for frame in load_frames(source):
            own = frame.provenance["source"] if isinstance(source, str) else source
            tables.append(stratified_rows(encode_frame(frame, own), max_rows, seed))
    unnamed = [place for place, frame in frames if "name" not in frame.attrs]
    for count, place in enumerate(unnamed[1:], 2):
        tables[place] = tables[place]._replace(name=f"table {count}")
    names = [table.name for table in tables]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"tables must have different names, got {twice!r} twice")
    return tables


def stratified_rows(table: RealTable, limit: int, seed: int) -> RealTable:
    """Stratified sample of at most ``limit`` rows of a table.

    Raises:
        ValueError: There are more classes than rows to draw, or one of them has a single row.
    """
    if len(table.y) <= limit:
        return table
    sizes = np.bincount(table.y)
    if len(sizes) > limit or sizes.min() < 2:
        raise ValueError(
            f"{table.name} has {len(sizes)} classes in {len(table.y)} rows, the smallest of {sizes.min()}: to draw at "
            f"most max_rows ({limit}) of them there must be no more classes than that, each of at least 2 rows"
        )
    check_seed(seed)
    rows, _ = train_test_split(np.arange(len(table.y)), train_size=limit, stratify=table.y, random_state=seed)
    return table._replace(x=table.x[rows], y=table.y[rows], rows=rows)


class Folds(NamedTuple):
    """Cross-validation folds of real tables, split between validation and test so that no row is scored by both.

    Attributes:
        val: Validation folds: the first half of the folds of each table, rounded down.
        test: Test folds: the others.
        rows: Target rows of each test fold, as indices into the source.
    """

    val: list[TableBatch]
    test: list[TableBatch]
    rows: tuple[NDArray[np.int64], ...] = ()

    @classmethod
    def of(cls, tables: list[RealTable], folds: int, seed: int) -> "Folds":
        """Cut tables into stratified folds, and split these between validation and test."""
        each = [fold_batches(table, index, folds, seed) for index, table in enumerate(tables)]
        if tables:
            rank_zero_info(
                f"of the {folds} folds of each real table {folds // 2} validate and the other {folds - folds // 2} "
                "test: no row is scored by both"
            )
        halves = [(table, _split(table, folds, seed)[folds // 2 :]) for table in tables]
        rows = [rest if table.rows is None else table.rows[rest] for table, half in halves for _, rest in half]
        return cls(
            [batch for batches in each for batch in batches[: folds // 2]],
            [batch for batches in each for batch in batches[folds // 2 :]],
            tuple(rows),
        )


def fold_batches(table: RealTable, index: int, folds: int, seed: int) -> list[TableBatch]:
    """Stratified folds of a table, each as a batch of one task whose targets are the fold.

    Args:
        table: The table.
        index: Index of the table among the datamodule's tables.
        folds: Number of folds.
        seed: Seed of the assignment of rows to folds.

    Raises:
        ValueError: A class has fewer rows than there are folds.
    """
    smallest = np.bincount(table.y).min()
    if folds < 2 or smallest < folds:
        raise ValueError(f"folds must be between 2 and the smallest class of {table.name} ({smallest}), got {folds}")
    return [_batch(table, index, fit, rest) for fit, rest in _split(table, folds, seed)]


def _split(table: RealTable, folds: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Context rows and target rows of each fold."""
    check_seed(seed)
    return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(table.x, table.y))


def _batch(table: RealTable, index: int, context: NDArray[np.int64], target: NDArray[np.int64]) -> TableBatch:
    """One fold; a column that is constant in its context is all zero, so that the others keep their places."""
    rows = np.concatenate([context, target])
    told, kept = recode(table.x[rows], table.categorical, len(context))
    x = np.zeros((len(rows), table.x.shape[1]), np.float32)
    x[:, kept] = to_single(told, len(context))
    return TableBatch(
        torch.from_numpy(x)[None],
        torch.from_numpy(table.y[rows])[None],
        len(context),
        table=torch.tensor([index]),
    )
