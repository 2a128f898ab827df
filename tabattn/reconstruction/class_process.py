"""ClassProcess: least-squares classification by a Gaussian process, calibrated by Platt scaling."""

from collections.abc import Sequence
from math import log
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tabattn.contract.cells import Column
from tabattn.reconstruction.process import GaussianProcess

STEEPNESS = 4.0
"""Typical factor of predictions in the logits."""
ITERATIONS = 50
"""Most iterations of L-BFGS in the fit of the calibration."""


class Classified(NamedTuple):
    """Predictions of a categorical target by a Gaussian process.

    Attributes:
        logits: Logits of the categories, ``(tables, rows, categories)``.
        residual: One-hot label minus probabilities in rows whose label is seen, else 0, of that shape.
    """

    logits: Tensor
    residual: Tensor


class ClassProcess(GaussianProcess):
    """Least-squares classification (Rasmussen and Williams 2006, section 6.5): regression on one-hot labels.

    All categories share the kernel, which is isotropic, and takes the features and their normal scores: length scales
    of each column overfit labels of so little information. Logits are linear in the predictions (Platt scaling): their
    common factor and a bias of each category are fitted to the leave-one-out predictions.

    Args:
        columns: The columns.
        target: Place of the categorical target column.
        most_rows: Most rows of a batch that it conditions on.
        memory_rows: Most rows that it keeps of a larger table.
    """

    shares: Tensor
    steepness: Tensor
    biases: Tensor

    def __init__(
        self, columns: Sequence[Column], target: int, most_rows: int = 1000, memory_rows: int = 10_000
    ) -> None:
        super().__init__(columns, target, most_rows, memory_rows, scores=True, tied=True)
        count = len(columns[target].categories)
        self.register_buffer("shares", torch.full((count,), 1 / count))
        self.register_buffer("steepness", torch.tensor(log(STEEPNESS)))
        self.register_buffer("biases", torch.zeros(count))

    def fit(self, truth: Tensor, row: Tensor | None = None) -> None:
        """Set the shares of the categories, the hyperparameters, and the calibration.

        Args:
            truth: True cells of rows to learn from, ``(rows, columns)``; NaN = missing.
            row: Number of each row in the table, ``(rows,)``; None = unknown, so that none are kept.
        """
        seen = ~truth[:, self.target].isnan()
        truth, row = truth[seen], None if row is None else row[seen]
        if len(truth) < 2:
            return
        counts = torch.bincount(truth[:, self.target].long(), minlength=len(self.shares)) + 1
        self.shares.copy_(counts / counts.sum())
        self.biases.copy_(self.shares.log())
        super().fit(truth, row)
        at, mean = self.left_out(truth, row)
        self._calibrate(mean, truth[at, self.target].long())

    def _calibrate(self, mean: Tensor, labels: Tensor) -> None:
        """Maximise the likelihood of labels under leave-one-out predictions, with weak priors."""
        first = self.steepness.double(), self.biases.double()
        found = [each.clone().requires_grad_() for each in first]
        optimizer = torch.optim.LBFGS(found, max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        def objective() -> Tensor:
            optimizer.zero_grad()
            entropy = F.cross_entropy(mean * found[0].exp() + found[1], labels, reduction="sum")
            penalty = sum((new - old).square().sum() for new, old in zip(found, first, strict=True))
            loss = (entropy + 0.5 * penalty) / len(labels)
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(objective)
        for own, value in zip((self.steepness, self.biases), found, strict=True):
            if value.isfinite().all():
                own.copy_(value.detach())

    def classify(self, x: Tensor, hidden: Tensor, context: int, row: Tensor | None = None) -> Classified:
        """Predict the categories of all rows from the seen labels of context rows, as ``forward`` takes them."""
        means = self.infer(x, hidden, context, row).mean
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            logits = means.float() * self.steepness.exp() + self.biases
            known = F.one_hot(x[..., self.target].long(), len(self.shares)) - logits.softmax(-1)
            seen = ~hidden[..., self.target]
            seen[:, context:] = False
        return Classified(logits, known * seen[..., None])

    def _labels(self, x: Tensor) -> Tensor:
        return F.one_hot(x[:, self.target].long(), len(self.shares)).double() - self.shares.double()
