"""Cell embedding: a token for each cell of a table, by its value, its column and whether it is hidden."""

import warnings
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from rtdl_num_embeddings import PeriodicEmbeddings, PiecewiseLinearEmbeddings
from torch import Tensor, nn

from tabattn.contract.cells import Column
from tabattn.reconstruction.cell_network import Kinds

Embedding = Literal["linear", "rbf", "periodic", "piecewise"]

REACH = 3.0
"""Distance of the outermost radial basis functions from the mean, in standard deviations."""

FREQUENCIES, SCALE = 24, 0.1
"""Number of frequencies of a periodic embedding, and standard deviation of their initial values."""

NARROW, NARROWEST = 1e-5, 1e-8
"""Least width of a bin, as a share of its larger edge, and in standard deviations: single precision tells values in it
apart."""


class LinearPerColumn(nn.Module):
    """Linear layers, one for each column: ``(..., columns, inputs)`` to ``(..., columns, outputs)``.

    Args:
        columns: Number of columns.
        inputs: Width of the input.
        outputs: Width of the output.
    """

    def __init__(self, columns: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(columns, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Apply each column's layer."""
        return torch.einsum("...ci,cio->...co", x, self.weight) + self.bias


class PiecewiseLinear(nn.Module):
    """Piecewise-linear embedding of numbers, with bins between the quantiles of their columns.

    Gorishniy et al. 2022 (arXiv 2203.05556), by ``rtdl_num_embeddings`` (version B, which is linear at first). The
    outer bins may be narrow, so beyond them the embedding goes on linearly in standard deviations instead of widths.

    Args:
        columns: Numeric columns.
        dim: Width of a token.

    Raises:
        ValueError: A column has no quantiles.
    """

    def __init__(self, columns: Sequence[Column], dim: int) -> None:
        super().__init__()
        lacking = [column.name for column in columns if not column.quantiles]
        if lacking:
            raise ValueError(
                f"embedding piecewise needs the quantiles of each numeric column, there are none of {lacking[0]!r}: "
                "give columns of a datamodule, or choose linear, rbf or periodic"
            )
        bins = [_bins(column) for column in columns]
        with warnings.catch_warnings():
            # A column with two distinct values has one bin, which the library doubts.
            warnings.filterwarnings("ignore", message="The .* feature has just two bin edges")
            self.inside = PiecewiseLinearEmbeddings(bins, dim, activation=False, version="B")
        self.beyond = LinearPerColumn(len(columns), 1, dim)
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.stack([edges[0] for edges in bins]), persistent=False)
        self.register_buffer("high", torch.stack([edges[-1] for edges in bins]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Embed standardised numbers ``(rows, columns)``: ``(rows, columns, dim)``."""
        inside = x.clamp(self.low, self.high)
        return self.inside(inside) + self.beyond((x - inside)[..., None])


def _bins(column: Column) -> Tensor:
    """Edges of the bins of a column, increasing; those of a constant column lie one standard deviation around it."""
    edges: list[float] = []
    for edge in sorted(column.quantiles):
        if not edges or edge - edges[-1] > max(NARROW * abs(edge), NARROW * abs(edges[-1]), NARROWEST):
            edges.append(edge)
    if len(edges) == 1:
        edges = [edges[0] - 1, edges[0] + 1]
    return torch.tensor(edges)


class CellEmbedding(nn.Module):
    """Cell embedding: value, or a learned mask token where it is hidden, plus embeddings of the column and its kind.

    Kossen et al. 2021 (arXiv 2106.02584), section 2.1. Numbers are embedded by a linear layer of each column; ``rbf``
    adds Gaussian radial basis functions of the number to its input. ``periodic`` and ``piecewise`` are the PLR and the
    piecewise-linear embedding of Gorishniy et al. 2022 (arXiv 2203.05556) by ``rtdl_num_embeddings``; the bins of the
    latter are the columns' quantiles.

    Args:
        columns: The columns.
        dim: Width of a token.
        embedding: How numbers are embedded.
        radial: Number of radial basis functions.

    Raises:
        ValueError: An option is out of its bounds, or ``piecewise`` lacks the quantiles of a column.
    """

    def __init__(self, columns: Sequence[Column], dim: int, embedding: Embedding = "rbf", radial: int = 16) -> None:
        super().__init__()
        if embedding not in get_args(Embedding):
            raise ValueError(f"embedding must be one of {', '.join(get_args(Embedding))}, got {embedding!r}")
        if radial < 2:
            raise ValueError(f"radial must be at least 2, got {radial}")
        self.kinds = Kinds.of(columns)
        self.radial = radial if embedding == "rbf" else 0
        numbers = len(self.kinds.numeric)
        if embedding == "periodic" and numbers:
            self.numbers: nn.Module = PeriodicEmbeddings(
                numbers, dim, n_frequencies=FREQUENCIES, frequency_init_scale=SCALE, lite=False
            )
        elif embedding == "piecewise" and numbers:
            self.numbers = PiecewiseLinear([columns[place] for place in self.kinds.numeric], dim)
        else:
            self.numbers = LinearPerColumn(numbers, 1 + self.radial, dim)
        self.flat = embedding in ("periodic", "piecewise")
        self.categories = nn.Embedding(sum(self.kinds.counts), dim)
        first = torch.tensor([0, *self.kinds.counts], dtype=torch.long).cumsum(0)[:-1]
        self.first: Tensor
        self.register_buffer("first", first, persistent=False)
        self.mask = nn.Parameter(torch.randn(len(columns), dim) * dim**-0.5)
        self.column = nn.Parameter(torch.randn(len(columns), dim) * dim**-0.5)
        mixed = bool(numbers and self.kinds.categorical)
        self.kind = nn.Parameter(torch.randn(2, dim) * dim**-0.5) if mixed else None
        nn.init.normal_(self.categories.weight, std=dim**-0.5)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Embed cells ``(tables, rows, columns)``: ``(tables, rows, columns, dim)``."""
        tokens = self.mask.expand(*x.shape, -1).to(x.dtype).clone()
        numeric, categorical = self.kinds.numeric, self.kinds.categorical
        if numeric:
            tokens[:, :, numeric] = self._numbers(x[:, :, numeric]).to(tokens.dtype)
        if categorical:
            tokens[:, :, categorical] = self.categories(x[:, :, categorical].long() + self.first).to(tokens.dtype)
        tokens = torch.where(hidden[..., None], self.mask, tokens) + self.column
        if self.kind is not None:
            places = torch.zeros(x.shape[2], dtype=torch.long, device=x.device)
            places[categorical] = 1
            tokens = tokens + self.kind[places]
        return tokens

    def _numbers(self, z: Tensor) -> Tensor:
        if self.flat:  # The library's modules take one batch dimension.
            return self.numbers(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        inputs = z[..., None]
        if self.radial:
            centres = torch.linspace(-REACH, REACH, self.radial, device=z.device)
            width = 2 * REACH / (self.radial - 1)
            inputs = torch.cat([inputs, torch.exp(-0.5 * ((inputs - centres) / width).square())], dim=-1)
        return self.numbers(inputs)
