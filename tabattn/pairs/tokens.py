"""Tokens of observations: encodings of location, value and member."""

from math import pi
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabattn.pairs.options import DEFAULT_TOKENS, TokenOptions

LONGEST = 8.0
"""Longest wavelength of the Fourier features: twice the axis, so that both ends of the axis differ."""
SHORTEST = 0.25
"""Shortest wavelength of the distance bias: a 16th of the axis."""


class Points(NamedTuple):
    """Observations in the network's units: locations in [-2, 2] and standardised values.

    Attributes:
        x: Locations, ``(batch, points)``.
        y: Values, ``(batch, points)``; of points to predict the baseline of their mean.
        member: Member of each point, ``(batch, points)`` long.
        seen: Whether a point has a value, ``(batch, points)`` boolean; None = all have.
    """

    x: Tensor
    y: Tensor
    member: Tensor
    seen: Tensor | None = None

    @property
    def mask(self) -> Tensor | None:
        """Key mask for attention, ``(batch, 1, 1, points)``; True = may be seen."""
        return None if self.seen is None else self.seen[:, None, None]

    def followed_by(self, other: Self) -> Self:
        """Concatenate with other points."""
        seen = None
        if self.seen is not None or other.seen is not None:
            seen = torch.cat([_seen(self), _seen(other)], dim=1)
        pairs = zip(self[:3], other[:3], strict=True)
        x, y, member = (torch.cat(pair, dim=1) for pair in pairs)
        return self._replace(x=x, y=y, member=member, seen=seen)


def _seen(points: Points) -> Tensor:
    return torch.ones_like(points.member, dtype=torch.bool) if points.seen is None else points.seen


class MemberCode(nn.Module):
    """Encoding of members: one-hot, or a learned vector.

    Args:
        members: Number of sequences.
        dim: Width of a learned vector.
        learned: Whether the encoding is a learned vector.
    """

    def __init__(self, members: int, dim: int, *, learned: bool) -> None:
        super().__init__()
        if members < 1:
            raise ValueError(f"members must be at least 1, got {members}")
        self.members = members
        self.learned = nn.Embedding(members, dim) if learned else None
        self.width = members if self.learned is None else dim

    def forward(self, member: Tensor, like: Tensor) -> Tensor:
        """Encode members ``(...)`` as ``(..., width)``, with the dtype of ``like``."""
        if self.learned is not None:
            return self.learned(member)
        return F.one_hot(member, self.members).to(like.dtype)


class PlaceFeatures(nn.Module):
    """Fourier features of locations: x, and sines and cosines of wavelengths 8, 4, 2, ... on an axis of length 4.

    Args:
        fourier: Number of wavelengths.
    """

    def __init__(self, fourier: int) -> None:
        super().__init__()
        self.fourier = fourier
        self.width = 1 + 2 * fourier

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(..., width)`` of locations ``(...)`` in [-2, 2]."""
        doublings = torch.arange(self.fourier, device=x.device, dtype=x.dtype)
        angle = x[..., None] * (2 * pi / LONGEST * 2.0**doublings)
        return torch.cat([x[..., None], angle.sin(), angle.cos()], dim=-1)


class WaveFeatures(nn.Module):
    """Cosines and sines of locations for the distance bias (``tabattn.nn.distances``), at wavelengths from 8 to 0.25.

    Args:
        waves: Number of wavelengths, in geometric progression.
    """

    def __init__(self, waves: int) -> None:
        super().__init__()
        self.waves = waves

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(..., 2 waves)`` of locations ``(...)`` in [-2, 2]: all cosines, then all sines."""
        share = torch.linspace(0.0, 1.0, self.waves, device=x.device, dtype=x.dtype)
        angle = x[..., None] * (2 * pi / (LONGEST * (SHORTEST / LONGEST) ** share))
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


class PairTokens(nn.Module):
    """Embedding of points: location, value, member and whether the value is known.

    Args:
        dim: Width of a token.
        members: Number of sequences.
        options: Encodings of location and member.
    """

    def __init__(self, dim: int, members: int, options: TokenOptions = DEFAULT_TOKENS) -> None:
        super().__init__()
        self.hidden = options.member_embed == "hidden"
        self.place = None if options.fourier is None else PlaceFeatures(options.fourier)
        self.waves = WaveFeatures(options.distances)
        self.member = MemberCode(members, dim, learned=options.member_embed == "learned")
        inputs = (0 if self.place is None else self.place.width) + 2 + self.member.width
        self.mlp = nn.Sequential(nn.Linear(inputs, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, points: Points, known: int) -> Tensor:
        """Embed points.

        Args:
            points: Points with known values first, then the points to predict.
            known: Number of points with known values.

        Returns:
            Tokens, ``(batch, points, dim)``.
        """
        observed = (torch.arange(points.x.shape[1], device=points.x.device) < known).to(points.x.dtype)
        code = self.member(points.member, points.x)
        if self.hidden:
            code = code * (1 - observed)[:, None]
        numbers = torch.stack([points.y, observed.expand_as(points.y)], dim=-1)
        place = [] if self.place is None else [self.place(points.x)]
        return self.mlp(torch.cat([*place, numbers, code], dim=-1))
