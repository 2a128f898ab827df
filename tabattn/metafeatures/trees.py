"""Meta-features of a decision tree fitted to a table."""

import numpy as np
from numpy.typing import NDArray

from tabattn.metafeatures.summaries import Floats, Values


def tree(columns: Floats, classes: NDArray[np.int64], seed: int) -> dict[str, Values]:
    """Depths of the nodes and of the leaves of an unpruned tree, and its leaves of each class.

    Args:
        columns: Finite numbers, ``(rows, columns)``.
        classes: Numbers of classes, ``(rows,)``.
        seed: Seed of the order in which equal splits are tried.
    """
    from sklearn.tree import DecisionTreeClassifier

    found = DecisionTreeClassifier(random_state=seed).fit(_single(columns), classes).tree_
    leaf = found.children_left < 0
    if leaf[0]:
        nothing = np.zeros(0)
        return {"leaves_branch": nothing, "leaves_per_class": nothing, "nodes_per_attr": 0.0, "tree_depth": nothing}
    depths = node_depths(found.children_left, found.children_right)
    counts = np.bincount(found.value[leaf][:, 0].argmax(1))
    return {
        "leaves_branch": depths[leaf],
        "leaves_per_class": counts[counts > 0] / leaf.sum(),
        "nodes_per_attr": float((~leaf).sum() / columns.shape[1]),
        "tree_depth": depths,
    }


def node_depths(left: NDArray[np.int64], right: NDArray[np.int64]) -> Floats:
    """Depth of each node, the root's 0; parents come before their children."""
    depths = np.zeros(len(left))
    for node in np.flatnonzero(left >= 0):
        depths[[left[node], right[node]]] = depths[node] + 1
    return depths


def _single(columns: Floats) -> NDArray[np.float32]:
    """Columns in single precision, which trees split; numbers beyond its range at its bounds."""
    most = np.finfo(np.float32).max
    return columns.clip(-most, most).astype(np.float32)
