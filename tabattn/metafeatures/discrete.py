"""Meta-features of information theory: entropies and concentrations of binned columns."""

import numpy as np
from numpy.typing import NDArray

from tabattn.metafeatures.summaries import Floats, Values

Ints = NDArray[np.int64]

OCCUPIED = 1e-8
"""Added to the joint share of each pair of values, as pymfe does."""
APART = 1e-8
"""Edges of bins nearer than this to the one before are dropped."""
MOST_COLUMNS = 12
"""Columns whose pairs are compared; of a wider table, as many drawn at random."""


def binned(columns: Floats) -> Ints:
    """Cut columns into ``floor(n ** (1/3))`` bins of equal frequency.

    Args:
        columns: Finite numbers, ``(rows, columns)``.

    Returns:
        Number of each cell's bin, counted from 0 in each column, of that shape.
    """
    count = max(int(len(columns) ** (1 / 3)), 1)
    edges = np.quantile(columns, np.linspace(0, 1, count + 1)[1:], axis=0)
    bins = np.empty(columns.shape, np.int64)
    for place in range(columns.shape[1]):
        own = edges[:, place]
        own = np.unique(own[np.append(True, np.diff(own) > APART)])
        bins[:, place] = numbered(np.searchsorted(own, columns[:, place], side="left"))
    return bins


def numbered(values: NDArray[np.generic]) -> Ints:
    """Number values from 0 in rising order, ``(rows,)``."""
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def information(bins: Ints, classes: Ints, seed: int) -> dict[str, Values]:
    """Entropies in bits, mutual information with the class, and concentration coefficients.

    Args:
        bins: Numbers of bins, ``(rows, columns)``.
        classes: Numbers of classes, ``(rows,)``.
        seed: Seed of the choice of columns where there are more than ``MOST_COLUMNS``.
    """
    with_class = [_joint(column, classes) for column in bins.T]
    entropies = np.array([_entropy(joint.sum(1)) for joint in with_class])
    of_class = _entropy(np.bincount(classes) / len(classes))
    joints = np.array([_entropy(joint + OCCUPIED) for joint in with_class])
    mutual = entropies + of_class - joints
    # Without classes or values to tell apart there is nothing mutual: what is left would be that of OCCUPIED.
    total = mutual.sum() if of_class > 0 and entropies.any() else float("nan")
    chosen = np.arange(bins.shape[1])
    if len(chosen) > MOST_COLUMNS:
        # The generator of pymfe, so that the same seed chooses the same columns.
        chosen = np.random.RandomState(seed).choice(chosen, MOST_COLUMNS, replace=False)
    pairs = [_joint(bins[:, one], bins[:, other]) for place, one in enumerate(chosen) for other in chosen[:place]]
    return {
        "attr_conc": np.array([_concentration(joint) for pair in pairs for joint in (pair, pair.T)]),
        "attr_ent": entropies,
        "class_conc": np.array([_concentration(joint) for joint in with_class]),
        "class_ent": of_class,
        "eq_num_attr": float(bins.shape[1] * of_class / total),
        "mut_inf": mutual,
        "ns_ratio": float((entropies.sum() - total) / total),
    }


def _joint(one: Ints, other: Ints) -> Floats:
    """Share of rows with each pair of values."""
    width = int(other.max()) + 1
    counts = np.bincount(one * width + other, minlength=(int(one.max()) + 1) * width)
    return counts.reshape(-1, width) / len(one)


def _entropy(shares: Floats) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def _concentration(joint: Floats) -> float:
    """Goodman and Kruskal's tau of the row's value given the column's; NaN where the row has one value."""
    if len(joint) < 2:
        return float("nan")
    joint = joint + OCCUPIED
    guess = (joint.sum(1) ** 2).sum()
    return float(((joint**2 / joint.sum(0)).sum() - guess) / (1 - guess))
