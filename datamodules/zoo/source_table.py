"""Table of a source for imported networks: numbers as they are, and the classes of a categorical target."""

from pathlib import Path

import numpy as np
import pandas as pd

from datamodules.tables.sources import load_columns
from datamodules.zoo.imported import Table
from tabattn.contract.checks import listed, nearest


def table_of(source: str, cache_dir: str | Path | None = None) -> Table:
    """Load a table, whose last or named column is the target; a target of text or of categories is classes.

    Args:
        source: ``sklearn:<name>``, ``openml:<id or name>`` or a file; ``::<column>`` behind it names the target.
        cache_dir: Cache folder of OpenML.

    Raises:
        ValueError: No such source or column, or a column that is no number.
        DataError: The table cannot be read or fetched.
    """
    raw = load_columns(source, cache_dir)
    names = raw.columns.columns
    if raw.target is None or raw.target not in names:
        hint = "" if raw.target is None else nearest(raw.target, names)
        raise ValueError(
            f"{raw.place} has no target {raw.target!r}{hint}: name one as {raw.place}::<column>{listed(names)}"
        )
    target, features = raw.columns[raw.target], raw.columns.drop(columns=raw.target)
    words = next((name for name, column in features.items() if not pd.api.types.is_numeric_dtype(column)), None)
    if words is not None:
        raise ValueError(f"column {words!r} of {raw.place} is no number: networks take numbers only")
    x = features.to_numpy(np.float32)
    if pd.api.types.is_numeric_dtype(target):
        return Table(x, target.to_numpy(np.float32))
    return Table(x, pd.Categorical(target).codes, labels=True)
