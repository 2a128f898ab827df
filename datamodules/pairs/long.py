"""Datamodule of long tables: irregular observations, each with a location of its own."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datamodules.counter import generator
from datamodules.pairs.options import LongNames, Roles, Unit
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
    some sequence, or with none of the one to infer among its first ``context`` points, or none behind them, are left
    out.

    Args:
        path: The table: a file (csv, tsv, arff, parquet, each plain or with .gz); from Python a DataFrame too.
        columns: Which column says what: ``task``, ``member``, ``x`` (numbers or dates) and ``y``; from Python a
            dictionary by these roles too.
        sequences: Names of the sequences, in the order of their numbers; none = all there are, in order of their names.
        infer: Name of the sequence to infer; none = the last.
        unit: Unit of dates: ``s``, ``min``, ``h`` or ``D`` (days).
        from_start: Whether the locations of each task count from its first point.
        ordered: Whether tasks are split in the order of the table, the last ones for test; otherwise at random.
        context: Number of context points of the sequence to infer in validation, test and prediction. Half of the
            training batches have as many, the others any number from 1 to all but one. Of two numbers, the fewest and
            the most, each batch draws from this range, in training too: ``[8, 8]`` trains on 8 alone.
        eval_context: The same for validation, test and prediction alone, one number or two; none = ``context``.
        regime: Which points are context in training. ``forecast``: all of the other sequences and the first points of
            the one to infer. ``interp``: random points of it instead. ``full_infer``: a forecast in causal order.
            ``shuffle``: random points of all, on average as many of each. ``half_half``: full_infer or shuffle.
            ``mix``: shuffle, forecast or interp. Of several, each batch draws one.
        val_regime: The same for validation.
        test_regime: The same for test.
        swap_roles: Whether training draws the sequence to infer at random, so that every direction is learned.
        drift: Standard deviation, in standardised units, of a random constant added to each sequence of a training
            task: augmentation for test data at other levels.
        shares: Shares of the tasks for training, validation and test.
        batch_size: Tasks in a batch (on each device).
        steps_per_epoch: Batches per epoch; validation may run at its end.
        seed: Seed of the split and of the batches.
        num_workers: Worker processes of the loaders; 0 = load in the training process.
    """

    tasks: "Observations"

    def __init__(
        self,
        path: Source,
        columns: Roles = DEFAULT_NAMES,
        sequences: tuple[str, ...] | None = None,
        infer: str | None = None,
        unit: Unit = "h",
        from_start: bool = False,
        ordered: bool = False,
        context: int | tuple[int, int] = 16,
        eval_context: int | tuple[int, int] | None = None,
        regime: Regime | tuple[Regime, ...] = "mix",
        val_regime: Regime = "forecast",
        test_regime: Regime = "forecast",
        swap_roles: bool = False,
        drift: float = 0.0,
        shares: tuple[float, float, float] = (0.7, 0.1, 0.2),
        batch_size: int = 32,
        steps_per_epoch: int = 100,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        from datamodules.pairs.long_series import read_long

        names, tasks = read_long(path, columns, sequences, unit)
        super().__init__(
            names,
            infer,
            context,
            eval_context,
            regime,
            val_regime,
            test_regime,
            swap_roles,
            drift,
            batch_size,
            steps_per_epoch,
            seed,
            num_workers,
        )
        borders = split_borders(len(tasks.first), shares, 1, "task")
        order = torch.arange(len(tasks.first))
        if not ordered:
            order = order[torch.randperm(len(order), generator=generator(seed))]
        parts = order.tensor_split(borders[1:3])
        training = torch.isin(tasks.task, parts[0])
        wide = tasks.y[:, None].where(tasks.member[:, None] == torch.arange(len(names)), torch.nan)
        mean, std = standardise(wide, training, names)
        self.mean, self.std = tuple(mean.tolist()), tuple(std.tolist())
        y = (tasks.y - mean[tasks.member]) / std[tasks.member]
        least = 1 + max(options.shown[1] for options in self.options.values())
        self.tasks = tasks._replace(x=_counted(tasks) if from_start else tasks.x, y=y, least=least)
        stages = dict(zip(("train", "val", "test", "predict"), (*parts, parts[2]), strict=True))
        self.numbers = {stage: self.usable(stage, part) for stage, part in stages.items()}
        self.scaling = _scaling(self.tasks.x, torch.isin(tasks.task, self.numbers["train"]))


def _counted(tasks: "Observations") -> Tensor:
    """Places counted from the first point of their task."""
    start = torch.full((len(tasks.first),), torch.inf, dtype=tasks.x.dtype)
    return tasks.x - start.scatter_reduce(0, tasks.task, tasks.x, "amin")[tasks.task]


def _scaling(x: Tensor, training: Tensor) -> Scaling:
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
            f"{float(high):g}: count from the first of each task with from_start=true, or in a larger unit"
        )
    return Scaling(float(low), float(high), 0.0, 1.0)
