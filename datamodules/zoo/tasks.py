"""Regression tasks, drawn from families of functions."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeRegressor

from datamodules.zoo.profiles import FAMILIES, SHARES, TaskProfile

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bytes = NDArray[np.uint8]

TRAIN, VAL, TEST, ABSENT = range(4)
"""Parts of rows."""

STREAM = 71
IMPORTED = len(FAMILIES)
"""Family of a task that a user has given."""


class Tasks(NamedTuple):
    """Regression tasks, padded to one number of rows and of columns.

    Attributes:
        x: Inputs, ``(tasks, rows, columns)``; NaN = a row or a column that is not there.
        y: Targets, ``(tasks, rows, outputs)``, of mean 0 and standard deviation 1 in the training rows unless a user
            gave them; NaN = not there.
        part: Part of each row, ``(tasks, rows)``; training rows come first.
        columns: Number of columns, ``(tasks,)``.
        family: Number of the family in ``FAMILIES``, or ``IMPORTED``, ``(tasks,)``.
        noise: Standard deviation of the noise, in those of the function, ``(tasks,)``; NaN = not known.
        y_mean: What was subtracted from the targets, ``(tasks,)``.
        y_std: What they were then divided by, ``(tasks,)``.
        classes: Number of classes, one for each output, of which the targets are 1 for the right one, or two classes of
            one output, a logit, whose target is 1 for the second; 0 = the targets are numbers, ``(tasks,)``.
    """

    x: Floats
    y: Floats
    part: Bytes
    columns: NDArray[np.int64]
    family: Bytes
    noise: Floats
    y_mean: Floats
    y_std: Floats
    classes: NDArray[np.int64]


def draw_tasks(profile: TaskProfile, count: int, seed: int) -> Tasks:
    """Draw tasks: task i is a function of (seed, i), and task i is of the i-th family in turn.

    Args:
        profile: Distribution of tasks.
        count: Number of tasks.
        seed: Seed.
    """
    rows, columns = profile.rows[1], profile.columns[1]
    x = np.full((count, rows, columns), np.nan, np.float32)
    y = np.full((count, rows, 1), np.nan, np.float32)
    part = np.full((count, rows), ABSENT, np.uint8)
    widths, noise = np.zeros(count, np.int64), np.zeros(count, np.float32)
    mean, std = np.zeros(count, np.float32), np.zeros(count, np.float32)
    family = np.asarray([FAMILIES.index(profile.families[i % len(profile.families)]) for i in range(count)], np.uint8)
    for task in range(count):
        source = np.random.default_rng([seed, STREAM, task])
        size, width = (int(source.integers(low, high + 1)) for low, high in (profile.rows, profile.columns))
        noise[task] = source.uniform(*profile.noise)
        name = FAMILIES[family[task]]
        width = max(width, LEAST.get(name, 1))
        inputs = _inputs(source, size, width, name, profile.correlated)
        target = _scaled(FUNCTIONS[name](inputs, source)) + noise[task] * source.normal(size=size)
        part[task, :size] = parts(size)
        train = target[part[task, :size] == TRAIN]
        mean[task], std[task], widths[task] = train.mean(), train.std(), width
        x[task, :size, :width] = inputs
        y[task, :size, 0] = (target - train.mean()) / train.std()
    return Tasks(x, y, part, widths, family, noise, mean, std, np.zeros(count, np.int64))


def parts(rows: int) -> Bytes:
    """Parts of the rows of a task, training rows first, then those of validation."""
    train, val = round(SHARES[0] * rows), round((SHARES[0] + SHARES[1]) * rows)
    return np.repeat(np.asarray([TRAIN, VAL, TEST], np.uint8), [train, val - train, rows - val])


def _inputs(source: Generator, rows: int, columns: int, family: str, correlated: float) -> Doubles:
    """Inputs with columns of mean 0 and variance 1: uniform for Friedman's functions, else normal."""
    if family.startswith("friedman"):
        return source.uniform(-(3**0.5), 3**0.5, (rows, columns))
    drawn = source.normal(size=(rows, columns))
    if source.random() >= correlated:
        return drawn
    mixing = np.eye(columns) + source.normal(size=(columns, columns)) / columns**0.5
    return drawn @ (mixing / np.linalg.norm(mixing, axis=0))


