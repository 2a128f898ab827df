"""Datamodule of wide tables: windows of columns along one axis."""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.counter import Seed
from datamodules.pairs.options import (
    DEFAULT_AUGMENTATION,
    DEFAULT_EVALUATION,
    DEFAULT_WINDOWS,
    SPLIT_MOVES,
    WINDOW_MOVES,
    Augmentation,
    Name,
    SplitEvaluation,
    WindowOptions,
    as_range,
)
from datamodules.pairs.regimes import Regime
from datamodules.pairs.tasks import Points, TaskPairs
from datamodules.splits import PARTS, split_borders, standardise
from datamodules.tables.source import Source
from tabattn.contract.batches import Scaling


class Windows(NamedTuple):
    """Windows of columns, by their first row.

    Attributes:
        axis: Location of each row, ``(rows,)`` double.
        origin: Location that becomes 0 in the window that starts at each row, ``(rows,)`` double.
        values: Standardised values, ``(rows, columns)``; NaN = not observed.
        length: Number of rows of a window.
    """

    axis: Tensor
    origin: Tensor
    values: Tensor
    length: int

    def take(self, numbers: Tensor) -> Points:
        """Return the windows that start at the given rows."""
        rows = numbers[:, None] + torch.arange(self.length)
        x = (self.axis[rows] - self.origin[numbers, None]).float()
        members = self.values.shape[1]
        member = torch.arange(members).repeat_interleave(self.length)
        y = self.values[rows].transpose(1, 2).flatten(1)
        return Points(x.repeat(1, members), y, member.expand(len(numbers), -1))

    def known(self, numbers: Tensor, shown: int) -> tuple[Tensor, Tensor]:
        """Number of observed values among the first of each column of a window, and among the others."""
        zero = torch.zeros(1, self.values.shape[1], dtype=torch.long)
        counts = torch.cat([zero, self.values.isfinite().cumsum(0)])
        border = counts[numbers + shown]
        return border - counts[numbers], counts[numbers + self.length] - border


class TablePairs(TaskPairs):
    """Windows of a wide table: columns are inferred from the others and from their own first points.

    A task is a window of rows; each column is a sequence (member). The table is split by time into parts to train,
    validate and test on, and no window crosses from one into another. **Values come standardised** by each column's
    mean and standard deviation in the training part, so errors and likelihoods are in these units; the attributes
    ``mean`` and ``std`` convert back. Missing cells are neither shown nor scored. Windows without a known value in some
    column, or with none of a column to infer among its first ``context`` points, or none behind them, are left out.

    Windows to train on start anywhere, those to validate and test on every ``windows.stride`` rows. Each has an axis of
    its own that starts at 0, or with ``windows.cycle`` at its phase in the cycle.

    Args:
        path: The table: a file (csv, tsv, arff, parquet, each plain or with .gz); from Python a DataFrame too.
        columns: The columns, by name or by position counted from 0; one alone is inferred from its own past.
        infer: Name of the column to infer, or of several, which may be all; none = the last of ``columns``.
        context: Number of context points of each column to infer in validation, test and prediction. Half of the
            training batches have as many, the others any number from 1 to all but one. Of two numbers, the fewest and
            the most, each batch draws from this range, in training too: ``[8, 8]`` trains on 8 alone.
        regime: Which points are context in training. ``forecast``: all of the other columns and the first points of
            those to infer. ``interp``: random points of them instead. ``full_infer``: a forecast in causal order.
            ``shuffle``: random points of all, on average as many of each. ``half_half``: full_infer or shuffle.
            ``mix``: shuffle, forecast or interp. Of several, each batch draws one.
        windows: Options of the axis and of the windows.
        evaluation: Options of validation, test and prediction.
        augmentation: Options of data augmentation in training.
        batch_size: Tasks in a batch (on each device).
        steps_per_epoch: Batches per epoch; validation may run at its end.
        seed: Seed of the batches; of two, the second is that of the training batches alone.
        num_workers: Worker processes of the loaders; 0 = load in the training process.
    """

    tasks: Windows
    moved = SPLIT_MOVES | WINDOW_MOVES

    def __init__(
        self,
        path: Source,
        columns: tuple[Name, ...],
        infer: tuple[str, ...] | str | None = None,
        *,
        context: int | tuple[int, int] = 16,
        regime: Regime | tuple[Regime, ...] = "mix",
        windows: WindowOptions = DEFAULT_WINDOWS,
        evaluation: SplitEvaluation = DEFAULT_EVALUATION,
        augmentation: Augmentation = DEFAULT_AUGMENTATION,
        batch_size: int = 32,
        steps_per_epoch: int = 100,
        seed: Seed = 0,
        num_workers: int = 0,
    ) -> None:
        from datamodules.pairs.series import read_series

        series = read_series(path, columns, windows.x, windows.unit)
        loading = batch_size, steps_per_epoch, seed, num_workers
        super().__init__(series.names, infer, context, regime, evaluation, augmentation, *loading)
        check_below("context", as_range("context", context), windows.length)
        check_below("evaluation.context", self.options["val"].shown, windows.length)
        borders = split_borders(len(series.x), evaluation.shares, windows.length, "rows (a window)")
        axis, values = torch.from_numpy(series.x), torch.from_numpy(series.y)
        mean, std = standardise(values, slice(borders[0], borders[1]), series.names)
        self.mean, self.std = tuple(mean.tolist()), tuple(std.tolist())
        self.tasks = Windows(axis, origins(axis, windows.cycle), ((values - mean) / std).float(), windows.length)
        self.complete = bool(values.isfinite().all())
        starts = _starts(borders, windows)
        self.numbers = {stage: self.usable(stage, part) for stage, part in starts.items()}
        self.scaling = axis_of(self.tasks, self.numbers["train"], windows)


def origins(axis: Tensor, cycle: float | None) -> Tensor:
    """Location that becomes 0 in a window that starts at each location: itself, or the start of its cycle."""
    return axis if cycle is None else (axis / cycle).floor() * cycle


def axis_of(tasks: Windows, first: Tensor, windows: WindowOptions) -> Scaling:
    """Ends of the axis in windows.

    Args:
        tasks: All windows.
        first: First rows of those to train on.
        windows: Options of the axis.

    Raises:
        ValueError: The axis rises within no window.
    """
    ends = float((tasks.axis[first + windows.length - 1] - tasks.origin[first]).max())
    if not ends > 0:
        rows = f"a window of {windows.length} rows"
        raise ValueError(f"x column {windows.x!r} must rise within {rows}, but does not in any")
    # Networks see places by waves of twice the axis and its halves: the cycle is then one of them.
    cycle = windows.cycle
    return Scaling(0.0, ends if cycle is None else cycle * 2.0 ** math.ceil(math.log2(ends / cycle)))


def _starts(borders: tuple[int, ...], windows: WindowOptions) -> dict[str, Tensor]:
    """First rows of the windows of each stage, from the borders of its part of the table."""
    steps = {"train": 1, "val": windows.stride, "test": windows.stride}
    starts = {
        name: torch.arange(first, end - windows.length + 1, steps[name])
        for name, (first, end) in zip(PARTS, pairwise(borders), strict=True)
    }
    # No row is left without a prediction.
    starts["predict"] = torch.cat([starts["test"], torch.tensor([borders[-1] - windows.length])]).unique()
    return starts


def check_below(name: str, shown: tuple[int, int], window: int) -> None:
    """Raise ValueError unless a window has points left as targets."""
    if shown[1] >= window:
        raise ValueError(f"{name} must be less than the window's {window} rows, got {shown[1]}")
