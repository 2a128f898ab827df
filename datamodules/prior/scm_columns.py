"""Postprocessing of the columns of a synthetic table: scales, categories, noise, missing cells."""

import math

import torch
from torch import Generator, Tensor

from datamodules.draws import chance, integer, log_integer, log_uniform, uniform
from datamodules.prior.scm_layers import standardise
from datamodules.prior.scm_options import ColumnOptions


def finish_columns(x: Tensor, generator: Generator, options: ColumnOptions) -> Tensor:
    """Permute, warp and discretise columns, clip outliers and drop cells."""
    rows, features = x.shape
    x = standardise(x[:, torch.randperm(features, generator=generator)]).clamp(-6, 6)
    if chance(options.irrelevant, generator):
        _unrelate(x, generator)
    if chance(options.duplicates, generator):
        _duplicate(x, generator)
    warped = torch.rand(features, generator=generator) < 0.25
    x = torch.where(warped, torch.exp(x.clamp(max=4) * uniform(0.3, 1, generator)), x)
    for column in _some(features, options.tails, generator):
        x[:, column] = _skewed(x[:, column], generator)
    for column in torch.nonzero(torch.rand(features, generator=generator) < options.categorical).flatten().tolist():
        x[:, column] = categories(x[:, column], options.levels, generator)
    for column in _some(features, options.rounding, generator):
        x[:, column] = _rounded(x[:, column], generator)
    if chance(options.outliers, generator):
        hit = torch.rand(rows, features, generator=generator) < log_uniform(1e-3, 0.02, generator)
        far = log_uniform(3, 30, generator) * torch.randn(rows, features, generator=generator)
        x = torch.where(hit, x + far * x.std(0), x)
    x = x * log_uniform(0.1, 10, generator) + uniform(-3, 3, generator)
    if uniform(0, 1, generator) < options.missing:
        if chance(options.blocks, generator):
            x[_missing_blocks(x, generator)] = math.nan
        else:
            rate = log_uniform(0.01, 0.3, generator)
            x[torch.rand(rows, features, generator=generator) < rate] = math.nan
    return x


def categories(column: Tensor, levels: int, generator: Generator) -> Tensor:
    """Discretise a column ``(rows,)`` to the codes of 2 to ``levels`` categories (few likelier)."""
    count = log_integer(2, levels, generator)
    bounds = column[torch.randint(0, len(column), (count - 1,), generator=generator)].sort().values
    codes = torch.bucketize(column.contiguous(), bounds)
    if uniform(0, 1, generator) < 0.5:
        codes = torch.randperm(count, generator=generator)[codes]
    return codes.to(column.dtype)


def _some(features: int, probability: float, generator: Generator) -> list[int]:
    """Each column with a probability; with probability 0 nothing is drawn."""
    if not probability:
        return []
    return torch.nonzero(torch.rand(features, generator=generator) < probability).flatten().tolist()


def _unrelate(x: Tensor, generator: Generator) -> None:
    """Shuffle the rows of some columns, each on its own: they keep their values and say nothing of the others."""
    rows, features = x.shape
    for column in _some(features, uniform(0, 0.7, generator), generator):
        x[:, column] = x[torch.randperm(rows, generator=generator), column]


def _duplicate(x: Tensor, generator: Generator) -> None:
    """Make some columns noisy copies, or noisy sums, of others."""
    rows, features = x.shape
    noise = log_uniform(0.01, 1, generator)
    for column in _some(features, uniform(0, 0.5, generator), generator):
        one, other = torch.randint(0, features, (2,), generator=generator).tolist()
        mixed = x[:, one] + (uniform(-1, 1, generator) * x[:, other] if uniform(0, 1, generator) < 0.5 else 0)
        x[:, column] = standardise(mixed + noise * torch.randn(rows, generator=generator))


def _skewed(column: Tensor, generator: Generator) -> Tensor:
    """A monotone map of a standardised column: powers, exponentials, zeros for all small values, or ranks."""
    kind = integer(0, 3, generator)
    sign = -1.0 if uniform(0, 1, generator) < 0.3 else 1.0
    if kind == 0:
        return column.sign() * column.abs() ** uniform(1.3, 3, generator)
    if kind == 1:
        return sign * torch.exp(sign * column.clamp(-4, 4) * uniform(0.5, 1.7, generator))
    if kind == 2:
        return (column - column.quantile(uniform(0.1, 0.9, generator))).clamp(min=0) ** uniform(0.5, 2, generator)
    return torch.special.ndtr(column)


def _rounded(column: Tensor, generator: Generator) -> Tensor:
    """A column on a grid of about 2 to 60 steps within its spread."""
    step = 4 * column.std().clamp(min=1e-6) / log_uniform(2, 60, generator)
    return (column / step).round()


def _missing_blocks(x: Tensor, generator: Generator) -> Tensor:
    """Cells that some columns lack in the same rows: a random part of the table, or where one column is large."""
    rows, features = x.shape
    columns = torch.rand(features, generator=generator) < uniform(0.05, 0.7, generator)
    columns[integer(0, features - 1, generator)] = True
    rate = uniform(0.02, 0.6, generator)
    if uniform(0, 1, generator) < 0.5:
        hit = torch.rand(rows, generator=generator) < rate
    else:
        decides = x[:, integer(0, features - 1, generator)]
        hit = decides > decides.quantile(1 - rate)
    return hit[:, None] & columns
