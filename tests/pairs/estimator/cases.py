"""Small estimators and tables."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from tabattn.pairs import TNPD, TokenOptions
from tabattn.pairs.estimator import InferrerSettings, LongOptions, SequenceInferrer, WindowOptions

NETWORK = partial(TNPD, dim=16, heads=2, hidden=16, layers=1, tokens=TokenOptions(fourier=3), residual="nearest")
TINY = InferrerSettings(network=NETWORK, batch_size=4, validate_every=2)
WIDE = WindowOptions(x="hour", length=8, stride=4)
LONG = LongOptions(task="patient", member="device", x="hour", y="reading")


def wide(rows: int = 60) -> pd.DataFrame:
    hour = np.arange(rows) * 0.5
    level = np.random.default_rng(0).normal(0, 0.1, rows).cumsum()
    return pd.DataFrame({"hour": hour, "a": 20 + np.sin(hour) + level, "b": -3 + 4 * np.sin(hour) + level})


def long(tasks: int = 12, missing: float = 0.1) -> pd.DataFrame:
    """Irregular observations of two devices, in no order, some without a value."""
    source = np.random.default_rng(1)
    rows = []
    for task in range(tasks):
        for device, level in (("left", 5.0), ("right", 7.0)):
            for hour in source.uniform(0, 10, source.integers(5, 9)):
                rows.append((f"p{task}", device, hour, level + np.sin(hour + task)))
    frame = pd.DataFrame(rows, columns=["patient", "device", "hour", "reading"])
    frame.loc[source.random(len(frame)) < missing, "reading"] = np.nan
    return frame.iloc[source.permutation(len(frame))].reset_index(drop=True)


def inferrer(layout: Any = WIDE, **changes: Any) -> SequenceInferrer:
    return SequenceInferrer(layout, **{"settings": TINY, "max_steps": 4, "context": 2, "device": "cpu", **changes})


def window(rows: int = 8, known: int = 3) -> pd.DataFrame:
    """One window of which the last values of ``b`` are to be inferred."""
    frame = wide().iloc[40 : 40 + rows].reset_index(drop=True)
    frame.loc[known:, "b"] = np.nan
    return frame
