"""Seed network: the first network for sequence pairs, with one attention over locations, blind to the member."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from tabattn.attention import AttentionFactory, Softmax
from tabattn.contract.checks import check_least
from tabattn.pairs.network import PairNetwork
from tabattn.pairs.options import DEFAULT_TOKENS, TokenOptions
from tabattn.pairs.place_attention import PlaceAttention
from tabattn.pairs.tnpa import check_ordered
from tabattn.pairs.tokens import MemberCode, PlaceFeatures, Points


class SeedNetwork(PairNetwork):
    """Baseline with location-only attention: the member of a target is used only after attention.

    As attention cannot tell sequences apart, predictions drop from the last known point towards the average of both.
    Differences from the original: scores are not rectified before the softmax, scalar values are not layer-normalised
    (which keeps their sign alone), the likelihood has its full standard deviation term, and locations are Fourier
    features instead of grid cells.

    Args:
        attention: Mechanism from targets to known points, which takes a mask with a row for each query.
        target_attention: Alias of ``attention``; give one of the two.
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the layers after attention.
        layers: Number of layers after the single attention.
        members: Largest number of sequences in a task.
        components: Number of Gaussians in each density; 1 = a single Gaussian.
        residual: Baseline that means are predicted as differences from: ``none`` = the mean of the data; ``nearest`` =
            the nearest known value of the same sequence.
        tokens: Encodings of location and member in targets; known points have no encoding of the member.
    """

    one_pass = True

    def __init__(
        self,
        attention: AttentionFactory = Softmax,
        target_attention: AttentionFactory | None = None,
        *,
        dim: int = 64,
        heads: int = 4,
        hidden: int = 128,
        layers: int = 4,
        members: int = 2,
        components: int = 1,
        residual: Literal["none", "nearest"] = "none",
        tokens: TokenOptions = DEFAULT_TOKENS,
    ) -> None:
        check_least(dim=(dim, 1), layers=(layers, 1), hidden=(hidden, 1))
        if tokens.member_embed == "hidden":
            raise ValueError(
                "member_embed must be one_hot or learned for SeedNetwork, whose context has no labels, got 'hidden'"
            )
        if tokens.fourier is None or tokens.distances:
            raise ValueError(
                "SeedNetwork weighs points by fourier features of locations alone: fourier must be a number and "
                f"distances 0, got {tokens.fourier} and {tokens.distances}"
            )
        super().__init__(hidden, hidden, members, components, residual)
        features = PlaceFeatures(tokens.fourier)
        self.place = nn.Sequential(features, nn.Linear(features.width, dim))
        self.value = nn.Linear(1, dim)
        self.attention = PlaceAttention(dim, heads, target_attention or attention)
        # The command line passes the default as a new factory, so classes are compared, not factories.
        if target_attention is not None and not isinstance(attention(heads, dim // heads), Softmax):
            raise ValueError("SeedNetwork has one attention: give attention or target_attention, not both")
        check_ordered(self.attention.mechanism, "SeedNetwork")
        self.member = MemberCode(members, hidden, learned=tokens.member_embed == "learned")
        self.join = nn.Linear(2 * dim + self.member.width, hidden)
        deeper = [layer for _ in range(layers - 1) for layer in (nn.Linear(hidden, hidden), nn.LeakyReLU())]
        self.mlp = nn.Sequential(nn.LeakyReLU(), *deeper)

    def forward(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        known, asked = self.split(x, y, member, context)
        return self._read(known, asked)

    def density(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        return self.chain(x, y, member, context)

    def chain(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        known, asked = self.split(x, y, member, context)
        told = self.known_points(x[:, context:], y[:, context:], member[:, context:])
        targets = asked.x.shape[1]
        before = torch.ones(targets, targets, dtype=torch.bool, device=x.device).tril(-1)
        visible = torch.cat([before.new_ones(targets, known.x.shape[1]), before], dim=1)
        return self._read(known.followed_by(told), asked, visible)

    def _read(self, known: Points, asked: Points, visible: Tensor | None = None) -> Distribution:
        """Densities of targets, each given the context points that it may see.

        Args:
            known: Points that may be read.
            asked: Points whose value is asked for.
            visible: Which known point each may read, ``(asked, known)``; None = all.
        """
        mask = known.mask if visible is None else visible if known.mask is None else visible & known.mask
        queries, keys = self.place(asked.x), self.place(known.x)
        values = self.value(known.y[..., None])
        mixed = self.attention(queries, keys, values, mask) + _last(values, asked.x.shape[1], mask)
        code = self.member(asked.member, asked.x)
        h = self.mlp(self.join(torch.cat([F.leaky_relu(mixed), queries, code], dim=-1)))
        return self.answer(h, self.expect(known, asked, visible))


def _last(values: Tensor, asked: int, mask: Tensor | None) -> Tensor:
    """Last value among those that each target may see; zeros if it may see none.

    Args:
        values: ``(batch, known, dim)``.
        asked: Number of targets.
        mask: Boolean, broadcastable to ``(batch, 1, asked, known)``; True = may be seen. None = all.

    Returns:
        ``(batch, asked, dim)``.
    """
    batch, known, dim = values.shape
    if mask is None:
        return values[:, -1:].expand(-1, asked, -1)
    mask = mask.reshape(-1, *mask.shape[-2:]).expand(batch, asked, -1)
    last = (mask * torch.arange(1, known + 1, device=mask.device)).amax(-1, keepdim=True)
    found = values.gather(1, (last - 1).clamp(min=0).expand(-1, -1, dim))
    return found.masked_fill(last == 0, 0.0)
