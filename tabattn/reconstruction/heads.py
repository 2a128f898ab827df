"""Cell heads: predictions of cells from their tokens."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabattn.contract.cells import Column
from tabattn.nn.densities import FLOOR, UNIT, mixture
from tabattn.reconstruction.cell_network import Kinds, Reconstruction, padded_categories
from tabattn.reconstruction.embedding import LinearPerColumn


class CellHead(nn.Module):
    """Cell head: a linear layer of each column predicts its cells from their tokens.

    A number has a point prediction, and a Gaussian mixture around it for its density. The mixture is centred on the
    point without a gradient to it, so that the density does not change what squared errors have trained.

    Args:
        columns: The columns.
        dim: Width of a token.
        components: Number of Gaussians in the mixture.
    """

    def __init__(self, columns: Sequence[Column], dim: int, components: int = 3) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"components must be at least 1, got {components}")
        self.kinds = Kinds.of(columns)
        numbers, categories = len(self.kinds.numeric), len(self.kinds.categorical)
        self.mean = LinearPerColumn(numbers, dim, 1)
        self.spread = LinearPerColumn(numbers, dim, 3 * components)
        self.classes = LinearPerColumn(categories, dim, max(self.kinds.counts, default=0))
        self.absent: Tensor
        self.register_buffer("absent", padded_categories(self.kinds.counts), persistent=False)
        for parameter in (self.mean.weight, self.mean.bias, self.classes.weight, self.classes.bias, self.spread.weight):
            nn.init.zeros_(parameter)
        with torch.no_grad():
            offsets = torch.linspace(-1.0, 1.0, components) if components > 1 else torch.zeros(1)
            self.spread.bias.copy_(torch.cat([torch.zeros(components), offsets, torch.zeros(components)]))

    def forward(self, tokens: Tensor) -> Reconstruction:
        """Predict cells from tokens ``(tables, rows, columns, dim)``."""
        numbers = tokens[:, :, self.kinds.numeric]
        mean = self.mean(numbers)[..., 0].float()
        weights, offsets, widths = self.spread(numbers.detach()).float().chunk(3, dim=-1)
        density = mixture(weights, mean.detach()[..., None] + offsets, FLOOR + F.softplus(widths + UNIT))
        logits = self.classes(tokens[:, :, self.kinds.categorical]).float().masked_fill(self.absent, -torch.inf)
        return Reconstruction(mean, density, logits)
