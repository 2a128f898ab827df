"""What a datamodule promises a task: batches as NamedTuples, built once and never re-parsed."""

from typing import NamedTuple, Self

from torch import Tensor


class TableBatch(NamedTuple):
    """Tables of one size, each with its context rows first and its target rows behind them.

    Attributes:
        x: Cells, ``(batch, rows, features)`` float; NaN = missing.
        y: Class index of every row, ``(batch, rows)`` long; -1 = a target row that is never scored, such as padding. A
            target's class must occur among the context rows.
        context: How many leading rows are context (labels known to the model).
        columns: Real columns of each table, ``(batch,)`` long; the rest is padding. None = all.
        table: Index of the table each task was cut from, ``(batch,)`` long, into the datamodule's ``tables`` names
            where it has them. None in training.
    """

    x: Tensor
    y: Tensor
    context: int
    columns: Tensor | None = None
    table: Tensor | None = None

    def unscored(self) -> Self:
        """The same batch without a target to score."""
        y = self.y.clone()
        y[:, self.context :] = -1
        return self._replace(y=y)


class Oracle(NamedTuple):
    """What the process that made a batch predicts for its targets: nothing that sees the same context can do better.

    Attributes:
        mean: Mean of each target given the context, ``(batch, targets)``.
        log_density: Log-density of each target given the context alone, ``(batch, targets)``, nats.
        joint: Log-density of all targets of a task together, ``(batch,)``, nats.
    """

    mean: Tensor
    log_density: Tensor
    joint: Tensor


class PairBatch(NamedTuple):
    """Tasks of one size: observations of several sequences in one list, context first and targets behind.

    Attributes:
        x: Place of each observation on the axis all members share, ``(batch, points)`` float.
        y: Its value, ``(batch, points)`` float; NaN = unknown: a context point that is not there, such as padding, or
            a target that is predicted and never scored.
        member: The sequence it belongs to, ``(batch, points)`` long.
        context: How many leading points are context (values known to the model).
        oracle: What can be known at best; None where nobody knows, and in training.
        padding: Points that only fill a task up to the size of the others, ``(batch, points)``; True = neither shown
            nor scored nor inferred. None = there are none.
        task: Which task of the data each is, ``(batch,)`` long, such as the first row of a window; None = drawn anew.
    """

    x: Tensor
    y: Tensor
    member: Tensor
    context: int
    oracle: Oracle | None = None
    padding: Tensor | None = None
    task: Tensor | None = None

    def first(self, count: int) -> Self:
        """The first tasks of the batch, without an oracle."""
        x, y, member = (part[:count] for part in self[:3])
        padding, task = (None if part is None else part[:count] for part in (self.padding, self.task))
        return self._replace(x=x, y=y, member=member, oracle=None, padding=padding, task=task)

    def unscored(self) -> Self:
        """The same batch without a target to score."""
        y = self.y.clone()
        y[:, self.context :] = float("nan")
        return self._replace(y=y)


class Scaling(NamedTuple):
    """What is known of the data before training: the ends of the axis, and mean and spread of the values.

    A network works on ``x`` mapped to [-2, 2] and on ``(y - y_mean) / y_std``, and answers in the data's own units.
    """

    x_low: float = -2.0
    x_high: float = 2.0
    y_mean: float = 0.0
    y_std: float = 1.0
