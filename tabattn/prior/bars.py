"""Bar distribution: a piecewise-uniform predictive density over standardised numbers, with exponential tails."""

from math import log

import torch
from torch import Tensor

LEAST = 1e-12
"""Smallest probability of a bar that a quantile divides by."""


class Bars:
    """Bar distribution (Riemann distribution) over standardised numbers.

    The borders are quantiles of Student's t distribution with two degrees of freedom: fine around the mean, and coarse
    far from it. Between them the density is uniform; the first and the last bar are exponential tails, as wide as the
    bars beside them. After Müller et al. 2022, section 4 (arXiv 2112.10510), whose borders have equal mass in their
    prior, and whose tails are half-normal: those give a number far outside an unbounded loss of its square.

    Logits are ``(..., bins)``.

    Args:
        bins: Number of bars, at least 3.

    Raises:
        ValueError: There are too few bars.
    """

    def __init__(self, bins: int) -> None:
        if bins < 3:
            raise ValueError(f"bins must be at least 3, got {bins}")
        self.bins = bins
        share = torch.arange(1, bins, dtype=torch.float64) / bins
        self.borders = ((2 * share - 1) / (2 * share * (1 - share)).sqrt()).float()
        self.widths = self.borders.diff()
        self.scale = float(self.widths[0])

    def log_density(self, logits: Tensor, z: Tensor) -> Tensor:
        """Log-density of numbers ``(...)``, in nats."""
        borders, widths = self._on(logits)
        index = torch.bucketize(z.contiguous(), borders)
        chance = logits.float().log_softmax(-1).gather(-1, index[..., None])[..., 0]
        inner = -widths[(index - 1).clamp(0, self.bins - 3)].log()
        beyond = torch.where(index == 0, borders[0] - z, z - borders[-1]) / self.scale
        tail = -log(self.scale) - beyond
        return chance + torch.where((index == 0) | (index == self.bins - 1), tail, inner)

    def cdf(self, logits: Tensor, z: Tensor) -> Tensor:
        """Probability of at most ``z`` ``(...)``."""
        borders, widths = self._on(logits)
        chances = logits.float().softmax(-1)
        below = chances.cumsum(-1) - chances
        index = torch.bucketize(z.contiguous(), borders)
        inner = (index - 1).clamp(0, self.bins - 3)
        share = ((z - borders[inner]) / widths[inner]).clamp(0, 1)
        left = ((z - borders[0]) / self.scale).clamp(max=0).exp()
        right = -((borders[-1] - z) / self.scale).clamp(max=0).expm1()
        share = torch.where(index == 0, left, torch.where(index == self.bins - 1, right, share))
        chance, before = (part.gather(-1, index[..., None])[..., 0] for part in (chances, below))
        return before + share * chance

    def mean(self, logits: Tensor) -> Tensor:
        """Mean, ``(...)``."""
        borders, _ = self._on(logits)
        middles = (borders[1:] + borders[:-1]) / 2
        centres = torch.cat([borders[:1] - self.scale, middles, borders[-1:] + self.scale])
        return logits.float().softmax(-1) @ centres

    def quantile(self, logits: Tensor, q: float) -> Tensor:
        """Quantile of a probability, ``(...)``.

        Raises:
            ValueError: The probability is not between 0 and 1, both excluded.
        """
        if not 0 < q < 1:
            raise ValueError(f"a quantile must be between 0 and 1, both excluded, got {q}")
        borders, widths = self._on(logits)
        chances = logits.float().softmax(-1)
        upto = chances.cumsum(-1)
        index = (upto < q).sum(-1).clamp(max=self.bins - 1)
        chance = chances.gather(-1, index[..., None])[..., 0].clamp(min=LEAST)
        before = upto.gather(-1, index[..., None])[..., 0] - chance
        inner = (index - 1).clamp(0, self.bins - 3)
        middle = borders[inner] + widths[inner] * ((q - before) / chance).clamp(0, 1)
        lower = borders[0] + self.scale * (q / chance).clamp(LEAST, 1).log()
        upper = borders[-1] - self.scale * ((1 - q) / chance).clamp(LEAST, 1).log()
        return torch.where(index == 0, lower, torch.where(index == self.bins - 1, upper, middle))

    def _on(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Borders and widths on the device of the logits; raises ValueError for another number of bars."""
        if logits.shape[-1] != self.bins:
            raise ValueError(f"logits must be of {self.bins} bins, got {logits.shape[-1]}")
        return self.borders.to(logits.device), self.widths.to(logits.device)
