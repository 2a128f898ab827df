"""Cell embedding: a token for each cell of a table, by its value, its column and whether it is hidden."""

from collections.abc import Sequence
from typing import Literal

import torch
from rtdl_num_embeddings import PeriodicEmbeddings
from torch import Tensor, nn

from tabattn.contract.cells import Column
from tabattn.reconstruction.cell_network import Kinds

Embedding = Literal["linear", "rbf", "periodic"]

REACH = 3.0
"""Distance of the outermost radial basis functions from the mean, in standard deviations."""

FREQUENCIES, SCALE = 24, 0.1
"""Number of frequencies of a periodic embedding, and standard deviation of their initial values."""


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


class CellEmbedding(nn.Module):
    """Cell embedding: value, or a learned mask token where it is hidden, plus embeddings of the column and its kind.

    Kossen et al. 2021 (arXiv 2106.02584), section 2.1. Numbers are embedded by a linear layer of each column; ``rbf``
    adds Gaussian radial basis functions of the number to its input, ``periodic`` is the PLR embedding of Gorishniy et
    al. 2022 (arXiv 2203.05556) by ``rtdl_num_embeddings``.

    Args:
        columns: The columns.
        dim: Width of a token.
        embedding: How numbers are embedded.
        radial: Number of radial basis functions.
    """

    def __init__(self, columns: Sequence[Column], dim: int, embedding: Embedding = "rbf", radial: int = 16) -> None:
        super().__init__()
        if embedding not in ("linear", "rbf", "periodic"):
            raise ValueError(f"embedding must be linear, rbf or periodic, got {embedding!r}")
        if radial < 2:
            raise ValueError(f"radial must be at least 2, got {radial}")
        self.kinds = Kinds.of(columns)
        self.radial = radial if embedding == "rbf" else 0
        numbers = len(self.kinds.numeric)
        if embedding == "periodic" and numbers:
            self.numbers: nn.Module = PeriodicEmbeddings(
                numbers, dim, n_frequencies=FREQUENCIES, frequency_init_scale=SCALE, lite=False
            )
        else:
            self.numbers = LinearPerColumn(numbers, 1 + self.radial, dim)
        self.periodic = embedding == "periodic"
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
        if self.periodic:
            return self.numbers(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        inputs = z[..., None]
        if self.radial:
            centres = torch.linspace(-REACH, REACH, self.radial, device=z.device)
            width = 2 * REACH / (self.radial - 1)
            inputs = torch.cat([inputs, torch.exp(-0.5 * ((inputs - centres) / width).square())], dim=-1)
        return self.numbers(inputs)
