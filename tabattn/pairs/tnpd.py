"""TNP-D: transformer neural process with independent targets."""

from collections.abc import Iterable
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tabattn.attention import AttentionFactory, Mechanism, Softmax
from tabattn.contract.checks import check_least
from tabattn.nn.block import Block, Norm, row_block
from tabattn.pairs.expectations import levels, parallel
from tabattn.pairs.network import PairNetwork
from tabattn.pairs.options import DEFAULT_TOKENS, TokenOptions
from tabattn.pairs.tokens import PairTokens, Points


class TNPD(PairNetwork):
    """Transformer neural process with independent targets: context attends to itself, targets to the context.

    Nguyen and Grover 2022 (arXiv 2207.04179), TNP-D, with Fourier features of locations and the sequence in every
    token.

    Args:
        attention: Mechanism between context points, and from targets to them where it can answer queries from outside.
        target_attention: Mechanism from targets to context points; None = ``attention`` where it can answer queries
            from outside, else Softmax.
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the hidden layer of each MLP.
        layers: Number of layers.
        members: Largest number of sequences in a task.
        components: Number of Gaussians in each density; 1 = a single Gaussian.
        residual: Baseline that means are predicted as differences from: ``none`` = the mean of the data; ``nearest`` =
            the nearest known value of the same sequence; ``parallel`` = the other sequences, shifted to the level of
            its known values.
        tokens: Encodings of location and member in tokens, and the distance bias of attention.
        centred: Whether to subtract the mean of the known values of each sequence from its values, and to predict
            differences from it, which makes predictions equivariant to a shift of a sequence.
        norm: Layer normalisation of each layer: ``after`` = post-norm, ``before`` = pre-norm.
    """

    residuals: ClassVar[tuple[str, ...]] = ("none", "nearest", "parallel")

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
        residual: Literal["none", "nearest", "parallel"] = "none",
        tokens: TokenOptions = DEFAULT_TOKENS,
        centred: bool = False,
        norm: Norm = "after",
    ) -> None:
        check_least(dim=(dim, 1), layers=(layers, 1), hidden=(hidden, 1))
        super().__init__(dim, hidden, members, components, residual)
        for what, asked in ((f"residual {residual}", residual != "none"), ("centred", centred)):
            if asked and tokens.member_embed == "hidden":
                raise ValueError(f"{what} reads the labels of the context, which member_embed hidden hides")
        self.centred = centred
        self.tokens = PairTokens(dim, members, tokens)
        self.blocks = nn.ModuleList(
            row_block(
                dim,
                heads,
                hidden,
                attention,
                target_attention,
                readout=last,
                norm=norm,
                waves=tokens.distances,
                relative=tokens.relative,
            )
            for last in [False] * (layers - 1) + [True]
        )
        if layers == 1:
            _check_used(attention(heads, dim // heads), target_attention)

    def forward(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        known, asked = self.split(x, y, member, context)
        level = torch.zeros_like(asked.y)
        if self.centred:
            height = levels(known, self.tokens.member.members)
            known = known._replace(y=known.y - height.gather(1, known.member))
            level = height.gather(1, asked.member)
        asked = self.expect(known, asked)
        count = known.x.shape[1]
        points = known.followed_by(asked)
        h, locations = self.tokens(points, count), self.tokens.waves(points.x)
        for block in self.layers():
            h = block(h, count, known.mask, locations=locations)
        return self.answer(h, asked._replace(y=asked.y + level))

    def expect(self, known: Points, asked: Points, visible: Tensor | None = None) -> Points:
        if self.residual != "parallel":
            return super().expect(known, asked, visible)
        return asked._replace(y=parallel(known, asked, self.tokens.member.members))

    def layers(self) -> Iterable[Block]:
        return cast("Iterable[Block]", self.blocks)


def _check_used(mechanism: Mechanism, target_attention: AttentionFactory | None) -> None:
    """Refuse a mechanism between context points that a single layer would not use."""
    if (target_attention is not None or not mechanism.cross) and not isinstance(mechanism, Softmax):
        raise ValueError(f"layers must be at least 2 for attention {type(mechanism).__name__}, got 1")
