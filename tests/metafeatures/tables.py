"""Tables on which meta-features are compared with those of pymfe."""

import numpy as np
from sklearn.datasets import load_iris, load_wine

Table = tuple[np.ndarray, np.ndarray]

CLASSES = 6
"""Classes of the numeric target, ``floor(300 ** (1/3))``."""


def classification() -> dict[str, Table]:
    """Tables with classes: ordinary ones, more than 12 columns, ties, and two classes of unequal size."""
    source = np.random.default_rng(0)
    mixed = source.normal(size=(60, 3))
    mixed[:, 1] = np.round(mixed[:, 1], 1)
    two = (mixed[:, 0] + source.normal(size=60) > 0.5).astype(int)
    tied = source.integers(0, 4, (200, 5)).astype(float)
    four = source.choice(4, 200, p=[0.5, 0.1, 0.3, 0.1]) * 3 - 2
    return {
        "iris": load_iris(return_X_y=True),
        "wine": load_wine(return_X_y=True),
        "mixed": (mixed, two),
        "tied": (tied + (source.random((200, 5)) < 0.2) * 0.5, four),
    }


def regression() -> Table:
    """Table with a numeric target."""
    source = np.random.default_rng(1)
    columns = source.normal(size=(300, 4)) * [1, 10, 0.1, 3]
    return columns, columns[:, 0] + np.sin(columns[:, 3]) + 0.1 * source.normal(size=300)


def cut(target: np.ndarray) -> np.ndarray:
    """Classes of equal frequency of a numeric target, by rank."""
    return np.argsort(np.argsort(target)) * CLASSES // len(target)
