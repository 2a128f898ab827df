"""Walking along a sequence, one point after another."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from tabattn.nn.densities import pick


class Sampler(ABC):
    """Walks along the targets of tasks, one at a time, each given the context and the values appended so far."""

    @abstractmethod
    def step(self, x: Tensor, member: Tensor) -> Distribution:
        """The density of the next point, at ``x`` of sequence ``member``, each ``(batch,)``."""

    @abstractmethod
    def append(self, y: Tensor) -> None:
        """Make the value ``(batch,)`` of the point of the last ``step`` known; NaN = the point stays unknown."""


class Rereading(Sampler):
    """Reads all that is known again for each target: right for every network.

    Args:
        network: What is asked: densities of targets by places, values, sequences and number of context points.
        x: Places of the context, ``(batch, context)``.
        y: Its values.
        member: Its sequences.
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
