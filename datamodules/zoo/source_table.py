"""Table of a source for imported networks: numbers as they are, and the classes of a categorical target."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from datamodules.tables.sources import load_columns
from datamodules.zoo.imported import Table
from tabattn.contract.checks import listed, nearest

Target = Literal["auto", "classes", "numbers"]
"""What a target column is; auto = words and categories are classes, numbers as the networks' outputs tell."""


def table_of(source: str, cache_dir: str | Path | None = None, kind: Target = "auto") -> Table:
    """Load a table, whose last or named column is the target.

    Args:
        source: ``sklearn:<name>``, ``openml:<id or name>`` or a file; ``::<column>`` behind it names the target.
        cache_dir: Cache folder of OpenML.
        kind: What the target is.

    Raises:
        ValueError: No such source or column, a column that is no number, or a target that is missing somewhere.
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
    if target.isna().any():
        raise ValueError(f"target {raw.target!r} of {raw.place} is missing in {int(target.isna().sum())} rows")
    if pd.api.types.is_numeric_dtype(target) and not pd.api.types.is_bool_dtype(target):
        return Table(x, target.to_numpy(np.float32), {"auto": None, "classes": True, "numbers": False}[kind])
    if kind == "numbers":
        raise ValueError(f"target {raw.target!r} of {raw.place} is no number, so it can be classes only")
    # Declared categories have an order, others that of their names.
    declared = isinstance(target.dtype, pd.CategoricalDtype)
    return Table(x, target.cat.codes.to_numpy() if declared else target.astype(str).to_numpy(str), labels=True)
