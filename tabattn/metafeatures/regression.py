"""Meta-features of a table with a numeric target: its shape, and how well simple models predict it."""

import numpy as np

from tabattn.metafeatures.statistical import moments
from tabattn.metafeatures.summaries import Floats, Values

NEIGHBOURS = 5
MOST_ROWS = 2000
"""Rows among which neighbours are sought; of a longer table, as many drawn at random."""
RIDGE = 1.0
SPLIT = 0.01
"""Share of the target's variance that a split of the regression tree removes at least."""

NAMES = ("knn_r2", "noise", "ridge_r2", "tree_reg_depth", "tree_reg_leaves", "y_cor", "y_kurtosis", "y_skewness")


def regression(columns: Floats, target: Floats, seed: int) -> dict[str, Values]:
    """Moments of the target, correlations with it, and errors of ridge regression, neighbours and a tree.

    ``ridge_r2`` and ``knn_r2`` are leave-one-out. ``noise`` is the delta test: half the mean squared difference between
    the targets of nearest neighbours, over the target's variance. The tree splits while a split removes a hundredth of
    the variance.

    Args:
        columns: Finite numbers, ``(rows, columns)``.
        target: Finite numbers, ``(rows,)``.
        seed: Seed of the choice of rows where there are more than ``MOST_ROWS``.
    """
    x, y = _standard(columns), _standard(target[:, None])
    if not x.shape[1] or not y.shape[1]:
        return dict.fromkeys(NAMES, float("nan")) | {"y_cor": np.zeros(0)}
    y = y[:, 0]
    from sklearn.tree import DecisionTreeRegressor

    found = DecisionTreeRegressor(min_impurity_decrease=SPLIT, random_state=seed).fit(x, y)
    skewness, kurtosis = moments(target[:, None])
    return {
        **_neighbours(x, y, seed),
        "ridge_r2": _ridge(x, y),
        "tree_reg_depth": float(found.get_depth()),
        "tree_reg_leaves": float(found.get_n_leaves()),
        "y_cor": np.abs(x.T @ y) / len(y),
        "y_kurtosis": float(kurtosis[0]),
        "y_skewness": float(skewness[0]),
    }


def _standard(columns: Floats) -> Floats:
    """Columns with mean 0 and standard deviation 1, without those that are constant to the precision of numbers."""
    scaled = columns / np.abs(columns).max(0)  # Squares of large numbers would be infinite.
    std = scaled.std(0)
    varying = std > 0
    return ((scaled - scaled.mean(0)) / std)[:, varying]


def _ridge(x: Floats, y: Floats) -> float:
    """Leave-one-out R2 of ridge regression on standardised columns, from the diagonal of the hat matrix."""
    u, scale, _ = np.linalg.svd(x, full_matrices=False)
    shrunk = scale**2 / (scale**2 + RIDGE)
    leverage = (u**2 @ shrunk + 1 / len(y)).clip(max=1 - 1e-9)
    residual = (y - u @ (shrunk * (u.T @ y))) / (1 - leverage)
    return float(1 - (residual**2).mean())


def _neighbours(x: Floats, y: Floats, seed: int) -> dict[str, Values]:
    if len(y) > MOST_ROWS:
        chosen = np.random.default_rng(seed).choice(len(y), MOST_ROWS, replace=False)
        x, y = x[chosen], y[chosen]
    count = min(NEIGHBOURS, len(y) - 1)
    from scipy.spatial import KDTree

    _, near = KDTree(x).query(x, k=count + 1)
    # The first neighbour is the row itself, or its duplicate.
    itself = near == np.arange(len(y))[:, None]
    itself[~itself.any(1), -1] = True
    others = near[~itself].reshape(len(y), count)
    variance = y.var()
    if variance == 0:
        return {"knn_r2": float("nan"), "noise": float("nan")}
    error = ((y - y[others].mean(1)) ** 2).mean()
    return {"knn_r2": float(1 - error / variance), "noise": float(((y - y[others[:, 0]]) ** 2).mean() / 2 / variance)}
