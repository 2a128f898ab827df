"""Random networks of all kinds, as graphs of neurons."""

from itertools import pairwise

import numpy as np
import torch
from numpy.random import Generator
from torch import nn

from tabattn.contract.activations import ACTIVATIONS, MODULES
from tabattn.contract.graphs import BIASED, OUTPUT, WEIGHTED, NeuronDAG, Population
from tabattn.contract.modules import from_module
from tabattn.contract.networks import NetworkBatch, NeuronTokens
from tabattn.zoo.coder import Architecture


def layered(source: Generator, most: int = 9, plain: bool = False) -> nn.Sequential:
    """Draw a sequence of linear layers and activations, some without bias; ``plain``: with ordinary weights."""
    width = int(source.integers(1, most))
    layers: list[nn.Module] = []
    if source.random() < 0.1:
        layers.append(_activation(source))
    for _ in range(int(source.integers(1 if not layers else 0, 5))):
        following = int(source.integers(1, most))
        layers.append(nn.Linear(width, following, bias=bool(source.integers(2))))
        layers += [_activation(source) for _ in range(int(source.integers(3)))]
        if source.random() < 0.2:
            layers.append(nn.Dropout(0.5))
        width = following
    made = nn.Sequential(*layers)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.from_numpy(numbers(source, parameter.shape, plain)))
    return made


def inputs_of(module: nn.Sequential) -> int:
    """Number of inputs of a network."""
    return next((part.in_features for part in module if isinstance(part, nn.Linear)), 3)


def numbers(source: Generator, shape: tuple[int, ...], plain: bool) -> np.ndarray:
    """Draw weights, some of them 0, -0, tiny or large unless ``plain``."""
    drawn = source.normal(size=shape).astype(np.float32)
    if plain:
        return drawn
    special = source.choice(np.float32([0.0, -0.0, 1e-40, 1e20]), size=shape)
    return np.where(source.random(shape) < 0.05, special, drawn)


def graph(source: Generator, plain: bool = False) -> NeuronDAG:
    """Draw a graph with skip connections, missing weights and any activations; ``plain``: with ordinary weights."""
    widths = [int(source.integers(1, 6)) for _ in range(int(source.integers(2, 6)))]
    level = np.repeat(np.arange(len(widths)), widths)
    inputs, size = widths[0], len(level)
    flags = source.integers(0, 2, size) * WEIGHTED
    flags = flags + source.integers(0, 2, size) * BIASED
    flags[:inputs] = 0
    output = source.random(size) < 0.2
    output[-widths[-1] :] = True
    degree, sources = np.zeros(size, np.int64), []
    for vertex in range(inputs, size):
        before = np.flatnonzero(level < level[vertex])
        parents = np.sort(source.choice(before, int(source.integers(1, len(before) + 1)), replace=False))
        degree[vertex] = len(parents)
        sources.append(parents)
    flat = np.concatenate(sources)
    child = np.repeat(np.arange(size), degree)
    weight = np.where(flags[child] & WEIGHTED, numbers(source, (len(flat),), plain), 1).astype(np.float32)
    bias = np.where(flags & BIASED, numbers(source, (size,), plain), 0).astype(np.float32)
    kinds = np.where(level > 0, source.integers(0, len(ACTIVATIONS), size), 0)
    return NeuronDAG(
        kinds.astype(np.uint8),
        level.astype(np.uint8),
        (flags + output * OUTPUT).astype(np.uint8),
        bias,
        np.concatenate([[0], np.cumsum(degree)]),
        flat.astype(np.int64),
        weight,
    )


def batch(count: int = 6, seed: int = 0, inputs: int = 4, room: int = 14) -> NetworkBatch:
    """Make networks of one or two hidden levels with a task each, whose last 4 rows are held out."""
    source = np.random.default_rng(seed)
    dags = []
    for _ in range(count):
        widths = [inputs, *(int(source.integers(2, 5)) for _ in range(int(source.integers(1, 3)))), 1]
        layers: list[nn.Module] = []
        for before, behind in pairwise(widths):
            layers += [nn.Linear(before, behind), _activation(source)]
        made = nn.Sequential(*layers[:-1])
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.copy_(torch.from_numpy(numbers(source, parameter.shape, True)))
        dags.append(from_module(made))
    x, probe, meta = (
        torch.from_numpy(source.normal(size=(count, *shape)).astype(np.float32))
        for shape in ((12, inputs), (8, inputs), (5,))
    )
    y = x[..., :1] - x[..., 1:2]
    y[:, -1:] = float("nan")
    numbered = torch.arange(count)
    return NetworkBatch(NeuronTokens.of(Population.of(dags), room), probe, meta, x, y, numbered % 3, numbered, 8)


def sure(tokens: NeuronTokens, levels: int) -> Architecture:
    """Make logits that leave no doubt of an architecture."""

    def logits(codes: torch.Tensor, count: int) -> torch.Tensor:
        return 20 * torch.nn.functional.one_hot(codes, count).float()

    return Architecture(
        40 * tokens.mask.float() - 20,
        logits(tokens.type, len(ACTIVATIONS)),
        logits(tokens.level, levels),
        logits(tokens.flags, 8),
        40 * tokens.edge.float() - 20,
        torch.zeros(levels, levels),
    )


def _activation(source: Generator) -> nn.Module:
    return list(MODULES.values())[int(source.integers(len(MODULES)))]()
