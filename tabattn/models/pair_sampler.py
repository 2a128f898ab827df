"""Walking along a sequence, one point after another."""

from abc import ABC, abstractmethod

from torch import Tensor
from torch.distributions import Distribution


class Sampler(ABC):
    """Walks along the targets of tasks, one at a time, each given the context and the values appended so far."""

    @abstractmethod
    def step(self, x: Tensor, member: Tensor) -> Distribution:
        """The density of the next point, at ``x`` of sequence ``member``, each ``(batch,)``."""

    @abstractmethod
    def append(self, y: Tensor) -> None:
        """Make the value ``(batch,)`` of the point of the last ``step`` known; NaN = the point stays unknown."""
