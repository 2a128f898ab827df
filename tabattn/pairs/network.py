"""Abstract base class of networks of sequence pairs."""

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
    """Abstract network that predicts a density for each target from context points of several sequences.

    Points are given by location ``x``, value ``y`` and ``member``, each ``(batch, points)``, context first, in the
    data's own units, as are the densities. A context point whose value is NaN is ignored.

    A subclass takes ``(attention, target_attention)`` and, by name, options of its own.

    Args:
        dim: Width of the input of the density head.
        hidden: Width of the hidden layer of the density head.
        members: Largest number of sequences in a task.
        components: Number of Gaussians in each density.
        residual: Baseline that means are predicted as differences from, one of ``residuals``.
    """

    family: ClassVar[str] = "networks"
    """Plural noun for the subclasses, in messages."""
    one_pass: ClassVar[bool] = False
    """Whether ``chain`` takes a single pass for any number of targets."""
    residuals: ClassVar[tuple[str, ...]] = ("none", "nearest")
    """Baselines of predicted means: the mean of the data, or the nearest value of the same sequence."""
    extent: Tensor
    complete: bool = False
    """Whether training has no NaN among its values; otherwise each batch is checked, which synchronises with a GPU."""

    def __init__(self, dim: int, hidden: int, members: int, components: int, residual: str) -> None:
        super().__init__()
        if residual not in self.residuals:
            raise ValueError(f"residual must be {' or '.join(self.residuals)}, got {residual!r}")
        self.members = members
        self.residual = residual
        self.head = DensityHead(dim, hidden, components)
        self.register_buffer("extent", torch.tensor(Scaling()))

    def scale(self, scaling: Scaling) -> None:
        """Set the units of the data, which are part of the state."""
        if not scaling.x_low < scaling.x_high:
            raise ValueError(f"x_high must be above x_low, got {scaling.x_low} and {scaling.x_high}")
        if not scaling.y_std > 0:
            raise ValueError(f"y_std must be above 0, got {scaling.y_std}")
        self.extent.copy_(torch.tensor(scaling))

    @property
    def scaling(self) -> Scaling:
        """Units of the data, as set by ``scale``."""
        return Scaling(*self.extent.tolist())

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        """Predict the density of each target given the context alone.

        Args:
            x: Locations, ``(batch, points)``.
            y: Values, ``(batch, at least context)``; those of targets are not read.
            member: Members, ``(batch, points)`` long.
            context: Number of leading points that are context; may be 0.

        Returns:
            A Normal or a MixtureSameFamily of Normals, of batch shape ``(batch, targets)``.
        """

    def chain(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        """Predict the density of each target given the context and the true values of the targets before it.

        By the chain rule, the sum of their log-densities is the joint log-density of all targets. A target whose value
        is NaN is ignored by later targets.
        """
        sampler = self.sampler(x, y, member, context)
        densities = []
        for i in range(context, x.shape[1]):
            densities.append(sampler.step(x[:, i], member[:, i]))
            sampler.append(y[:, i])
        return line_up(densities)

    def density(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        """Predict the density of each target whose likelihood training maximises."""
        return self(x, y, member, context)

    def sampler(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Sampler:
        """Start autoregressive prediction from the first ``context`` points."""
        return Rereading(self, x[:, :context], y[:, :context], member[:, :context])

    def known_points(self, x: Tensor, y: Tensor, member: Tensor) -> Points:
        """Context points; if there are none, a single masked one, as attention needs at least one key."""
        if not x.shape[1]:
            nothing = x.new_zeros(len(x), 1)
            return Points(nothing, nothing, nothing.long(), nothing.bool())
        _, _, centre, spread = self.extent
        y = (y - centre) / spread
        if (self.complete and self.training) or not (missing := y.isnan()).any():
            return Points(self._standardised(x), y, member)
        x = self._standardised(x).masked_fill(missing, 0.0)
        return Points(x, y.masked_fill(missing, 0.0), member.masked_fill(missing, 0), ~missing)

    def asked_points(self, x: Tensor, member: Tensor) -> Points:
        """Target points, without values."""
        return Points(self._standardised(x), torch.zeros_like(x), member)

    def expect(self, known: Points, asked: Points, visible: Tensor | None = None) -> Points:
        """Target points, with the baseline of their means as values.

        Args:
            known: Points with known values.
            asked: Points to predict.
            visible: Which known points each may read, boolean, broadcastable to ``(batch, asked, known)``; None = all.
        """
        if self.residual == "none":
            return asked
        return asked._replace(y=nearest(known, asked, visible))

    def split(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> tuple[Points, Points]:
        """Split points into the context, and the targets without their values."""
        if not 0 <= context < x.shape[1]:
            raise ValueError(f"context must be at least 0 and below the number of points ({x.shape[1]}), got {context}")
        known = self.known_points(x[:, :context], y[:, :context], member[:, :context])
        return known, self.asked_points(x[:, context:], member[:, context:])

    def _standardised(self, x: Tensor) -> Tensor:
        low, high, _, _ = self.extent
        return (x - low) * (4 / (high - low)) - 2

    def answer(self, tokens: Tensor, asked: Points) -> Distribution:
        """Predict the densities of targets from their tokens ``(batch, targets, any)``."""
        _, _, centre, spread = self.extent
        return self.head(tokens, asked.y, centre, spread)


NetworkFactory = Callable[[AttentionFactory, AttentionFactory | None], PairNetwork]
"""Called with ``(attention, target_attention)``; a network's class, or the class with some of its options filled in."""
