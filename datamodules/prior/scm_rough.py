"""Layers of random structural causal models with rough functions: forests, lookup tables, random Fourier features."""

import math

import torch
from torch import Generator, Tensor

from datamodules.draws import integer, log_uniform, uniform


def forest_layer(h: Tensor, width: int, depth: int, generator: Generator) -> Tensor:
    """Random decision trees, whose nodes each have a split of their own; an output sums the leaf values of a few.

    A split is at the value of a random row among those that reach it. In half of the layers all trees of an output
    split few nodes, so that the boundaries in them are many.

    Args:
        h: Nodes, ``(rows, nodes)``.
        width: Number of outputs.
        depth: Depth of the trees.
        generator: Random generator.

    Returns:
        ``(rows, width)``.
    """
    rows = len(h)
    trees = integer(1, 3, generator)
    sources = _sources(h.shape[1], width, generator)
    output = torch.arange(width)[:, None]
    each = torch.arange(rows)
    leaf = torch.zeros(rows, width, trees, dtype=torch.long)
    for level in range(depth):
        shape = (width, trees * 2**level)
        split = sources[output, torch.randint(0, sources.shape[1], shape, generator=generator)]
        node = leaf + torch.arange(trees) * 2**level
        lots = torch.randint(0, 2**20, node.shape, generator=generator) * rows + each[:, None, None]
        winner = torch.zeros(shape, dtype=torch.long)
        winner.scatter_reduce_(1, node.transpose(0, 1).flatten(1), lots.transpose(0, 1).flatten(1), "amax")
        at = h[winner % rows, split]
        right = h[each[:, None, None], split[output, node]] > at[output, node]
        leaf = 2 * leaf + right
    values = torch.randn(width, trees * 2**depth, generator=generator)
    return values[output, leaf + torch.arange(trees) * 2**depth].sum(2)


def lookup_layer(h: Tensor, width: int, generator: Generator) -> Tensor:
    """Lookup tables: each output has a random value for each combination of the categories of two or three nodes.

    Args:
        h: Nodes, ``(rows, nodes)``; one that is no category is cut at values of random rows.
        width: Number of outputs.
        generator: Random generator.

    Returns:
        ``(rows, width)``.
    """
    rows, fan_in = h.shape
    levels, nodes = integer(2, 5, generator), integer(2, 3, generator)
    picked = torch.randint(0, fan_in, (nodes, width), generator=generator)
    at = torch.randint(0, rows, (nodes, width, levels - 1), generator=generator)
    codes = (h[:, picked][..., None] > h[at, picked[..., None]]).sum(3)
    key = (codes * levels ** torch.arange(nodes)[:, None]).sum(1)
    values = torch.randn(width, levels**nodes, generator=generator)
    if uniform(0, 1, generator) < 0.5:
        values = values.sign()
    return values[torch.arange(width), key]


def fourier_layer(h: Tensor, width: int, generator: Generator) -> Tensor:
    """Random Fourier features: outputs are nearly samples of Gaussian processes over a few nodes.

    Frequencies are those of a kernel between the squared exponential, which is smooth, and the exponential, which is
    rough (Rahimi and Recht 2007).

    Args:
        h: Nodes, ``(rows, nodes)``.
        width: Number of outputs.
        generator: Random generator.

    Returns:
        ``(rows, width)``.
    """
    waves = 32
    sources = _sources(h.shape[1], width, generator)[:, :4]
    scale = log_uniform(0.3, 3, generator) / math.sqrt(sources.shape[1])
    frequency = scale * torch.randn(width, sources.shape[1], waves, generator=generator)
    if uniform(0, 1, generator) < 0.5:
        # Divided by the root of a chi-squared number: Student's t, the spectrum of rough (Matern) processes.
        frequency = frequency / torch.randn(width, 1, waves, generator=generator).abs().clamp(min=0.05)
    phase = 2 * math.pi * torch.rand(width, waves, generator=generator)
    height = torch.randn(width, waves, generator=generator) * math.sqrt(2 / waves)
    angle = torch.einsum("rws,wsk->rwk", h[:, sources], frequency) + phase
    return (angle.cos() * height).sum(2)


def _sources(fan_in: int, width: int, generator: Generator) -> Tensor:
    """Nodes that each output may read, ``(width, nodes)``: all of them, or in half of the layers one to four."""
    count = fan_in
    if uniform(0, 1, generator) < 0.5:
        count = min(fan_in, integer(1, 4, generator))
    return torch.rand(width, fan_in, generator=generator).argsort(1)[:, :count]
