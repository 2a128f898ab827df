"""Synthetic tables from random structural causal models: the default prior, in pure torch."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from datamodules.draws import integer, log_integer, log_uniform, uniform
from datamodules.priors.scm_options import DEFAULT_OPTIONS, ScmOptions

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: tuple[Activation, ...] = (
    torch.tanh,
    torch.relu,
    lambda x: x,
    torch.sin,
    torch.abs,
    torch.sign,
    torch.square,
    torch.nn.functional.elu,
    lambda x: torch.exp(-x.square()),
    lambda x: (x.abs() + 1).log() * x.sign(),
    torch.floor,
)


class Table(NamedTuple):
    """Cells ``(rows, features)`` with NaN where missing, and classes ``(rows,)``."""

    x: Tensor
    y: Tensor


def draw_table(
    rows: int, features: int, classes: int, context: int, generator: Generator, options: ScmOptions = DEFAULT_OPTIONS
) -> Table:
    """Draw one table whose context and target rows hold the same classes.

    Args:
        rows: Number of rows.
        features: Number of features.
        classes: Number of classes.
        context: Leading rows that must hold every class, as must the rest.
        generator: Source of all randomness.
        options: What the model may look like.

    Returns:
        The table, its rows in random order, its classes and columns permuted.

    Raises:
        ValueError: Too few rows on one side to hold every class.
    """
    if min(context, rows - context) < classes:
        raise ValueError(
            f"{classes} classes need at least {classes} context and {classes} target rows,"
            f" got {context} and {rows - context}"
        )
    while True:
        nodes, causes = _run_network(rows, features, generator, options)
        x, score = _read_nodes(nodes, causes, features, generator, options)
        y = _cut_classes(score, classes, generator, options)
        if uniform(0, 1, generator) < options.unrelated:
            y = y[torch.randperm(rows, generator=generator)]
        order = _balanced_order(y, classes, context, generator)
        if order is not None:
            break
    x = _finish_columns(x[order], generator, options)
    return Table(x, torch.randperm(classes, generator=generator)[y[order]])


def _run_network(rows: int, features: int, generator: Generator, options: ScmOptions) -> tuple[Tensor, Tensor]:
    """All hidden nodes ``(rows, nodes)`` of a random network, and its causes ``(rows, causes)``."""
    causal = uniform(0, 1, generator) < options.causal
    causes = integer(2, 12, generator) if causal else features
    noise = log_uniform(*options.noise, generator)
    h = first = _draw_causes(rows, causes, generator)
    if uniform(0, 1, generator) < options.discrete:
        h, first = _discretise(first, generator)
    width = log_integer(*options.width, generator)
    layers = log_integer(*options.layers, generator)
    hidden = []
    for _ in range(max(layers, -(-(features + 1) // width) if causal else 1)):
        if uniform(0, 1, generator) < options.trees:
            h = _tree_layer(h, width, integer(*options.depth, generator), generator)
        else:
            h = _dense_layer(h, width, generator)
        h = _standardise(h)
        scale = noise * torch.rand(width, generator=generator)
        h = h + scale * torch.randn(rows, width, generator=generator)
        hidden.append(h)
    return torch.cat(hidden, dim=1), first if not causal else first[:, :0]


def _draw_causes(rows: int, causes: int, generator: Generator) -> Tensor:
    x = torch.randn(rows, causes, generator=generator)
    kind = integer(0, 3, generator)
    if kind == 1:
        return torch.rand(rows, causes, generator=generator) * 3.4 - 1.7
    if kind == 2:
        mixing = torch.randn(causes, causes, generator=generator) * causes**-0.5
        return x @ (mixing * log_uniform(0.3, 2, generator) + torch.eye(causes))
    if kind == 3:
        centres = torch.randn(integer(2, 8, generator), causes, generator=generator)
        member = torch.randint(0, len(centres), (rows,), generator=generator)
        return 1.5 * centres[member] + x * log_uniform(0.2, 1, generator)
    return x


def _discretise(causes: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Cut causes into categories: the effect of each cell's category, and its code, both ``(rows, causes)``."""
    effects, codes = causes.clone(), causes.clone()
    share = 1.0 if uniform(0, 1, generator) < 0.5 else uniform(0, 1, generator)
    for column in torch.nonzero(torch.rand(causes.shape[1], generator=generator) < share).flatten().tolist():
        code = _categories(causes[:, column], generator)
        codes[:, column] = code
        effects[:, column] = torch.randn(int(code.max()) + 1, generator=generator)[code.long()]
    return effects, codes


