"""Batch types: the NamedTuples that datamodules yield and tasks read."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

UNSCORED = -100
"""Label of a token that is not scored, as PyTorch's cross-entropy ignores it."""


class TableBatch(NamedTuple):
    """Batch of in-context classification tables of one size, context rows before target rows.

    Attributes:
        x: Cells, ``(batch, rows, features)`` float; NaN = missing.
        y: Class index of each row, ``(batch, rows)`` long; -1 = a target row that is not scored, such as padding. A
            target's class must occur among the context rows.
        context: Number of leading rows that are context (their labels are given to the network).
        columns: Number of columns of each table, ``(batch,)`` long; those after them are padding. None = there is no
            padding.
        table: Index of the table that each task was cut from, ``(batch,)`` long, into the datamodule's ``tables`` where
            it has these. None in training.
    """

    x: Tensor
    y: Tensor
    context: int
    columns: Tensor | None = None
    table: Tensor | None = None

    def unscored(self) -> Self:
        """Return the batch with the labels of all targets unknown (-1), so that none is scored."""
        y = self.y.clone()
        y[:, self.context :] = -1
        return self._replace(y=y)


class RegressionBatch(NamedTuple):
    """Batch of in-context regression tables of one size, context rows before target rows.

    Attributes:
        x: Cells, ``(batch, rows, features)`` float; NaN = missing.
        y: Number of each row, ``(batch, rows)`` float, in any unit; NaN = a target row that is not scored.
        context: Number of leading rows that are context (their numbers are given to the network).
        columns: Number of columns of each table, ``(batch,)`` long; those after them are padding. None = there is no
            padding.
        table: Index of the table that each task was cut from, ``(batch,)`` long, into the datamodule's ``tables``. None
            in training.
    """

    x: Tensor
    y: Tensor
    context: int
    columns: Tensor | None = None
    table: Tensor | None = None

    def unscored(self) -> Self:
        """Return the batch with the numbers of all targets unknown (NaN), so that none is scored."""
        y = self.y.clone()
        y[:, self.context :] = float("nan")
        return self._replace(y=y)


class Oracle(NamedTuple):
    """Oracle predictions for the targets of a batch: those of the process that made the data.

    Attributes:
        mean: Mean of each target given the context, ``(batch, targets)``.
        log_density: Log-density of each target given the context alone, ``(batch, targets)``, nats.
        joint: Log-density of all targets of a task together, ``(batch,)``, nats.
    """

    mean: Tensor
    log_density: Tensor
    joint: Tensor


class PairBatch(NamedTuple):
    """Batch of inference tasks between sequences, of one size: observations, context before targets.

    Attributes:
        x: Location of each observation on the axis that the members share, ``(batch, points)`` float.
        y: Value of each observation, ``(batch, points)`` float; NaN = missing in the context (such as padding), or a
            target that is predicted but not scored.
        member: Index of the sequence of each observation, ``(batch, points)`` long.
        context: Number of leading points that are context (their values are given to the network).
        oracle: Oracle predictions for the targets; None where there is no oracle, and in training.
        padding: Padding mask, ``(batch, points)`` boolean; True = a filler point, neither shown nor predicted nor
            scored. None = no padding.
        task: Number of each task in the data, ``(batch,)`` long, such as the first row of its window; None = synthetic.
        process: Parameters of the process that made each task, ``(batch, any)``, which its datamodule reads
            (``exact``), and no network; None = unknown.
    """

    x: Tensor
    y: Tensor
    member: Tensor
    context: int
    oracle: Oracle | None = None
    padding: Tensor | None = None
    task: Tensor | None = None
    process: Tensor | None = None

    def first(self, count: int) -> Self:
        """Return the first ``count`` tasks of the batch, without their oracle."""
        x, y, member = (part[:count] for part in self[:3])
        rest = (None if part is None else part[:count] for part in (self.padding, self.task, self.process))
        padding, task, process = rest
        return self._replace(x=x, y=y, member=member, oracle=None, padding=padding, task=task, process=process)

    def unscored(self) -> Self:
        """Return the batch with the values of all targets unknown (NaN), so that none is scored."""
        y = self.y.clone()
        y[:, self.context :] = float("nan")
        return self._replace(y=y)


class Scaling(NamedTuple):
    """Scaling of pairs: the range of locations, and the mean and standard deviation of values.

    A network works on ``x`` mapped from ``[x_low, x_high]`` to [-2, 2] and on ``(y - y_mean) / y_std``; its predictions
    are in the data's own units.
    """

    x_low: float = -2.0
    x_high: float = 2.0
    y_mean: float = 0.0
    y_std: float = 1.0


class TokenBatch(NamedTuple):
    """Batch of token sequences of a text, some of whose tokens are hidden, padded to one length.

    Attributes:
        ids: Tokens as the network sees them, ``(batch, tokens)`` long: hidden ones are replaced.
        labels: True token at each hidden place, ``(batch, tokens)`` long; -100 = not scored.
        mask: Padding mask, ``(batch, tokens)`` boolean; True = a token, False = padding.
        characters: Characters of the text that each true token stands for, ``(batch, tokens)`` long.
        number: Number of each sequence in its part of the data, ``(batch,)`` long.
    """

    ids: Tensor
    labels: Tensor
    mask: Tensor
    characters: Tensor
    number: Tensor

    def unscored(self) -> Self:
        """Return the batch with all labels unknown (-100), so that no token is scored."""
        return self._replace(labels=torch.full_like(self.labels, UNSCORED))
