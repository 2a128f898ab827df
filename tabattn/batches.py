"""What a datamodule promises a task: batches as NamedTuples, built once and never re-parsed."""

from typing import NamedTuple

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
