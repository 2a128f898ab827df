"""Reconstruction losses of hidden cells."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tabattn.reconstruction.cell_network import Kinds, Reconstruction


def cell_losses(found: Reconstruction, truth: Tensor, kinds: Kinds, density: float) -> Tensor:
    """Loss of every cell: squared error of a standardised number, cross-entropy of a category in nats.

    Args:
        found: Predictions.
        truth: True cells, ``(tables, rows, columns)``; NaN = missing, whose loss is 0.
        kinds: Places of numeric and categorical columns.
        density: Weight of the negative log-likelihood of numbers, which is added to their squared error.

    Returns:
        ``(tables, rows, columns)``.
    """
    losses = torch.zeros(truth.shape, dtype=found.mean.dtype, device=truth.device)
    known = ~truth.isnan()
    truth = truth.nan_to_num(0.0).to(found.mean.dtype)
    if kinds.numeric:
        numbers = truth[:, :, kinds.numeric]
        error = (found.mean - numbers).square()
        if density:
            error = error - density * found.density.log_prob(numbers)
        losses[:, :, kinds.numeric] = error
    if kinds.categorical:
        classes = truth[:, :, kinds.categorical].long()
        entropy = F.cross_entropy(found.logits.flatten(0, 2), classes.flatten(), reduction="none")
        losses[:, :, kinds.categorical] = entropy.view(classes.shape)
    return torch.where(known, losses, 0.0)


def group_means(losses: Tensor, scored: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean loss of the scored feature cells and of the scored target cells; 0 where there are none.

    Args:
        losses: ``(tables, rows, columns)``.
        scored: Cells in the loss, boolean.
        targets: Which columns are targets, ``(columns,)`` boolean.
    """
    features, labels = scored & ~targets, scored & targets
    return _mean(losses, features), _mean(losses, labels)


def _mean(losses: Tensor, cells: Tensor) -> Tensor:
    return torch.where(cells, losses, 0.0).sum() / cells.sum().clamp(min=1)
