"""Parts of what there is to train, validate and test on, and the units that the first of them sets."""

import math
from itertools import pairwise

from torch import Tensor

PARTS = ("train", "val", "test")


def standardise(y: Tensor, train: slice | Tensor, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the known values of each column in its training part.

    Args:
        y: Values, ``(rows, columns)``; NaN = not observed.
        train: The rows for training.
        names: Names of the columns.

    Raises:
        ValueError: A column has no value there, or always the same.
    """
    part = y[train]
    mean = part.nanmean(0)
    std = (part - mean).square().nanmean(0).sqrt()
    for name, spread in zip(names, std.tolist(), strict=True):
        if not spread > 0:
            found = "no value" if spread != spread else "always the same value"
            raise ValueError(f"column {name!r} has {found} in the training part: it must vary to be standardised")
    return mean, std


def split_borders(total: int, shares: tuple[float, float, float], least: int, unit: str) -> tuple[int, int, int, int]:
    """Where the parts to train, validate and test on start and end.

    Args:
        total: What there is to split.
        shares: Of the parts.
        least: What each part must have.
        unit: What is split, in words.

    Raises:
        ValueError: The shares are no shares of a whole, or a part is too small.
    """
    if min(shares) <= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(f"shares must be greater than 0 and sum to 1, got {list(shares)}")
    borders = 0, round(shares[0] * total), round((shares[0] + shares[1]) * total), total
    sizes = [end - first for first, end in pairwise(borders)]
    if min(sizes) < least:
        parts = ", ".join(f"{name} {size}" for name, size in zip(PARTS, sizes, strict=True))
        raise ValueError(f"each part must hold {least} {unit}, got {parts}")
    return borders
