"""Structural-causal-model prior: synthetic classification tables from random networks, in pure torch."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from datamodules.draws import chance, integer, log_integer, log_uniform, uniform
from datamodules.prior.scm_classes import cut_classes, region_classes
from datamodules.prior.scm_columns import categories, finish_columns
from datamodules.prior.scm_layers import draw_layer, linear_layer, standardise
from datamodules.prior.scm_options import DEFAULT_OPTIONS, ScmOptions

LEAST_SPREAD = 0.2
"""Standard deviation of the targets of context rows, in that of all rows, below which a table is drawn anew."""


class Table(NamedTuple):
    """Synthetic table: cells ``(rows, features)``, NaN = missing, and class indices or numbers ``(rows,)``."""

    x: Tensor
    y: Tensor


def draw_table(
    rows: int, features: int, classes: int, context: int, generator: Generator, options: ScmOptions = DEFAULT_OPTIONS
) -> Table:
    """Draw a synthetic table whose context and target rows hold the same classes.

    Args:
        rows: Number of rows.
        features: Number of features.
        classes: Number of classes.
        context: Number of leading rows that are context; they hold every class, and so do the others.
        generator: Random generator.
        options: Options of the prior.

    Returns:
        The table, its rows, classes and columns in random order.

    Raises:
        ValueError: Too few context or target rows to hold every class.
    """
    if min(context, rows - context) < classes:
        raise ValueError(
            f"{classes} classes need at least {classes} context and {classes} target rows,"
            f" got {context} and {rows - context}"
        )
    while True:
        nodes, causes = _run_network(rows, features, generator, options)
        x, score = _read_nodes(nodes, causes, features, generator)
        if chance(options.classes.regions, generator):
            y = region_classes(nodes, classes, generator, options.classes)
        else:
            y = cut_classes(score, classes, generator, options.classes)
        if uniform(0, 1, generator) < options.classes.unrelated:
            y = y[torch.randperm(rows, generator=generator)]
        order = _balanced_order(y, classes, context, generator)
        if order is not None:
            break
    x = finish_columns(x[order], generator, options.columns)
    return Table(x, torch.randperm(classes, generator=generator)[y[order]])


def draw_regression_table(
    rows: int, features: int, context: int, generator: Generator, options: ScmOptions = DEFAULT_OPTIONS
) -> Table:
    """Draw a synthetic table whose target is a number: a node of the random network, warped, with noise.

    Args:
        rows: Number of rows.
        features: Number of features.
        context: Number of leading rows that are context; their targets vary.
        generator: Random generator.
        options: Options of the prior; of those of classes only ``unrelated`` is used.

    Returns:
        The table, with ``y`` float, standardised, its rows and columns in random order.
    """
    while True:
        nodes, causes = _run_network(rows, features, generator, options)
        x, score = _read_nodes(nodes, causes, features, generator)
        y = _with_noise(_warped(standardise(score[:, None])[:, 0], generator), nodes, generator)
        if uniform(0, 1, generator) < options.classes.unrelated:
            y = y[torch.randperm(rows, generator=generator)]
        order = torch.randperm(rows, generator=generator)
        y = standardise(y[order][:, None])[:, 0]
        if float(y[:context].std()) > LEAST_SPREAD:
            return Table(finish_columns(x[order], generator, options.columns), y)


def _with_noise(y: Tensor, nodes: Tensor, generator: Generator) -> Tensor:
    """Numbers with noise that is the same for all rows, or depends on a node, or has heavy tails."""
    noise = log_uniform(1e-3, 1, generator) * torch.randn(len(y), generator=generator)
    if uniform(0, 1, generator) < 0.3:
        noise = noise * torch.exp(uniform(0, 1, generator) * nodes[:, integer(0, nodes.shape[1] - 1, generator)])
    if uniform(0, 1, generator) < 0.2:
        noise = noise * torch.rand(len(y), generator=generator).clamp(min=0.05) ** -0.5
    return y + noise


def _warped(y: Tensor, generator: Generator) -> Tensor:
    """Numbers as they are, skewed, bounded, rounded to a grid, or with many equal ones."""
    kind = uniform(0, 1, generator)
    if kind < 0.25:
        y = torch.exp(y.clamp(max=4) * uniform(0.2, 1.2, generator))
    elif kind < 0.35:
        y = torch.sigmoid(y * uniform(0.5, 3, generator))
    elif kind < 0.45:
        y = y.clamp(min=float(torch.quantile(y, uniform(0, 0.5, generator))))
    elif kind < 0.55:
        y = y.sign() * y.abs() ** uniform(1, 2.5, generator)
    y = standardise(y[:, None])[:, 0]
    if uniform(0, 1, generator) < 0.15:
        step = log_uniform(0.05, 1, generator)
        y = (y / step).round() * step
    return y


def another_view(table: Table, classes: int, context: int, generator: Generator) -> Table:
    """Another view of a table: its split into context and targets, columns and classes drawn again."""
    order = _balanced_order(table.y, classes, context, generator)
    if order is None:
        order = torch.arange(len(table.y))
    columns = torch.randperm(table.x.shape[1], generator=generator)
    return Table(table.x[order][:, columns], torch.randperm(classes, generator=generator)[table.y[order]])


def _run_network(rows: int, features: int, generator: Generator, options: ScmOptions) -> tuple[Tensor, Tensor]:
    """All hidden nodes ``(rows, nodes)`` of a random network, and its causes ``(rows, causes)``."""
    causal = uniform(0, 1, generator) < options.network.causal
    causes = integer(2, 12, generator) if causal else features
    noise = log_uniform(*options.network.noise, generator)
    h = first = _draw_causes(rows, causes, generator)
    if uniform(0, 1, generator) < options.network.discrete:
        h, first = _discretise(first, generator, options.columns.levels)
    width = log_integer(*options.network.width, generator)
    layers = log_integer(*options.network.layers, generator)
    linear = chance(options.linear, generator)
    hidden = []
    for _ in range(max(layers, -(-(features + 1) // width) if causal else 1)):
        mapped = linear_layer(h, width, generator) if linear else draw_layer(h, width, generator, options.network)
        h = standardise(mapped)
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


def _discretise(causes: Tensor, generator: Generator, levels: int) -> tuple[Tensor, Tensor]:
    """Cut causes into categories: the effect of each cell's category, and its code, both ``(rows, causes)``."""
    effects, codes = causes.clone(), causes.clone()
    share = 1.0 if uniform(0, 1, generator) < 0.5 else uniform(0, 1, generator)
    for column in torch.nonzero(torch.rand(causes.shape[1], generator=generator) < share).flatten().tolist():
        code = categories(causes[:, column], levels, generator)
        codes[:, column] = code
        effects[:, column] = torch.randn(int(code.max()) + 1, generator=generator)[code.long()]
    return effects, codes


def _read_nodes(nodes: Tensor, causes: Tensor, features: int, generator: Generator) -> tuple[Tensor, Tensor]:
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


def _balanced_order(y: Tensor, classes: int, context: int, generator: Generator) -> Tensor | None:
    """A row order with every class on both sides of the split, or None."""
    for _ in range(10):
        order = torch.randperm(len(y), generator=generator)
        left, right = y[order[:context]], y[order[context:]]
        if len(left.unique()) == classes == len(right.unique()):
            return order
    return None
