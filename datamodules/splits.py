"""Splits into training, validation and test parts, and standardisation by the training part."""

import warnings
from itertools import pairwise

import torch
from torch import Tensor

from tabattn.contract.errors import TableWarning

MANY, MOST = 20, 0.99
"""Least number of values for the check for an outlier with nearly all of the variance."""

PARTS = ("train", "val", "test")


def standardise(y: Tensor, train: slice | Tensor, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the observed values of each column in the training part.

    Args:
        y: Values, ``(rows, columns)``; NaN = not observed.
        train: Rows of the training part.
        names: Names of the columns.

    Raises:
        ValueError: A column has no value there, or a constant one; or an outlier so large that all others are equal in
            single precision.
    """
    part = y[train]
    mean = part.nanmean(0)
    std = (part - mean).square().nanmean(0).sqrt()
    for name, spread in zip(names, std.tolist(), strict=True):
        if not spread > 0:
            found = "no value" if spread != spread else "always the same value"
            raise ValueError(f"column {name!r} has {found} in the training part: it must vary to be standardised")
    for name, values, known, centre, spread in zip(names, y.T, part.T, mean, std, strict=True):
        finite = known[known.isfinite()]
        _check_outliers(name, finite, (finite - centre) / spread)
        if bool(((values - centre) / spread).abs().nan_to_num(0).max() > torch.finfo(torch.float32).max):
            raise ValueError(f"column {name!r} has a value of {float(values.nan_to_num(0).abs().max()):g}: too large")
    return mean, std


def _check_outliers(name: str, values: Tensor, scaled: Tensor) -> None:
    """Refuse an outlier that makes other values equal in single precision; warn of one with most of the variance."""
    worst = float(values[(values / 2 - values.median() / 2).abs().argmax()])
    different = len(values.unique())
    if different > 2 and len(scaled.float().unique()) <= different / 2:
        raise ValueError(
            f"column {name!r} has a value of {worst:g} in the training part, beside which single precision does not "
            "tell the others apart: correct it, or leave the cell empty"
        )
    if len(values) >= MANY and float(scaled.square().max()) > MOST * (len(values) - 1) and different > 2:
        warnings.warn(
            f"column {name!r} has a value of {worst:g} in the training part that makes {MOST:.0%} of its variance: is "
            "it right?",
            TableWarning,
            stacklevel=3,
        )


def split_borders(total: int, shares: tuple[float, float, float], least: int, unit: str) -> tuple[int, int, int, int]:
    """Start and end of the parts to train, validate and test on.

    Args:
        total: Number of things to split.
        shares: Share of each part; they sum to 1.
        least: Least size of a part.
        unit: Name of the things, for messages.

    Raises:
        ValueError: A part is too small.
    """
    borders = 0, round(shares[0] * total), round((shares[0] + shares[1]) * total), total
    sizes = [end - first for first, end in pairwise(borders)]
    if min(sizes) < least:
        parts = ", ".join(f"{name} {size}" for name, size in zip(PARTS, sizes, strict=True))
        raise ValueError(f"each part must hold {least} {unit}, got {parts}")
    return borders
