"""Architectures of networks, drawn in bulk and sorted so that alike ones are trained together."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.zoo import streams
from datamodules.zoo.profiles import NetworkProfile
from tabattn.contract.activations import ACTIVATIONS, CODES

Ints = NDArray[np.int64]

SPARSEST, DENSEST = 0.4, 0.9
"""Range of the share of weights that a sparse network keeps."""
SKIPPED = 0.3
"""Probability of each connection that skips layers, in a network that has some."""


class Runs(NamedTuple):
    """Trainings of networks, in the order in which they are trained and stored.

    Layer 0 is the first hidden layer; the output layer comes after the last hidden one.

    Attributes:
        run: Number of each run, by which its random numbers are drawn, ``(runs,)`` long, as are all below.
        task: Its task.
        inputs: Inputs of the network.
        depth: Hidden layers.
        width: Neurons of each hidden layer, ``(runs, layers)``; 0 = there is no such layer.
        activation: Codes of their activation functions, of that shape.
        bias: Whether each layer has biases, boolean, ``(runs, layers + 1)``, the output layer last.
        skips: Whether there are weights that skip layers, boolean, ``(runs,)``.
        kept: Share of weights that there are, double, ``(runs,)``.
        rate: Learning rate, float, ``(runs,)``.
    """

    run: Tensor
    task: Tensor
    inputs: Tensor
    depth: Tensor
    width: Tensor
    activation: Tensor
    bias: Tensor
    skips: Tensor
    kept: Tensor
    rate: Tensor

    def at(self, index: slice | Tensor) -> "Runs":
        """Some runs."""
        return Runs(*(each[index] for each in self))

    def to(self, device: torch.device | str) -> "Runs":
        """The runs on a device."""
        return Runs(*(each.to(device) for each in self))


def draw_runs(profile: NetworkProfile, count: int, columns: Ints, seed: int) -> Runs:
    """Draw architectures and learning rates: run i is a function of (seed, i), and takes task i modulo their number.

    Args:
        profile: Distribution of networks.
        count: Number of runs.
        columns: Number of columns of each task.
        seed: Seed.
    """
    run, layers = torch.arange(count), torch.arange(profile.depth[1])
    task = run % len(columns)
    each = run[:, None]
    low, high = profile.depth
    depth = low + streams.below(high - low + 1, seed, streams.DEPTH, run)
    real = layers < depth[:, None]
    low, high = profile.width
    width = low + streams.below(high - low + 1, seed, streams.WIDTH, each, layers)
    codes = torch.tensor([CODES[name] for name in profile.activations])
    activation = codes[streams.below(len(codes), seed, streams.ACTIVATION, each, layers)]
    bias = streams.uniform(seed, streams.BIAS, each, torch.arange(profile.depth[1] + 1)) < profile.bias
    bias[:, :-1] &= real
    sparse = streams.uniform(seed, streams.SPARSE, run) < profile.sparse
    kept = SPARSEST + (DENSEST - SPARSEST) * streams.uniform(seed, streams.SPARSE, run, 1)
    slow, fast = (float(np.log(rate)) for rate in profile.rate)
    return _sorted(
        Runs(
            run,
            task,
            torch.from_numpy(columns)[task],
            depth,
            width * real,
            activation * real,
            bias,
            (streams.uniform(seed, streams.SKIP, run) < profile.skip) & (depth > 1),
            torch.where(sparse, kept, 1.0),
            (slow + (fast - slow) * streams.uniform(seed, streams.RATE, run)).exp().float(),
        )
    )


def _sorted(runs: Runs) -> Runs:
    """Sort runs by what decides the cost of a bucket, then by activation functions."""
    keys = [*runs.activation.T.flip(0), _size(runs), runs.depth, runs.skips]
    return runs.at(torch.from_numpy(np.lexsort([key.numpy() for key in keys])))


def _size(runs: Runs) -> Tensor:
    """Size class of the widest layer: up to 8, 16, 32, ..."""
    return runs.width.amax(1).clamp(min=8).sub(1).double().log2().floor()


def buckets(runs: Runs, most: int, start: int = 0) -> Iterator[slice]:
    """Ranges of runs of one depth and size class, of at most ``most`` runs, from a run on."""
    key = torch.stack([_size(runs), runs.depth.double(), runs.skips.double()])
    borders = [0, *((key.diff() != 0).any(0).nonzero()[:, 0] + 1).tolist(), len(runs.run)]
    for first, end in pairwise(borders):
        for begin in range(max(first, start), end, most):
            yield slice(begin, min(begin + most, end))


def architecture_numbers(runs: Runs) -> tuple[Ints, tuple[str, ...]]:
    """Number the distinct architectures.

    Returns:
        Number of the architecture of each run, and the architectures in words.
    """
    own = torch.where(runs.skips | (runs.kept < 1), runs.run + 1, 0)
    rows = torch.cat([runs.inputs[:, None], runs.width, runs.activation, runs.bias.long(), own[:, None]], 1)
    _, first, number = np.unique(rows.numpy(), axis=0, return_index=True, return_inverse=True)
    return number.reshape(-1).astype(np.int64), tuple(in_words(runs.at(slice(i, i + 1))) for i in first.tolist())


def in_words(run: Runs) -> str:
    """Architecture of one run in words, such as ``10-8relu-5tanh-1``; ``/`` = no bias, ``+skips``, ``+sparse``."""
    names, depth = list(ACTIVATIONS), int(run.depth)
    bare = ["" if biased else "/" for biased in [*run.bias[0, :depth].tolist(), bool(run.bias[0, -1])]]
    hidden = zip(run.width[0, :depth].tolist(), run.activation[0, :depth].tolist(), strict=True)
    layers = [f"{width}{names[code]}{mark}" for (width, code), mark in zip(hidden, bare[:-1], strict=True)]
    own = ("+skips" if run.skips[0] else "") + (f"+sparse{int(run.run)}" if run.kept[0] < 1 else "")
    return "-".join([str(int(run.inputs)), *layers, f"1{bare[-1]}"]) + own