def _dense_layer(h: Tensor, width: int, generator: Generator) -> Tensor:
    fan_in = h.shape[1]
    weight = torch.randn(fan_in, width, generator=generator)
    keep = 1 - 0.9 * uniform(0, 1, generator) ** 2
    kept = torch.rand(fan_in, width, generator=generator) < keep
    z = _standardise(h @ (weight * kept))
    gain = log_uniform(0.3, 3, generator)
    z = gain * z + torch.randn(width, generator=generator)
    if uniform(0, 1, generator) < 0.5:
        return ACTIVATIONS[integer(0, len(ACTIVATIONS) - 1, generator)](z)
    picks = torch.randint(0, len(ACTIVATIONS), (width,), generator=generator)
    out = z.clone()
    for pick in picks.unique().tolist():
        columns = picks == pick
        out[:, columns] = ACTIVATIONS[pick](z[:, columns])
    return out


def _tree_layer(h: Tensor, width: int, depth: int, generator: Generator) -> Tensor:
    """Random oblivious trees: each output sums leaf values of a few trees that share one split per level."""
    rows, fan_in = h.shape
    trees = integer(1, 3, generator)
    picked = torch.randint(0, fan_in, (trees, depth, width), generator=generator)
    at = torch.randint(0, rows, (trees, depth, width), generator=generator)
    bits = (h[:, picked] > h[at, picked]).long()
    leaf = (bits * 2 ** torch.arange(depth)[:, None]).sum(2)
    values = torch.randn(trees, width, 2**depth, generator=generator)
    chosen = values[torch.arange(trees)[:, None], torch.arange(width), leaf]
    return chosen.sum(1)


def _standardise(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / x.std(0, unbiased=False).clamp(min=1e-6)


def _read_nodes(
    nodes: Tensor, causes: Tensor, features: int, generator: Generator, options: ScmOptions
) -> tuple[Tensor, Tensor]:
    """Pick feature columns and the score behind the classes."""
    if causes.shape[1]:
        return causes, nodes[:, -1 - integer(0, min(3, nodes.shape[1] - 1), generator)]
    total = nodes.shape[1]
    if uniform(0, 1, generator) < 0.5:
        start = integer(0, total - features - 1, generator)
        picked = start + torch.randperm(features + 1, generator=generator)
    else:
        picked = torch.randperm(total, generator=generator)[: features + 1]
    return nodes[:, picked[:-1]], nodes[:, picked[-1]]


def _cut_classes(score: Tensor, classes: int, generator: Generator, options: ScmOptions) -> Tensor:
    """Cut a score into pieces of random size, at times several for each class, and deal them to the classes."""
    pieces = classes
    if uniform(0, 1, generator) < 0.3:
        pieces = classes * integer(1, 3, generator)
    share = torch.exp(uniform(0, options.imbalance, generator) * torch.randn(pieces, generator=generator))
    edges = (share.cumsum(0) / share.sum())[:-1]
    score = score + 1e-6 * torch.randn(score.shape, generator=generator)
    bounds = torch.quantile(score, edges)
    piece = torch.bucketize(score, bounds)
    deal = torch.cat([torch.randperm(classes, generator=generator) for _ in range(pieces // classes)])
    return deal[piece]


def _balanced_order(y: Tensor, classes: int, context: int, generator: Generator) -> Tensor | None:
    """A row order with every class on both sides of the split, or None."""
    for _ in range(10):
        order = torch.randperm(len(y), generator=generator)
        left, right = y[order[:context]], y[order[context:]]
        if len(left.unique()) == classes == len(right.unique()):
            return order
    return None


def _finish_columns(x: Tensor, generator: Generator, options: ScmOptions) -> Tensor:
    """Permute, warp and cut columns, clip outliers, drop cells."""
    rows, features = x.shape
    x = _standardise(x[:, torch.randperm(features, generator=generator)]).clamp(-6, 6)
    warped = torch.rand(features, generator=generator) < 0.25
    x = torch.where(warped, torch.exp(x.clamp(max=4) * uniform(0.3, 1, generator)), x)
    for column in torch.nonzero(torch.rand(features, generator=generator) < options.categorical).flatten().tolist():
        x[:, column] = _categories(x[:, column], generator)
    x = x * log_uniform(0.1, 10, generator) + uniform(-3, 3, generator)
    if uniform(0, 1, generator) < options.missing:
        rate = log_uniform(0.01, 0.3, generator)
        x[torch.rand(rows, features, generator=generator) < rate] = math.nan
    return x


def _categories(column: Tensor, generator: Generator) -> Tensor:
    count = log_integer(2, 10, generator)
    bounds = column[torch.randint(0, len(column), (count - 1,), generator=generator)].sort().values
    codes = torch.bucketize(column.contiguous(), bounds)
    if uniform(0, 1, generator) < 0.5:
        codes = torch.randperm(count, generator=generator)[codes]
    return codes.to(column.dtype)
