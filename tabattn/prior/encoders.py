"""Encoders of cells and labels as tokens."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

MISSING_FLOOR = 1e-6
"""A column whose standard deviation is below this share of its magnitude counts as constant."""

RADIAL_REACH = 3.0
"""Distance of the outermost radial basis functions from the mean, in standard deviations."""

FAR = 4.0
"""Standard deviations from which standardised values are compressed by a logarithm."""


class Statistics(NamedTuple):
    """Mean and scale of each column over context rows, each ``(batch, 1, features)``; scale 0 = constant column."""

    mean: Tensor
    scale: Tensor


class CellEncoder(nn.Module):
    """Cell encoder: standardises cells by the context rows and embeds each with its neighbours and missing flags.

    Statistics ignore missing cells, which are set to the context mean; constant columns become zeros; values beyond
    four standard deviations are compressed by a logarithm. Token j sees columns j, j+1, j+3, j+7, ... (modulo the
    number of columns), which tells columns apart: feature grouping of TabICLv2.

    With ``radial`` centres each cell is also described by Gaussian radial basis functions of its standardised value,
    which a linear layer can turn into any smooth or step-like function of it: LimiX's RaBEL (arXiv 2606.04485).

    Args:
        dim: Width of a token.
        group: Number of columns that each token is embedded from.
        radial: Number of radial basis functions per cell; 0 = the value alone.
    """

    def __init__(self, dim: int, group: int = 3, radial: int = 0) -> None:
        super().__init__()
        if group < 1:
            raise ValueError(f"feature_group must be at least 1, got {group}")
        self.group = group
        self.radial = radial
        self.linear = nn.Linear((2 + radial) * group, dim)

    def statistics(self, x: Tensor) -> Statistics:
        """Compute mean and scale of the columns of context rows ``(batch, rows, features)``."""
        seen = torch.isfinite(x)
        count = seen.sum(1, keepdim=True).clamp(min=1)
        x = torch.where(seen, x, 0.0)
        mean = x.sum(1, keepdim=True) / count
        spread = torch.where(seen, x - mean, 0.0)
        largest = spread.abs().amax(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        std = largest * ((spread / largest).square().sum(1, keepdim=True) / count).sqrt()
        constant = std <= MISSING_FLOOR * mean.abs()
        return Statistics(mean, torch.where(constant, 0.0, std))

    def forward(self, x: Tensor, statistics: Statistics, columns: Tensor | None = None) -> Tensor:
        """Embed cells.

        Args:
            x: Cells, ``(batch, rows, features)``; NaN and infinities are missing.
            statistics: Mean and scale of the context rows.
            columns: Number of columns of each table, ``(batch,)``; those behind are padding. None = all are real.

        Returns:
            Tokens, ``(batch, rows, features, dim)``.
        """
        seen = torch.isfinite(x) & (statistics.scale > 0)
        z = (torch.where(seen, x, statistics.mean) - statistics.mean) / torch.where(
            statistics.scale > 0, statistics.scale, 1.0
        )
        z = compressed(z)
        cells = torch.stack([z, (~torch.isfinite(x)).to(z.dtype)], dim=-1)
        if self.radial:
            cells = torch.cat([cells, bumps(z, self.radial)], dim=-1)
        # In float32 under autocast too: half precision would blur the boundaries between basis functions.
        with torch.autocast(x.device.type, enabled=False):
            return self.linear(self._neighbours(cells, columns).flatten(-2))

    def _neighbours(self, cells: Tensor, columns: Tensor | None) -> Tensor:
        features = cells.shape[2]
        # Not a buffer: weight averaging would average its integers too.
        offsets = 2 ** torch.arange(self.group, device=cells.device) - 1
        index = torch.arange(features, device=cells.device)[:, None] + offsets
        if columns is None:
            return cells[:, :, index % features]
        index = index % columns[:, None, None]
        tables = torch.arange(len(cells), device=cells.device)[:, None, None]
        return cells[tables, :, index].movedim(3, 1)


class LabelEncoder(nn.Module):
    """Label encoder: class embeddings for context rows, and a learned "unknown" for target rows.

    Args:
        dim: Width of a token.
        classes: Largest number of classes.
    """

    kind: torch.dtype | None = torch.long
    """Data type of what is encoded."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes + 1, dim)

    def forward(self, y: Tensor, targets: int) -> Tensor:
        """Embed the context labels ``(batch, context)`` and ``targets`` unknowns: ``(batch, rows, 1, dim)``."""
        unknown = y.new_full((len(y), targets), self.embedding.num_embeddings - 1)
        return self.embedding(torch.cat([y, unknown], dim=1))[:, :, None]


class NumberEncoder(nn.Module):
    """Encoder of numeric targets: value and radial basis functions of context rows, a learned "unknown" for others.

    Args:
        dim: Width of a token.
        radial: Number of radial basis functions.
    """

    kind: torch.dtype | None = None
    """Data type of what is encoded; None = that of the network."""

    def __init__(self, dim: int, radial: int = 16) -> None:
        super().__init__()
        self.radial = radial
        self.linear = nn.Linear(1 + radial, dim)
        self.unknown = nn.Parameter(torch.randn(dim))

    def forward(self, y: Tensor, targets: int) -> Tensor:
        """Embed standardised numbers ``(batch, context)`` and ``targets`` unknowns: ``(batch, rows, 1, dim)``."""
        z = compressed(y)
        with torch.autocast(y.device.type, enabled=False):
            known = self.linear(torch.cat([z[..., None], bumps(z, self.radial)], dim=-1))
        return torch.cat([known, self.unknown.expand(len(y), targets, -1)], dim=1)[:, :, None]


def compressed(z: Tensor) -> Tensor:
    """Standardised values, compressed by a logarithm where they are far from the mean."""
    size = z.abs()
    return torch.where(size > FAR, z.sign() * (FAR + torch.log1p((size - FAR).clamp(min=0))), z)


def bumps(z: Tensor, count: int) -> Tensor:
    """Gaussian radial basis functions around centres one standard width apart, ``(..., count)``."""
    centres = torch.linspace(-RADIAL_REACH, RADIAL_REACH, count, device=z.device)
    width = 2 * RADIAL_REACH / max(1, count - 1)
    return torch.exp(-0.5 * ((z[..., None] - centres) / width).square())
