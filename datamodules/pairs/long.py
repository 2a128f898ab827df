"""Datamodule of long tables: irregular observations, each with a location of its own."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datamodules.counter import Seed, Seeds, generator
from datamodules.pairs.options import (
    DEFAULT_AUGMENTATION,
    DEFAULT_EVALUATION,
    DEFAULT_SERIES,
    SERIES_MOVES,
    SPLIT_MOVES,
    Augmentation,
    LongNames,
    Roles,
    SeriesOptions,
    SplitEvaluation,
)
from datamodules.pairs.regimes import Regime
from datamodules.pairs.tasks import TaskPairs
from datamodules.splits import split_borders, standardise
from datamodules.tables.source import Source
from tabattn.contract.batches import Scaling

if TYPE_CHECKING:
    from datamodules.pairs.long_series import Observations

DEFAULT_NAMES = LongNames()


class LongPairs(TaskPairs):
    """Tasks from a long table, with one observation in each row: task, sequence (member), location and value.

    Sequences may have any number of points at any locations. In a batch they are padded with points that are neither
    shown nor scored; missing values are treated likewise. The tasks are split into some to train, validate and test on.
    **Values come standardised** by each sequence's mean and standard deviation in the tasks to train on, so errors and
    likelihoods are in these units; the attributes ``mean`` and ``std`` convert back. Tasks without a known value of
    some sequence, or with none of one to infer among its first ``context`` points, or none behind them, are left out.

    Args:
        path: The table: a file (csv, tsv, arff, parquet, each plain or with .gz); from Python a DataFrame too.
        columns: Which column says what: ``task``, ``member``, ``x`` (numbers or dates) and ``y``; from Python a
            dictionary by these roles too.
        infer: Name of the sequence to infer, or of several, which may be all; none = the last.
        context: Number of context points of each sequence to infer in validation, test and prediction. Half of the
            training batches have as many, the others any number from 1 to all but one. Of two numbers, the fewest and
            the most, each batch draws from this range, in training too: ``[8, 8]`` trains on 8 alone.
        regime: Which points are context in training. ``forecast``: all of the other sequences and the first points of
            those to infer. ``interp``: random points of them instead. ``full_infer``: a forecast in causal order.
            ``shuffle``: random points of all, on average as many of each. ``half_half``: full_infer or shuffle.
            ``mix``: shuffle, forecast or interp. Of several, each batch draws one.
        series: Options of the sequences and of their axis.
        evaluation: Options of validation, test and prediction.
        augmentation: Options of data augmentation in training.
        batch_size: Tasks in a batch (on each device).
        steps_per_epoch: Batches per epoch; validation may run at its end.
        seed: Seed of the split and of the batches; of two, the second is that of the training batches alone.
        num_workers: Worker processes of the loaders; 0 = load in the training process.
    """

    tasks: "Observations"
    moved = SPLIT_MOVES | SERIES_MOVES

    def __init__(
        self,
        path: Source,
        columns: Roles = DEFAULT_NAMES,
        infer: tuple[str, ...] | str | None = None,
        *,
        context: int | tuple[int, int] = 16,
        regime: Regime | tuple[Regime, ...] = "mix",
        series: SeriesOptions = DEFAULT_SERIES,
        evaluation: SplitEvaluation = DEFAULT_EVALUATION,
        augmentation: Augmentation = DEFAULT_AUGMENTATION,
        batch_size: int = 32,
        steps_per_epoch: int = 100,
        seed: Seed = 0,
        num_workers: int = 0,
    ) -> None:
        from datamodules.pairs.long_series import read_long

        names, tasks = read_long(path, columns, series.names, series.unit)
        loading = batch_size, steps_per_epoch, seed, num_workers
        super().__init__(names, infer, context, regime, evaluation, augmentation, *loading)
        borders = split_borders(len(tasks.first), evaluation.shares, 1, "task")
        order = torch.arange(len(tasks.first))
        if not series.ordered:
            order = order[torch.randperm(len(order), generator=generator(Seeds.of(seed).scored))]
        parts = order.tensor_split(borders[1:3])
        training = torch.isin(tasks.task, parts[0])
        wide = tasks.y[:, None].where(tasks.member[:, None] == torch.arange(len(names)), torch.nan)
        mean, std = standardise(wide, training, names)
        self.mean, self.std = tuple(mean.tolist()), tuple(std.tolist())
        y = (tasks.y - mean[tasks.member]) / std[tasks.member]
        least = 1 + max(options.shown[1] for options in self.options.values())
        self.tasks = tasks._replace(x=counted(tasks) if series.from_start else tasks.x, y=y, least=least)
        stages = dict(zip(("train", "val", "test", "predict"), (*parts, parts[2]), strict=True))
        self.numbers = {stage: self.usable(stage, part) for stage, part in stages.items()}
        self.scaling = axis_of(self.tasks.x, torch.isin(tasks.task, self.numbers["train"]))


def counted(tasks: "Observations") -> Tensor:
    """Places counted from the first point of their task."""
    start = torch.full((len(tasks.first),), torch.inf, dtype=tasks.x.dtype)
    return tasks.x - start.scatter_reduce(0, tasks.task, tasks.x, "amin")[tasks.task]


def axis_of(x: Tensor, training: Tensor) -> Scaling:
    """The ends of the axis in training.

    Raises:
        ValueError: All locations are equal, or too far from 0 to differ in single precision.
    """
    low, high = x[training].float().aminmax()
    if not low < high:
        raise ValueError(f"x must have different places, got only {float(low):g}")
    if len(x.unique()) > len(x.float().unique()):
        raise ValueError(
            f"x has different places that single precision does not tell apart, between {float(low):g} and "
            f"{float(high):g}: count from the first of each task with series.from_start=true, or in a larger unit"
        )
    return Scaling(float(low), float(high), 0.0, 1.0)
