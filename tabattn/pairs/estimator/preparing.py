"""Preparation of a fit and of scores of ``SequenceInferrer``: tasks in standardised units, from either layout."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from datamodules.pairs.options import WindowOptions
from tabattn.contract.batches import PairBatch, Scaling
from tabattn.pairs.estimator.arguments import Training
from tabattn.pairs.estimator.observed import Layout, Observed, read
from tabattn.pairs.estimator.settings import InferrerSettings
from tabattn.pairs.estimator.tasks import (
    ArrayPairs,
    Units,
    check_context,
    learn_tasks,
    learn_windows,
    median_size,
    split_tasks,
    split_windows,
    standard_tasks,
    standard_windows,
    windows_of,
)

Infer = tuple[str, ...] | str | None


def tasks_to_fit(
    X: Any, y: Any, layout: Layout, infer: Infer, context: int | None, training: Training, seed: int
) -> ArrayPairs:
    """Tasks of a fit, with their split."""
    if in_windows(X, layout):
        assert isinstance(layout, WindowOptions)
        names, windows = windows_of(X, y, layout, None)
        shown = check_context(layout.length // 4 if context is None else context, layout)
        parts = split_windows(windows, training.share, layout)
        units = learn_windows(windows, names, parts["train"], layout)
        return ArrayPairs(names, infer, shown, training.settings, standard_windows(windows, units), parts, units, seed)
    observed = read(X, y, layout, None)
    shown = max(1, median_size(observed) // 4) if context is None else context
    parts = split_tasks(observed, training.share, seed)
    units = learn_tasks(observed, parts["train"])
    tasks = standard_tasks(observed, units, shown)
    return ArrayPairs(observed.names, infer, shown, training.settings, tasks, parts, units, seed)


def tasks_to_score(
    X: Any,
    y: Any,
    layout: Layout,
    infer: Infer,
    context: int | None,
    settings: InferrerSettings,
    names: tuple[str, ...] | None,
    seed: int,
) -> ArrayPairs:
    """Tasks to score, all of which are of the part ``val``, in the units of the data."""
    if in_windows(X, layout):
        assert isinstance(layout, WindowOptions)
        known, windows = windows_of(X, y, layout, names)
        shown = check_context(layout.length // 4 if context is None else context, layout)
        if len(windows.axis) < layout.length:
            raise ValueError(f"X must hold {layout.length} rows (a window), got {len(windows.axis)}")
        numbers = torch.arange(0, len(windows.axis) - layout.length + 1, layout.stride)
        return ArrayPairs(known, infer, shown, settings, windows, {"val": numbers}, plain_units(known), seed)
    observed = read(X, y, layout, names)
    shown = max(1, median_size(observed) // 4) if context is None else context
    units, numbers = plain_units(observed.names), torch.arange(len(observed.labels))
    tasks = observed.observations()._replace(least=1 + shown)
    return ArrayPairs(observed.names, infer, shown, settings, tasks, {"val": numbers}, units, seed)


def in_windows(X: Any, layout: Layout) -> bool:
    """Whether a table is one long series, to be cut into windows."""
    return isinstance(layout, WindowOptions) and np.ndim(X) != 3


def plain_units(names: tuple[str, ...]) -> Units:
    """Units in which values are as they are."""
    return Units((0.0,) * len(names), (1.0,) * len(names), Scaling())


def batches_to_score(data: ArrayPairs) -> Iterator[tuple[Observed, pd.DataFrame]]:
    """Yield what is observed in tasks, and the targets with their true values in ``y``."""
    batches = data.batches("val")
    for index in range(len(batches)):
        yield _tables(data.names, batches[index])


def _tables(names: tuple[str, ...], batch: PairBatch) -> tuple[Observed, pd.DataFrame]:
    task = torch.arange(len(batch.x))[:, None].expand_as(batch.x)
    target = (torch.arange(batch.x.shape[1]) >= batch.context).expand_as(batch.x)
    kept = batch.y.isfinite()
    columns = {"task": task, "member": batch.member, "x": batch.x.double(), "y": batch.y.double()}
    table = pd.DataFrame({name: part[kept].numpy() for name, part in columns.items()})
    asked = target[kept].numpy()
    known = Observed(names, list(range(len(batch.x))), table[~asked], np.zeros(len(batch.x)))
    return known, table[asked].assign(row=np.arange(int(asked.sum())))
