"""From observations of several sequences to tokens, and the nearest value of one's own sequence."""

from math import pi
from typing import Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MemberEmbed = Literal["one_hot", "learned", "hidden"]

LONGEST = 8.0
"""Wavelength of the slowest Fourier feature: twice the axis, so that its ends differ."""


class Points(NamedTuple):
    """Observations in a network's units, the axis mapped to [-2, 2] and values standardised.

    Attributes:
        x: Places, ``(batch, points)``.
        y: Values, ``(batch, points)``; where a value is asked for, what to expect before anything was read.
        member: Sequence of each, ``(batch, points)`` long.
        seen: Where there is a value, ``(batch, points)``; None = everywhere.
    """

    x: Tensor
    y: Tensor
    member: Tensor
    seen: Tensor | None = None

    @property
    def mask(self) -> Tensor | None:
        """Who may be seen, for attention: ``(batch, 1, 1, points)``."""
        return None if self.seen is None else self.seen[:, None, None]

    def followed_by(self, other: Self) -> Self:
        """These points, then those of another list."""
        seen = None
        if self.seen is not None or other.seen is not None:
            seen = torch.cat([_seen(self), _seen(other)], dim=1)
        pairs = zip(self[:3], other[:3], strict=True)
        x, y, member = (torch.cat(pair, dim=1) for pair in pairs)
        return self._replace(x=x, y=y, member=member, seen=seen)


def _seen(points: Points) -> Tensor:
    return torch.ones_like(points.member, dtype=torch.bool) if points.seen is None else points.seen


class MemberCode(nn.Module):
    """Tells a sequence by a one-hot code or by a learned vector.

    Args:
        members: Number of sequences.
        dim: Width of a learned vector.
        member_embed: ``learned``, or else one-hot.
    """

    def __init__(self, members: int, dim: int, member_embed: MemberEmbed) -> None:
        super().__init__()
        if members < 1:
            raise ValueError(f"members must be at least 1, got {members}")
        if member_embed not in ("one_hot", "learned", "hidden"):
            raise ValueError(f"member_embed must be one_hot, learned or hidden, got {member_embed!r}")
        self.members = members
        self.learned = nn.Embedding(members, dim) if member_embed == "learned" else None
        self.width = members if self.learned is None else dim

    def forward(self, member: Tensor, like: Tensor) -> Tensor:
        """Codes ``(..., width)`` of sequences ``(...)``, of the number type of ``like``."""
        if self.learned is not None:
            return self.learned(member)
        return F.one_hot(member, self.members).to(like.dtype)


class PlaceFeatures(nn.Module):
    """Shows places as they are, and by sines and cosines of wavelengths 8, 4, 2, ... on an axis of length 4.

    Args:
        fourier: Number of wavelengths.
    """

    def __init__(self, fourier: int) -> None:
        super().__init__()
        if fourier < 0:
            raise ValueError(f"fourier must be at least 0, got {fourier}")
        self.fourier = fourier
        self.width = 1 + 2 * fourier

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(..., width)`` of places ``(...)`` from -2 to 2."""
        doublings = torch.arange(self.fourier, device=x.device, dtype=x.dtype)
        angle = x[..., None] * (2 * pi / LONGEST * 2.0**doublings)
        return torch.cat([x[..., None], angle.sin(), angle.cos()], dim=-1)


class PairTokens(nn.Module):
    """Embeds observations and questions: one token has place, value, sequence and whether the value is known.

    Args:
        dim: Width of a token.
        members: Number of sequences.
        member_embed: How a token tells its sequence: ``one_hot``, or a ``learned`` vector; ``hidden`` = observations do
            not tell, and only questions do.
        fourier: Number of wavelengths at which a place is shown.
    """

    def __init__(self, dim: int, members: int, member_embed: MemberEmbed = "one_hot", fourier: int = 2) -> None:
        super().__init__()
        self.hidden = member_embed == "hidden"
        self.place = PlaceFeatures(fourier)
        self.member = MemberCode(members, dim, member_embed)
        inputs = self.place.width + 2 + self.member.width
        self.mlp = nn.Sequential(nn.Linear(inputs, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, points: Points, known: int) -> Tensor:
        """Embed points.

        Args:
            points: Those whose value is known first, then the questions.
            known: Number of points whose value is known.

        Returns:
            Tokens, ``(batch, points, dim)``.
        """
        observed = (torch.arange(points.x.shape[1], device=points.x.device) < known).to(points.x.dtype)
        code = self.member(points.member, points.x)
        if self.hidden:
            code = code * (1 - observed)[:, None]
        numbers = torch.stack([points.y, observed.expand_as(points.y)], dim=-1)
        return self.mlp(torch.cat([self.place(points.x), numbers, code], dim=-1))
