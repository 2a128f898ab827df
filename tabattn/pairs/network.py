"""Abstract base of the networks of sequence pairs."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tabattn.attention import AttentionFactory
from tabattn.contract.batches import Scaling
from tabattn.nn.densities import DensityHead, line_up
from tabattn.pairs.expectations import nearest
from tabattn.pairs.sampler import Rereading, Sampler
from tabattn.pairs.tokens import Points


class PairNetwork(nn.Module, ABC):
    """Reads known points of several sequences and yields a density for each point that is asked for.

    Points come as places ``x``, values ``y`` and sequences ``member``, each ``(batch, points)``, context first; all
    in the data's own units, as are the densities. A context point whose value is NaN is never read.

    A subclass takes ``(attention, target_attention)`` and, by name, options of its own.

    Args:
        dim: Width of what the densities are read from.
        hidden: Width of the hidden layer that reads them.
        members: Number of sequences a task may have.
        components: Gaussians in each density.
        residual: What a mean is counted from, one of ``residuals``.
    """

    family: ClassVar[str] = "networks"
    """What the subclasses are called in messages."""
    one_pass: ClassVar[bool] = False
    """Whether ``chain`` takes a single pass, however many targets there are."""
    residuals: ClassVar[tuple[str, ...]] = ("none", "nearest")
    """What a mean may be counted from: the mean of the data, or the nearest known value of the same sequence."""
    extent: Tensor
    complete: bool = False
    """Whether no value is ever NaN in training. Else each batch is looked through, which waits for a GPU."""

    def __init__(self, dim: int, hidden: int, members: int, components: int, residual: str) -> None:
        super().__init__()
        if residual not in self.residuals:
            raise ValueError(f"residual must be {' or '.join(self.residuals)}, got {residual!r}")
        self.members = members
        self.residual = residual
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


NetworkFactory = Callable[[AttentionFactory, AttentionFactory | None], PairNetwork]
"""Called with ``(attention, target_attention)``; a network's class, or the class with some of its options filled in."""
