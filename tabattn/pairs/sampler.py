"""Autoregressive prediction of targets, one after another."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from tabattn.nn.densities import pick


class Sampler(ABC):
    """Protocol of autoregressive prediction: each target given the context and the values appended so far."""

    @abstractmethod
    def step(self, x: Tensor, member: Tensor) -> Distribution:
        """Predict the density of the next target, at location ``x`` of ``member``, each ``(batch,)``."""

    @abstractmethod
    def append(self, y: Tensor) -> None:
        """Append the value ``(batch,)`` of the target of the last ``step``; NaN = no value."""


class Rereading(Sampler):
    """Sampler without a KV cache: a full forward pass for each target; works with any network.

    Args:
        network: Forward pass: densities of targets from locations, values, members and the size of the context.
        x: Locations of the context, ``(batch, context)``.
        y: Values of the context, ``(batch, context)``.
        member: Members of the context, ``(batch, context)``.
    """

    def __init__(self, network: Callable[..., Distribution], x: Tensor, y: Tensor, member: Tensor) -> None:
        self.network = network
        self.x, self.y, self.member = x, y, member

    def step(self, x: Tensor, member: Tensor) -> Distribution:
        known = self.y.shape[1]
        self.x = torch.cat([self.x[:, :known], x[:, None]], dim=1)
        self.member = torch.cat([self.member[:, :known], member[:, None]], dim=1)
        return pick(self.network(self.x, self.y, self.member, known), 0)

    def append(self, y: Tensor) -> None:
        if self.y.shape[1] == self.x.shape[1]:
            raise ValueError("append needs a step before it: no point is waiting for its value")
        self.y = torch.cat([self.y, y[:, None]], dim=1)
