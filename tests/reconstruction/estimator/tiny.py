"""Small and short trainings, and a table with columns of every kind."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from torch.optim import AdamW

from tabattn.reconstruction import CellTransformer
from tabattn.reconstruction.estimator import IMPUTATION, NPTClassifier, NPTRegressor, TabularImputer, TrainingSettings

SIZES: dict[str, Any] = {"dim": 8, "heads": 2, "hidden": 8, "layers": 1}
TINY = TrainingSettings(
    network=partial(CellTransformer, **SIZES), optimizer=partial(AdamW, lr=0.01), validate_every=2, rows=64
)
TINY_IMPUTER = TrainingSettings(
    network=partial(CellTransformer, **SIZES),
    optimizer=partial(AdamW, lr=0.01),
    loss=IMPUTATION.loss,
    hidden=IMPUTATION.hidden,
    validate_every=2,
    rows=64,
)


def classifier(**arguments: Any) -> NPTClassifier:
    return NPTClassifier(**{"settings": TINY, "max_steps": 2, "device": "cpu", **arguments})


def regressor(**arguments: Any) -> NPTRegressor:
    return NPTRegressor(**{"settings": TINY, "max_steps": 2, "device": "cpu", **arguments})


def imputer(**arguments: Any) -> TabularImputer:
    return TabularImputer(**{"settings": TINY_IMPUTER, "max_steps": 2, "device": "cpu", **arguments})


def mixed(rows: int = 24) -> pd.DataFrame:
    """A table with columns of every kind, and a missing cell in each that varies."""
    draws = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "number": draws.normal(5, 2, rows),
            "whole": pd.array(draws.integers(0, 9, rows), dtype="Int64"),
            "truth": pd.array(draws.random(rows) < 0.5, dtype="boolean"),
            "word": draws.choice(["red", "green", "blue"], rows),
            "level": pd.Categorical(draws.choice(["low", "high"], rows), categories=["low", "high", "never"]),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(draws.integers(0, 99, rows), unit="D"),
            "object": pd.Series(draws.choice(["x", "y"], rows), dtype=object),
            "mass": pd.Series([f"{value} kg" for value in draws.integers(10, 20, rows)], dtype=object),
            "same": "only",
        }
    )
    for place in range(frame.shape[1]):
        frame.iloc[place, place] = None
    return frame
