"""Memory of a Gaussian process: the training rows of a large table, which every prediction conditions on."""

from typing import Any, Self

import torch
from torch import Tensor

from tabattn.reconstruction.block_cholesky import CholeskyFactor, covariance_factor
from tabattn.reconstruction.covariances import BLOCK, Kernel

KEPT = 16
"""Most sets of rows whose predictions are kept."""


class Memory:
    """Rows that a Gaussian process conditions on, with what predictions from them need.

    Copies of a network share it (``copy.deepcopy`` returns it itself), so that moving averages of weights that were
    begun before it was filled have it too.

    Args:
        width: Number of features.
        outputs: Number of outputs.

    Attributes:
        number: Number of each row in its table, increasing, ``(rows,)`` long.
        inputs: Features, ``(rows, width)`` double.
        weights: Inverse covariance times labels, ``(rows, outputs)`` double.
        mean: Leave-one-out prediction of each row, of that shape.
        variance: Its variance, ``(rows,)`` double.
    """

    def __init__(self, width: int, outputs: int) -> None:
        self.sizes = [1, width, outputs, outputs, 1]
        self._take(torch.zeros(0, sum(self.sizes), dtype=torch.double), None)

    def __len__(self) -> int:
        return len(self.number)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def fill(self, number: Tensor, inputs: Tensor, labels: Tensor, kernel: Kernel, noise: float) -> None:
        """Condition on rows.

        Args:
            number: Number of each row in its table, increasing, ``(rows,)``.
            inputs: Features, ``(rows, width)`` double.
            labels: Labels, ``(rows, outputs)`` double.
            kernel: Covariance without noise.
            noise: Variance of the noise.
        """
        factor = covariance_factor(inputs, kernel, noise)
        weights = factor.cholesky_solve(labels)
        variance = 1 / factor.inverse_diagonal()
        parts = number[:, None].double(), inputs, weights, labels - weights * variance[:, None], variance[:, None]
        factor.single(inputs.device)
        self._take(torch.cat(parts, dim=1), factor)

    def packed(self) -> Tensor:
        """Return all of it as one matrix, from which ``load`` restores it."""
        return self._packed

    def load(self, packed: Tensor) -> None:
        """Restore what ``packed`` returned.

        The Cholesky factor is kept where nothing has changed, as when a network gets the average of its weights: rows,
        and weights and variances, which are functions of the hyperparameters.

        Raises:
            ValueError: It has another number of columns.
        """
        if packed.dim() != 2 or packed.shape[1] != sum(self.sizes):
            raise ValueError(f"a memory must have {sum(self.sizes)} columns, got the shape {tuple(packed.shape)}")
        if not self._holds(packed):
            self._take(packed.detach().double(), None)

    def _holds(self, packed: Tensor) -> bool:
        own = self._packed
        return not (own.is_meta or packed.is_meta) and torch.equal(own, packed.to(own))

    def _take(self, packed: Tensor, factor: CholeskyFactor | None) -> None:
        self._packed, self._factor = packed, factor
        self._kept: tuple[tuple[Tensor, tuple[Tensor, Tensor]], ...] = ()
        number, self.inputs, self.weights, self.mean, variance = self._packed.split(self.sizes, dim=1)
        self.number, self.variance = number[:, 0].long(), variance[:, 0]

    def to(self, device: torch.device) -> None:
        """Move it to a device, for good."""
        if self._packed.device != device:
            if self._factor is not None:
                self._factor.single(device)
            self._take(self._packed.to(device), self._factor)

    def places(self, row: Tensor) -> Tensor:
        """Find rows by their number: places in the memory, ``(rows,)`` long; -1 = it does not hold the row."""
        place = torch.searchsorted(self.number, row).clamp(max=len(self) - 1)
        return torch.where(self.number[place] == row, place, -1)

    def predict(self, inputs: Tensor, kernel: Kernel, noise: float, keep: bool = False) -> tuple[Tensor, Tensor]:
        """Predict rows that it does not hold.

        Args:
            inputs: Features, ``(rows, width)`` double.
            kernel: Covariance without noise.
            noise: Variance of the noise.
            keep: Whether to keep the predictions for when the same rows are asked for again, as in each validation of
                a training, and behind each context of a prediction.

        Returns:
            Means, ``(rows, outputs)``, and by how much the rows held reduce the prior variance, ``(rows,)``.
        """
        for rows, found in self._kept:
            if torch.equal(rows, inputs):
                return found
        found = self._predicted(inputs, kernel, noise)
        if keep:
            self._kept = (*self._kept[1 - KEPT :], (inputs, found))
        return found

    def _predicted(self, inputs: Tensor, kernel: Kernel, noise: float) -> tuple[Tensor, Tensor]:
        if self._factor is None:
            self._factor = covariance_factor(self.inputs, kernel, noise)
            self._factor.single(self.inputs.device)
        means, known = [], []
        for block in inputs.split(BLOCK):
            cross = kernel(block, self.inputs)
            means.append(cross @ self.weights)
            known.append(self._factor.solve(cross.T.float()).square().sum(0).double())
        empty = inputs.new_zeros(0, self.weights.shape[1])
        return torch.cat([empty, *means]), torch.cat([empty[:, 0], *known])
