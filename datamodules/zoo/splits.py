"""Splits of networks into training, validation and test parts that share no run, task or architecture."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

PARTS = (0.8, 0.1, 0.1)
"""Shares of networks in the parts."""
STREAM = 72

Ints = NDArray[np.int64]


def split_networks(models: Mapping[str, NDArray[np.generic]], seed: int) -> dict[str, NDArray[np.uint8]]:
    """Split networks in three ways: no two parts share a run, or a run and a task, or a run and an architecture.

    Args:
        models: Facts of the networks.
        seed: Seed.

    Returns:
        Part of each network by what the parts do not share: ``network``, ``task`` or ``architecture``.
    """
    run, task, arch = (np.asarray(models[name], np.int64) for name in ("run", "task", "arch"))
    groups = {"network": run, "task": together(run, task), "architecture": together(run, arch)}
    return {name: _parts(group, [seed, STREAM, number]) for number, (name, group) in enumerate(groups.items())}


def together(first: Ints, second: Ints) -> Ints:
    """Groups of things of which no two share a value of either kind, such as copies of networks and their tasks.

    Args:
        first: Values of one kind, ``(things,)``.
        second: Values of another.

    Returns:
        Number of the group of each thing.
    """
    first, second = (np.unique(values, return_inverse=True)[1].reshape(-1) for values in (first, second))
    size = int(first.max(initial=-1)) + 1
    nodes = size + int(second.max(initial=-1)) + 1
    links = coo_matrix((np.ones(len(first)), (first, size + second)), (nodes, nodes))
    return np.asarray(connected_components(links, directed=False)[1][first], np.int64)


def _parts(group: Ints, seed: list[int]) -> NDArray[np.uint8]:
    """Share out groups at random, so that each part has about its share of things, and one group at least."""
    _, group, sizes = np.unique(group, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(sizes))
    middle = (np.cumsum(sizes[order]) - sizes[order] / 2) / sizes.sum()
    part = np.searchsorted(np.cumsum(PARTS)[:2], middle, side="right").astype(np.uint8)
    if len(sizes) >= 3 and len(np.unique(part)) < 3:
        part[-2:] = 1, 2
    placed = np.empty(len(sizes), np.uint8)
    placed[order] = part
    return placed[group.reshape(-1)]
