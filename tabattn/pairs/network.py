"""Networks that complete a sequence from what is known of it and of its companions: the base, and TNP-D."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tabattn.attention import AttentionFactory, Mechanism, Softmax
from tabattn.contract.batches import Scaling
from tabattn.nn.block import Norm, RowBlock
from tabattn.nn.densities import DensityHead, line_up
from tabattn.pairs.expectations import levels, nearest, parallel
from tabattn.pairs.sampler import Rereading, Sampler
from tabattn.pairs.tokens import MemberEmbed, PairTokens, Points

Residual = Literal["none", "nearest", "parallel"]


class PairNetwork(nn.Module, ABC):
    """Reads known points of several sequences and yields a density for each point that is asked for.

    Points come as places ``x``, values ``y`` and sequences ``member``, each ``(batch, points)``, context first; all
    in the data's own units, as are the densities. A context point whose value is NaN is never read.

    Args:
        dim: Width of what the densities are read from.
        hidden: Width of the hidden layer that reads them.
        components: Gaussians in each density.
        residual: What a mean is counted from: ``none`` = the mean of the data; ``nearest`` = the nearest known value of
            the same sequence; ``parallel`` = the other sequences, moved to the height of its known values.
        member_embed: How a token tells its sequence.
        centred: Whether values are read, and told, as distances from the mean of what is known of their sequence.
    """

    one_pass: ClassVar[bool] = False
    """Whether ``chain`` takes a single pass, however many targets there are."""
    extent: Tensor
    complete: bool = False
    """Whether no value is ever NaN in training. Else each batch is looked through, which waits for a GPU."""

    def __init__(
        self,
        dim: int,
        hidden: int,
        components: int,
        residual: Residual,
        member_embed: MemberEmbed,
        centred: bool = False,
    ) -> None:
        super().__init__()
        if residual not in ("none", "nearest", "parallel"):
            raise ValueError(f"residual must be none, nearest or parallel, got {residual!r}")
        if residual != "none" and member_embed == "hidden":
            raise ValueError(f"residual {residual} reads the labels of the context, which member_embed hidden hides")
        if centred and member_embed == "hidden":
            raise ValueError("centred reads the labels of the context, which member_embed hidden hides")
        if (centred or residual == "parallel") and self.one_pass:
            what = "centred" if centred else "residual parallel"
            raise ValueError(f"{what} needs a network that reads the context alone, such as tnpd")
        self.residual = residual
        self.centred = centred
        self.head = DensityHead(dim, hidden, components)
        self.register_buffer("extent", torch.tensor(Scaling()))

    def scale(self, scaling: Scaling) -> None:
        """Fix the units of the data; part of the state."""
        if not scaling.x_low < scaling.x_high:
            raise ValueError(f"x_high must be above x_low, got {scaling.x_low} and {scaling.x_high}")
        if not scaling.y_std > 0:
            raise ValueError(f"y_std must be above 0, got {scaling.y_std}")
        self.extent.copy_(torch.tensor(scaling))

    @property
    def scaling(self) -> Scaling:
        """The units of the data, as fixed by ``scale``."""
        return Scaling(*self.extent.tolist())

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        """The density of each target given the context alone.

        Args:
            x: Places, ``(batch, points)``.
            y: Values, ``(batch, at least context)``; those of targets are not read.
            member: Sequences, ``(batch, points)`` long.
            context: Number of leading points whose value is known; 0 = nothing is known.

        Returns:
            A Normal or a MixtureSameFamily of Normals, of batch shape ``(batch, targets)``.
        """

    def chain(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        """The density of each target given the context and the true values of the targets before it.

        The sum of their log-densities is the log-density of all targets together. A target whose value is NaN is not
        read by those behind it.
        """
        sampler = self.sampler(x, y, member, context)
        densities = []
        for i in range(context, x.shape[1]):
            densities.append(sampler.step(x[:, i], member[:, i]))
            sampler.append(y[:, i])
        return line_up(densities)

    def density(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        """The density of each target that training maximises."""
        return self(x, y, member, context)

    def sampler(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Sampler:
        """Start from the first ``context`` points to walk along targets that need not be known in advance."""
        return Rereading(self, x[:, :context], y[:, :context], member[:, :context])

    def known_points(self, x: Tensor, y: Tensor, member: Tensor) -> Points:
        """Points that may be read; always at least one, hidden where there is none."""
        if not x.shape[1]:
            nothing = x.new_zeros(len(x), 1)
            return Points(nothing, nothing, nothing.long(), nothing.bool())
        _, _, centre, spread = self.extent
        y = (y - centre) / spread
        if (self.complete and self.training) or not (missing := y.isnan()).any():
            return Points(self._place(x), y, member)
        x = self._place(x).masked_fill(missing, 0.0)
        return Points(x, y.masked_fill(missing, 0.0), member.masked_fill(missing, 0), ~missing)

    def asked_points(self, x: Tensor, member: Tensor) -> Points:
        """Points whose value is asked for."""
        return Points(self._place(x), torch.zeros_like(x), member)

    def expect(self, known: Points, asked: Points, visible: Tensor | None = None) -> Points:
        """The points that are asked for, with what their means are counted from.

        Args:
            known: Points that may be read.
            asked: Points whose value is asked for.
            visible: Which known point each may read, broadcastable to ``(batch, asked, known)``; None = all.
        """
        if self.residual == "none":
            return asked
        return asked._replace(y=nearest(known, asked, visible))

    def split(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> tuple[Points, Points]:
        """The context, and the targets without their values."""
        if not 0 <= context < x.shape[1]:
            raise ValueError(f"context must be at least 0 and below the number of points ({x.shape[1]}), got {context}")
        known = self.known_points(x[:, :context], y[:, :context], member[:, :context])
        return known, self.asked_points(x[:, context:], member[:, context:])

    def _place(self, x: Tensor) -> Tensor:
        low, high, _, _ = self.extent
        return (x - low) * (4 / (high - low)) - 2

    def answer(self, tokens: Tensor, asked: Points) -> Distribution:
        """Read the densities of targets from their tokens ``(batch, targets, any)``."""
        _, _, centre, spread = self.extent
        return self.head(tokens, asked.y, centre, spread)


class TNPD(PairNetwork):
    """Transformer neural process with independent targets: known points read one another, targets read known points.

    Nguyen and Grover 2022 (arXiv 2207.04179), TNP-D, with Fourier features of places and the sequence in every
    token.

    Args:
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the hidden layer of each MLP.
        layers: Number of layers.
        members: Number of sequences a task may have.
        attention: Mechanism between known points, and from targets to them where it can.
        target_attention: Mechanism from targets to known points; None = ``attention`` where it can answer queries from
            outside, else Softmax.
        components: Gaussians in each density; 1 = a plain Gaussian.
        residual: What a mean is counted from: ``none`` = the mean of the data; ``nearest`` = the nearest known value of
            the same sequence; ``parallel`` = the other sequences, moved to the height of its known values.
        member_embed: How a token tells its sequence: ``one_hot``, or a ``learned`` vector; ``hidden`` = known points do
            not tell, so that attention cannot follow a sequence.
        fourier: Wavelengths at which a place is shown, from twice the axis down by halves.
        centred: Whether values are read, and told, as distances from the mean of what is known of their sequence:
            answers then move with each sequence, whatever height it has reached.
        norm: Whether each layer normalises its sums (``after``) or what it reads (``before``).
    """

    def __init__(
        self,
        dim: int = 64,
        heads: int = 4,
        hidden: int = 128,
        layers: int = 6,
        members: int = 2,
        attention: AttentionFactory = Softmax,
        target_attention: AttentionFactory | None = None,
        components: int = 1,
        residual: Residual = "none",
        member_embed: MemberEmbed = "one_hot",
        fourier: int = 2,
        centred: bool = False,
        norm: Norm = "after",
    ) -> None:
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        if hidden < 1:
            raise ValueError(f"hidden must be at least 1, got {hidden}")
        super().__init__(dim, hidden, components, residual, member_embed, centred)
        self.tokens = PairTokens(dim, members, member_embed, fourier)
        self.blocks = nn.ModuleList(
            RowBlock(dim, heads, hidden, attention, target_attention, readout=last, norm=norm)
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
        h = self.tokens(known.followed_by(asked), count)
        for block in self.layers():
            h = block(h, count, known.mask)
        return self.answer(h, asked._replace(y=asked.y + level))

    def expect(self, known: Points, asked: Points, visible: Tensor | None = None) -> Points:
        if self.residual != "parallel":
            return super().expect(known, asked, visible)
        return asked._replace(y=parallel(known, asked, self.tokens.member.members))

    def layers(self) -> Iterable[RowBlock]:
        return cast("Iterable[RowBlock]", self.blocks)


def _check_used(mechanism: Mechanism, target_attention: AttentionFactory | None) -> None:
    """With one layer nothing reads the known points' own attention: refuse a choice that would go unused."""
    if (target_attention is not None or not mechanism.cross) and not isinstance(mechanism, Softmax):
        raise ValueError(f"layers must be at least 2 for attention {type(mechanism).__name__}, got 1")
