"""Dropout with fast random numbers on a CPU."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

LEVELS = 2**16
"""Number of values of a random integer that decides whether an element is kept."""


class Dropout(nn.Dropout):
    """Dropout as ``torch.nn.Dropout``; on a CPU by faster random numbers, and with ``p`` to 16 bits.

    Args:
        p: Probability of dropping an element while training.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements while training."""
        return dropped(x, self.p) if self.training and self.p and x.device.type == "cpu" else super().forward(x)


def dropped(x: Tensor, probability: float) -> Tensor:
    """Drop elements, and divide the others by the probability of keeping one."""
    mask, kept = keep(x.shape, probability, x.device)
    return x * mask / kept


def keep(shape: Sequence[int], probability: float, device: torch.device) -> tuple[Tensor, float]:
    """Draw a mask of elements to keep.

    torch draws one number at a time on a CPU. Here one of 64 bits decides four elements.

    Args:
        shape: Shape of the mask.
        probability: Probability of dropping an element, in [0, 1).
        device: Device of the mask.

    Returns:
        The mask, of bytes 0 and 1, by which torch multiplies faster than by truth values; and the probability of
        keeping an element, nearly 1 - ``probability``.
    """
    count = math.prod(shape)
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=device).random_(-(2**63), None)
    drop = min(round(probability * LEVELS), LEVELS - 1)
    kept = words.view(torch.int16)[:count].view(tuple(shape)) >= drop - LEVELS // 2
    return kept.view(torch.uint8), 1 - drop / LEVELS
