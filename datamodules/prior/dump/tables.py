"""In-context tasks cut from a table at hand, a file, scikit-learn or OpenML, into a prior dump."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.prior.dump.jobs import Parts, Split, Written, table_jobs, write_here
from datamodules.prior.options import DEFAULT_DRAWS, DrawOptions
from tabattn.contract.checks import check_least

if TYPE_CHECKING:
    import pandas as pd

    from datamodules.tables.source import Source


def cut_tasks(
    path: str | Path,
    table: "Source | Path | tuple[Any, Any]",
    target: str | None = None,
    tasks: int = 500,
    rows: int = 100,
    context: int = 80,
    features: int | None = None,
    *,
    split: Split = "both",
    held_out: float = 0.3,
    draws: DrawOptions = DEFAULT_DRAWS,
    seed: int = 0,
    batch_size: int = 32,
    overwrite: bool = False,
) -> tuple[Written, ...]:
    """Cut in-context tasks from a table into prior dumps, as ``python -m datamodules.dump --source`` does.

    The rows of a task are drawn without replacement and stratified by class; columns of any kind are encoded by its
    context rows. Files are written atomically; an interrupted call goes on where it was when it is made again.

    Args:
        path: The file; where both parts are written, ``<path>_train`` and ``<path>_test``, before the suffix.
        table: DataFrame, a pair of cells ``(rows, features)`` and labels ``(rows,)``, or the source of a table: a file,
            ``sklearn:<name>`` or ``openml:<id or name>``.
        target: Column with the labels; none = that of the source, otherwise the last one.
        tasks: Number of tasks in all.
        rows: Number of rows of a task.
        context: Number of its context rows.
        features: Number of its columns, drawn at random; none = all.
        split: Rows to draw from: both parts, into two files, or one of them.
        held_out: Share of the rows of the test part, and of the tasks where both parts are written.
        draws: Options of what varies between tasks.
        seed: Seed of everything random.
        batch_size: Tasks in a chunk of the file.
        overwrite: Whether files of these names may be replaced.

    Returns:
        What was written, a file each.

    Raises:
        ValueError: An argument is wrong, the table is not fit for such tasks, or a file exists.
        DataError: The table cannot be read or fetched, or a file not written.
    """
    from datamodules.prior.cut import CutOptions
    from datamodules.tables.real import load_table

    check_least(tasks=(tasks, 1), batch_size=(batch_size, 1))
    if split not in ("both", "train", "test"):
        raise ValueError(f"split must be both, train or test, got {split!r}")
    cut = CutOptions(rows, context, features, draws.permute_labels, draws.permute_columns, draws.fixed_columns)
    loaded = load_table(*_source(table, target))
    jobs = table_jobs(Path(path), loaded, cut, tasks, Parts(split, held_out, seed), batch_size)
    return tuple(write_here(job, overwrite) for job in jobs)


def _source(table: "Source | Path | tuple[Any, Any]", target: str | None) -> "tuple[Source, str | None]":
    """Source and target of a table, which may be a pair of arrays."""
    if isinstance(table, os.PathLike):
        return os.fspath(table), target
    if not isinstance(table, tuple):
        return table, target
    if target is not None:
        raise ValueError(f"a pair of arrays has its labels in the second, and no column {target!r}: give no target")
    if len(table) != 2:
        raise ValueError(f"a table of arrays is a pair (cells, labels), got {len(table)} arrays")
    return _joined(*table), None


def _joined(x: Any, y: Any) -> "pd.DataFrame":
    """Data frame of cells and labels, with the labels last."""
    import numpy as np
    import pandas as pd

    if not isinstance(x, pd.DataFrame):
        cells = np.asarray(x)
        if cells.ndim != 2:
            raise ValueError(f"cells must be (rows, features), got an array of the shape {cells.shape}")
        x = pd.DataFrame(cells, columns=[f"feature {place}" for place in range(cells.shape[1])])
    labels = pd.Series(y) if not isinstance(y, pd.Series) else y
    if len(labels) != len(x):
        raise ValueError(f"cells and labels must have as many rows, got {len(x)} and {len(labels)}")
    name = "target"
    while name in x.columns:
        name += "_"
    return pd.concat([x.reset_index(drop=True), labels.reset_index(drop=True).rename(name)], axis=1)
