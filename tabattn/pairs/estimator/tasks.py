"""Tasks of ``SequenceInferrer``: windows of a wide table, or whole tasks, as a datamodule of pairs."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.counter import generator
from datamodules.pairs.long import axis_of
from datamodules.pairs.options import SplitEvaluation, WindowOptions
from datamodules.pairs.series import numbers
from datamodules.pairs.tables import Windows, check_below, origins
from datamodules.pairs.tables import axis_of as axis_of_windows
from datamodules.pairs.tasks import TaskPairs, Tasks
from datamodules.splits import standardise
from tabattn.contract.batches import Scaling
from tabattn.contract.errors import TableWarning
from tabattn.pairs.estimator.observed import Observed, axis_of_rows, wide_frame, wide_names
from tabattn.pairs.estimator.settings import InferrerSettings

SPLIT = 31
"""Number that gives the split of tasks a stream of its own."""


class Units(NamedTuple):
    """Units of the data, learnt from the training part.

    Attributes:
        mean: Mean of each sequence.
        std: Standard deviation of each sequence.
        axis: Scaling of the network.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    axis: Scaling


class ArrayPairs(TaskPairs):
    """Tasks at hand, with their split; see ``windows_of`` and ``tasks_of``.

    Args:
        names: Names of the sequences.
        infer: Names of those to infer; None = the last.
        context: Number of context points of each of them in validation.
        settings: Settings of the training.
        tasks: Standardised tasks.
        parts: Numbers of the tasks of ``train`` and ``val``.
        units: Units of the data.
        seed: Seed of the batches.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        infer: tuple[str, ...] | str | None,
        context: int,
        settings: InferrerSettings,
        tasks: Tasks,
        parts: dict[str, Tensor],
        units: Units,
        seed: int,
    ) -> None:
        every = settings.validate_every
        evaluation = SplitEvaluation(val_regime=settings.scored)
        loading = settings.batch_size, every, seed, 0
        super().__init__(names, infer, context, settings.regimes, evaluation, settings.augmentation, *loading)
        self.tasks, self.scaling, self.shown = tasks, units.axis, context
        self.mean, self.std = units.mean, units.std
        self.numbers = {stage: self.usable(stage, part) for stage, part in parts.items() if len(part)}
        left = sum(map(len, parts.values())) - sum(map(len, self.numbers.values()))
        if left:
            total = sum(map(len, parts.values()))
            warnings.warn(
                f"{left} of {total} tasks are left out, which lack known values of a sequence, or of one to infer "
                f"among its first {context} or behind them",
                TableWarning,
                stacklevel=4,
            )


def windows_of(X: Any, y: Any, layout: WindowOptions, names: tuple[str, ...] | None) -> tuple[tuple[str, ...], Windows]:
    """All windows of a wide table, in its own units, and the names of its sequences."""
    if y is not None:
        raise ValueError("y must be None for a wide table, whose columns hold the values")
    frame = wide_frame(X)
    known = wide_names(frame, layout, names)
    axis = axis_of_rows(frame, layout)
    order = np.argsort(axis, kind="stable")
    lacking = np.full(len(frame), np.nan)
    values = np.stack([numbers(frame[name], "X") if name in frame.columns else lacking for name in known], 1)
    place = torch.from_numpy(axis[order])
    return known, Windows(place, origins(place, layout.cycle), torch.from_numpy(values[order]), layout.length)


def split_windows(windows: Windows, share: float, layout: WindowOptions) -> dict[str, Tensor]:
    """First rows of the windows to train and to validate on: the last rows validate, and no window crosses the border.

    Raises:
        ValueError: A part is shorter than a window.
    """
    rows, length = len(windows.axis), windows.length
    border = rows - round(share * rows)
    sizes = {"training": border} | ({"validation": rows - border} if share else {})
    for name, size in sizes.items():
        if size < length:
            raise ValueError(f"the {name} part must hold {length} rows (a window), got {size} of {rows}")
    train = torch.arange(border - length + 1)
    val = torch.arange(border, rows - length + 1, layout.stride) if share else torch.arange(0)
    return {"train": train, "val": val}


def learn_windows(windows: Windows, names: tuple[str, ...], train: Tensor, layout: WindowOptions) -> Units:
    """Units of windows, from the rows to train on."""
    mean, std = standardise(windows.values, slice(0, int(train.max()) + windows.length), names)
    return Units(tuple(mean.tolist()), tuple(std.tolist()), axis_of_windows(windows, train, layout))


def standard_windows(windows: Windows, units: Units) -> Windows:
    """Windows in standardised values."""
    mean, std = torch.tensor(units.mean).double(), torch.tensor(units.std).double()
    return windows._replace(values=((windows.values - mean) / std).float())


def split_tasks(observed: Observed, share: float, seed: int) -> dict[str, Tensor]:
    """Numbers of the tasks to train and to validate on, drawn at random.

    Raises:
        ValueError: A part is empty.
    """
    count = len(observed.labels)
    held = round(share * count)
    if not 0 < count - held < count + (not share):
        raise ValueError(f"training and validation must have at least 1 task each, got {count - held} and {held}")
    order = torch.randperm(count, generator=generator(seed, SPLIT))
    return {"train": order[held:], "val": order[:held]}


def learn_tasks(observed: Observed, train: Tensor) -> Units:
    """Units of whole tasks, from those to train on."""
    tasks = observed.observations()
    chosen = torch.isin(tasks.task, train)
    own = tasks.member[:, None] == torch.arange(len(observed.names))
    mean, std = standardise(tasks.y[:, None].where(own, torch.nan), chosen, observed.names)
    return Units(tuple(mean.tolist()), tuple(std.tolist()), axis_of(tasks.x, chosen))


def standard_tasks(observed: Observed, units: Units, context: int) -> Tasks:
    """Whole tasks in standardised values."""
    tasks = observed.observations()
    mean, std = torch.tensor(units.mean).double(), torch.tensor(units.std).double()
    return tasks._replace(y=(tasks.y - mean[tasks.member]) / std[tasks.member], least=1 + context)


def median_size(observed: Observed) -> int:
    """Median number of observations of a sequence in a task."""
    known = observed.table[np.isfinite(observed.table["y"])]
    if not len(known):
        raise ValueError("X must hold at least 1 observed value, got none")
    return int(known.groupby(["task", "member"]).size().median())


def check_context(context: int, layout: WindowOptions) -> int:
    """Return the number of context points in a window, at least 1; raise ValueError unless it leaves targets."""
    check_below("context", (context, context), layout.length)
    return max(1, context)