def _scaled(values: Doubles) -> Doubles:
    return np.asarray((values - values.mean()) / max(values.std(), 1e-12))


def _linear(x: Doubles, source: Generator) -> Doubles:
    return np.asarray(x @ source.normal(size=x.shape[1]))


def _fourier(x: Doubles, source: Generator) -> Doubles:
    """Random Fourier features: a draw of a smooth Gaussian process (Rahimi and Recht 2007)."""
    features, scale = 64, source.uniform(1.5, 4) * x.shape[1] ** 0.5
    waves = np.cos(x @ source.normal(size=(x.shape[1], features)) / scale + source.uniform(0, 2 * np.pi, features))
    return np.asarray(waves @ source.normal(size=features))


def _mlp(x: Doubles, source: Generator) -> Doubles:
    """Teacher network of one or two hidden layers of tanh."""
    for _ in range(int(source.integers(1, 3))):
        width = int(source.integers(4, 17))
        x = np.tanh(
            x @ source.normal(size=(x.shape[1], width)) * 1.5 / x.shape[1] ** 0.5 + source.normal(size=width) / 2
        )
    return np.asarray(x @ source.normal(size=x.shape[1]))


def _friedman1(x: Doubles, source: Generator) -> Doubles:
    u = _unit(x)
    return np.asarray(10 * np.sin(np.pi * u[:, 0] * u[:, 1]) + 20 * (u[:, 2] - 0.5) ** 2 + 10 * u[:, 3] + 5 * u[:, 4])


def _friedman2(x: Doubles, source: Generator) -> Doubles:
    a, b, c, d = _impedance(x)
    return np.asarray(np.sqrt(a**2 + (b * c - 1 / (b * d)) ** 2))


def _friedman3(x: Doubles, source: Generator) -> Doubles:
    a, b, c, d = _impedance(x)
    return np.asarray(np.arctan((b * c - 1 / (b * d)) / np.maximum(a, 1e-3)))


def _unit(x: Doubles) -> Doubles:
    """Uniform inputs in [0, 1]."""
    return x / (2 * 3**0.5) + 0.5


def _impedance(x: Doubles) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """Inputs in the ranges of Friedman (1991)."""
    u = _unit(x)
    return 100 * u[:, 0], np.pi * (40 + 520 * u[:, 1]), u[:, 2], 1 + 10 * u[:, 3]


def _additive(x: Doubles, source: Generator) -> Doubles:
    """Sum of smooth functions of a few single columns; the others do not matter."""
    total = np.zeros(len(x))
    for column in source.choice(x.shape[1], int(source.integers(1, min(5, x.shape[1]) + 1)), replace=False):
        steepness, shift = source.uniform(0.5, 2), source.normal()
        shape = (np.sin, np.tanh, np.abs, np.square)[int(source.integers(4))]
        total += source.normal() * _scaled(shape(steepness * x[:, column] + shift))
    return total


def _tree(x: Doubles, source: Generator) -> Doubles:
    """Piecewise constant: a regression tree fitted to noise around a linear function."""
    anchors = source.permutation(len(x))[:200]
    noise = x[anchors] @ source.normal(size=x.shape[1]) / x.shape[1] ** 0.5 + source.normal(size=len(anchors))
    tree = DecisionTreeRegressor(max_leaf_nodes=int(source.integers(4, 17)), random_state=int(source.integers(2**31)))
    return np.asarray(tree.fit(x[anchors], noise).predict(x))


FUNCTIONS: dict[str, Callable[[Doubles, Generator], Doubles]] = {
    "linear": _linear,
    "fourier": _fourier,
    "mlp": _mlp,
    "friedman1": _friedman1,
    "friedman2": _friedman2,
    "friedman3": _friedman3,
    "additive": _additive,
    "tree": _tree,
}
LEAST = {"friedman1": 5, "friedman2": 4, "friedman3": 4}
"""Fewest columns of a family."""
