"""Relative locations in attention: distance bias of scores, and rotation of values."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Mechanism


class DistanceBias(nn.Module):
    """Distance bias: each head adds a learned function of ``|x - x'|`` to its scores.

    The function is a cosine series, ``sum_w a_w cos(2 pi (x - x') / w)`` over wavelengths w with learned amplitudes,
    which are 0 at first. As ``cos(s - t) = cos s cos t + sin s sin t``, it is an inner product of Fourier features:
    those of a key are appended to the key, and those of a query, times the amplitudes, to the query. So any mechanism
    that compares queries with keys serves as it is, a fused kernel too, and memory stays that of the mechanism.

    Cf. the bias of BSA-TNP (Jenson et al. 2025, arXiv 2506.09163), a sum of Gaussians of the distance.

    Args:
        heads: Number of heads.
        head_dim: Width of queries and keys without features.
        waves: Number of wavelengths.
    """

    def __init__(self, heads: int, head_dim: int, waves: int) -> None:
        super().__init__()
        self.amplitude = nn.Parameter(torch.zeros(heads, waves))
        self.whole = (head_dim + 2 * waves) ** 0.5
        self.stretch = self.whole / head_dim**0.5

    def queries(self, q: Tensor, locations: Tensor) -> Tensor:
        """Append location features to queries.

        Mechanisms divide scores by the square root of the whole width, which the factors here make up for.

        Args:
            q: ``(batch, heads, queries, head_dim)``.
            locations: Cosines, then sines, of the queries' locations, ``(batch, queries, 2 waves)``.

        Returns:
            ``(batch, heads, queries, head_dim + 2 waves)``.
        """
        factor = self.whole * self.amplitude.repeat(1, 2)
        return torch.cat([q * self.stretch, (locations[:, None] * factor[:, None]).to(q.dtype)], dim=-1)

    def keys(self, k: Tensor, locations: Tensor) -> Tensor:
        """Append location features ``(batch, keys, 2 waves)`` to keys ``(batch, heads, keys, head_dim)``."""
        return torch.cat([k, locations[:, None].expand(-1, k.shape[1], -1, -1).to(k.dtype)], dim=-1)


def rotated(values: Tensor, locations: Tensor, back: bool = False) -> Tensor:
    """Rotary embedding of values: each pair of features is rotated by an angle proportional to the location.

    Where outputs are rotated back by the locations of their queries, a value arrives rotated by ``x - x'``: mechanisms
    are linear in values, so a query reads *where* a value lies relative to itself. Cf. Su et al. 2021 (arXiv
    2104.09864), who rotate queries and keys, and Miyato et al. 2024 (arXiv 2310.10375), who rotate values too.

    Args:
        values: ``(batch, heads, rows, head_dim)``; the last feature of an odd width stays as it is.
        locations: Cosines, then sines, of the rows' locations, ``(batch, rows, 2 waves)``, from which pairs of
            features take their wavelengths at equal intervals.
        back: Whether to rotate in the opposite direction.
    """
    pairs, waves = values.shape[-1] // 2, locations.shape[-1] // 2
    chosen = torch.arange(pairs, device=values.device) * waves // pairs
    cosine, sine = (part[:, None, :, chosen].to(values.dtype) for part in locations.split(waves, dim=-1))
    sine = -sine if back else sine
    first, second, rest = values.split([pairs, pairs, values.shape[-1] - 2 * pairs], dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine, rest], dim=-1)


def widened(attention: AttentionFactory, features: int) -> Callable[[int, int], Mechanism]:
    """Factory of a mechanism whose queries and keys have further features.

    Raises:
        ValueError: When it is called, if the mechanism does not read its keys.
    """

    def make(heads: int, head_dim: int) -> Mechanism:
        mechanism = attention(heads, head_dim + features)
        if not mechanism.reads_keys:
            name = type(mechanism).__name__
            raise ValueError(f"a distance bias needs a mechanism that reads its keys, {name} does not")
        return mechanism

    return make
