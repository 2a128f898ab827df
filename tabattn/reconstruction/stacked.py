"""StackedProcesses: stacking of two Gaussian processes, of which one also sees the columns' normal scores."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tabattn.contract.cells import Column
from tabattn.reconstruction.process import GaussianProcess, Inferred


class StackedProcesses(nn.Module):
    """Stacking of two Gaussian processes of a target column: of its features, and of these and their normal scores.

    The target of one table is smooth in its features, that of another in their ranks, as with skewed columns. The
    prediction is the average with the weight that has the least squared error of leave-one-out predictions (stacked
    regression, Breiman 1996).

    Args:
        columns: The columns.
        target: Place of the target column.
        most_rows: Most rows of a batch that each process conditions on.
        memory_rows: Most rows that each keeps of a larger table.
    """

    weight: Tensor

    def __init__(
        self, columns: Sequence[Column], target: int, most_rows: int = 1000, memory_rows: int = 10_000
    ) -> None:
        super().__init__()
        self.target = target
        self.plain = GaussianProcess(columns, target, most_rows, memory_rows)
        self.scored = GaussianProcess(columns, target, most_rows, memory_rows, scores=True)
        self.register_buffer("weight", torch.tensor(0.5))

    def fit(self, truth: Tensor, row: Tensor | None = None) -> None:
        """Set the hyperparameters of both, and the weight of the second.

        Args:
            truth: True cells of rows to learn from, ``(rows, columns)``; NaN = missing.
            row: Number of each row in the table, ``(rows,)``; None = unknown, so that none are kept.
        """
        seen = ~truth[:, self.target].isnan()
        truth, row = truth[seen], None if row is None else row[seen]
        self.plain.fit(truth, row)
        self.scored.fit(truth, row)
        at, plain = self.plain.left_out(truth, row)
        scored = self.scored.left_out(truth, row)[1]
        errors = truth[at, self.target] - plain[:, 0].float()
        apart = (scored - plain)[:, 0].float()
        if apart.any():
            self.weight.copy_((errors @ apart / (apart @ apart)).clamp(0, 1))

    def forward(self, x: Tensor, hidden: Tensor, context: int, row: Tensor | None = None) -> Inferred:
        """Predict the target of all rows from the seen targets of context rows, as ``GaussianProcess.forward`` does.

        The standard deviation is that of the mixture of both predictions.
        """
        plain, scored = (each(x, hidden, context, row) for each in (self.plain, self.scored))
        mean = plain.mean.lerp(scored.mean, self.weight)
        squares = plain.std.square().lerp(scored.std.square(), self.weight)
        apart = self.weight * (1 - self.weight) * (plain.mean - scored.mean).square()
        return Inferred(mean, (squares + apart).sqrt(), plain.residual.lerp(scored.residual, self.weight))
