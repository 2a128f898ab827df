"""Meta-features of columns: moments, correlations, and how classes overlap."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tabattn.metafeatures.summaries import Floats, Values

Ints = NDArray[np.int64]


def moments(columns: Floats) -> tuple[Floats, Floats]:
    """Skewness and excess kurtosis of columns, of type 3: ``m3 / s^3`` and ``m4 / s^4 - 3``.

    ``m`` are central moments, ``s`` divides by ``rows - 1``. NaN where a column is constant.

    Args:
        columns: Finite numbers, ``(rows, columns)``.
    """
    centred = columns - columns.mean(0)
    constant = columns.min(0) == columns.max(0)
    scale = np.where(constant, np.nan, centred.std(0, ddof=1) if len(columns) > 1 else np.nan)
    scaled = centred / scale
    return (scaled**3).mean(0), (scaled**4).mean(0) - 3


def statistical(columns: Floats, classes: Ints) -> dict[str, Values]:
    """Moments, absolute correlations and covariances of pairs, repetition, and distance of classes.

    Args:
        columns: Finite numbers, ``(rows, columns)``.
        classes: Numbers of classes, ``(rows,)``.
    """
    rows, width = columns.shape
    lower = np.tril_indices(width, -1)
    covariance = np.atleast_2d(np.cov(columns, rowvar=False))
    variance = np.where(columns.min(0) == columns.max(0), np.nan, covariance.diagonal())
    scale = np.sqrt(variance)
    distinct = 1 + (np.diff(np.sort(columns, axis=0), axis=0) != 0).sum(0)
    skewness, kurtosis = moments(columns)
    return {
        "cor": np.abs(covariance[lower]) / (scale[lower[0]] * scale[lower[1]]),
        "cov": np.abs(covariance[lower]),
        "gravity": _gravity(columns, classes),
        "kurtosis": kurtosis,
        "skewness": skewness,
        "sparsity": (rows / distinct - 1) / (rows - 1),
    }


def overlap(columns: Floats, classes: Ints) -> dict[str, Values]:
    """Complexity of classification: how far the classes of a column overlap.

    ``f1``: of each column, ``1 / (1 + between-class / within-class sum of squares)``. ``f2``: of each pair of classes,
    the volume of the box in which both occur, over that of the box around both; columns that are constant in both
    classes are left out.

    Args:
        columns: Finite numbers, ``(rows, columns)``.
        classes: Numbers of classes, ``(rows,)``.
    """
    groups = _groups(columns, classes)
    centres = np.stack([group.mean(0) for group in groups])
    sizes = np.array([len(group) for group in groups])
    between = (sizes[:, None] * (centres - columns.mean(0)) ** 2).sum(0)
    within = sum(((group - centre) ** 2).sum(0) for group, centre in zip(groups, centres, strict=True))
    lowest, highest = (np.stack([edge(group, axis=0) for group in groups]) for edge in (np.min, np.max))
    volumes = []
    for number in range(len(groups) - 1):
        low, high, lows, highs = lowest[number], highest[number], lowest[number + 1 :], highest[number + 1 :]
        shared = np.maximum(0, np.minimum(high, highs) - np.maximum(low, lows))
        volumes.append(np.nanprod(shared / (np.maximum(high, highs) - np.minimum(low, lows)), axis=1))
    return {"f1": 1 / (1 + between / within), "f2": np.concatenate(volumes) if volumes else np.zeros(0)}


def _groups(columns: Floats, classes: Ints) -> list[Floats]:
    """Rows of each class."""
    ordered = columns[np.argsort(classes, kind="stable")]
    ends = np.concatenate([[0], np.cumsum(np.bincount(classes))])
    return [ordered[start:end] for start, end in pairwise(ends)]


def _gravity(columns: Floats, classes: Ints) -> float:
    """Distance between the means of the most and of the least frequent class."""
    counts = np.bincount(classes)
    if len(counts) < 2:
        return float("nan")
    most = int(counts.argmax())
    others = np.delete(np.arange(len(counts)), most)
    least = int(others[counts[others].argmin()])
    return float(np.linalg.norm(columns[classes == most].mean(0) - columns[classes == least].mean(0)))
