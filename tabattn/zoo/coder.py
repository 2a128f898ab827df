"""Abstract base class of networks that encode networks to latents and decode them, and what they exchange."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabattn.attention import AttentionFactory
from tabattn.contract.activations import ACTIVATIONS
from tabattn.contract.checks import check_least
from tabattn.contract.networks import NeuronTokens

TYPES = len(ACTIVATIONS)
FLAGS = 8


class RoomError(ValueError):
    """Networks or tasks are larger than there is room for: the message names the option."""


@dataclass(frozen=True)
class Sizes:
    """Room for networks and tasks; a larger one is refused.

    Args:
        vertices: Most vertices of a network, inputs among them.
        levels: Most levels of a network, that of its inputs among them.
        width: Most vertices of a level.
        inputs: Most inputs.
        meta: Most meta-features of a task.
    """

    vertices: int = 64
    levels: int = 8
    width: int = 32
    inputs: int = 16
    meta: int = 64

    def __post_init__(self) -> None:
        least = {"vertices": 2, "levels": 2, "width": 1, "inputs": 1, "meta": 0}
        check_least(**{f"sizes.{name}": (getattr(self, name), bound) for name, bound in least.items()})

    def check(self, tokens: NeuronTokens) -> None:
        """Check that networks fit.

        Raises:
            RoomError: One does not.
        """
        first = (tokens.level == 0) & tokens.mask
        counted = tokens.mask.sum(1), tokens.level.flatten() + 1, tokens.place.flatten() + 1, first.sum(1)
        if not tokens.mask.numel():
            return
        # At once, as each number would wait for the device.
        needs = torch.stack([each.max() for each in counted]).tolist()
        for name, needed in zip(("vertices", "levels", "width", "inputs"), needs, strict=True):
            if needed > getattr(self, name):
                raise RoomError(f"sizes.{name} must be at least {needed} for these networks, got {getattr(self, name)}")


DEFAULT_SIZES = Sizes()


class Posterior(NamedTuple):
    """Gaussian posterior of latents given networks.

    Attributes:
        mean: Means, ``(networks, latent)``.
        log_variance: Logarithms of variances, of that shape.
    """

    mean: Tensor
    log_variance: Tensor

    def drawn(self) -> Tensor:
        """Draw latents."""
        return self.mean + torch.randn_like(self.mean) * (0.5 * self.log_variance).exp()


class Architecture(NamedTuple):
    """Logits of architectures.

    Attributes:
        presence: Of there being a vertex, ``(networks, tokens)``.
        type: Of activation functions, ``(networks, tokens, types)``.
        level: Of levels, ``(networks, tokens, levels)``.
        flags: Of flags, ``(networks, tokens, 8)``.
        pair: Of an edge from parent to child, ``(networks, tokens, tokens)``: row = child, column = parent.
        rise: What the levels of child and parent add to these, ``(levels, levels)``.
    """

    presence: Tensor
    type: Tensor
    level: Tensor
    flags: Tensor
    pair: Tensor
    rise: Tensor

    def edges(self, level: Tensor) -> Tensor:
        """Logits of edges between vertices of given levels, ``(networks, tokens, tokens)``."""
        return self.pair + self.rise[level[:, :, None], level[:, None, :]]


class TaskRows(NamedTuple):
    """What is known of the task of each network.

    Attributes:
        meta: Scaled meta-features, ``(networks, features)``.
        x: Rows, ``(networks, rows, inputs)``; NaN = not there.
        y: Targets, ``(networks, rows, outputs)``; NaN = a row that is not there.
    """

    meta: Tensor
    x: Tensor
    y: Tensor


class NetworkCoder(nn.Module, ABC):
    """Abstract variational autoencoder of networks.

    A subclass takes ``(sizes, attention)`` and, by name, options of its own, among them ``latent``.

    Args:
        sizes: Room for networks.
        latent: Width of a latent.
        told: Width of what ``tell`` returns.
        leading: Number of leading dimensions of the latent that the architecture is decoded from, and the weights are
            not; 0 = both are decoded from all of it.
    """

    family: ClassVar[str] = "networks"
    """Plural noun for the subclasses, in messages."""
    statistics: Tensor

    def __init__(self, sizes: Sizes, latent: int, told: int = 0, leading: int = 0) -> None:
        super().__init__()
        check_least(latent=(latent, 1))
        self.sizes = sizes
        self.latent = latent
        self.leading = leading
        self.told = told
        # Rows: means and standard deviations of weights, then of biases; columns: levels.
        self.register_buffer("statistics", torch.tensor([0.0, 1.0, 0.0, 1.0])[:, None].repeat(1, sizes.levels))

    @torch.no_grad()
    def begin(self, tokens: NeuronTokens) -> None:
        """Measure means and standard deviations of weights and biases by level, once before a training."""
        biased = (tokens.flags & 2) > 0
        weighted = tokens.edge & ((tokens.flags & 1) > 0)[:, :, None]
        for level in range(1, self.sizes.levels):
            here = tokens.level == level
            for row, values in ((0, tokens.weight[weighted & here[:, :, None]]), (2, tokens.bias[biased & here])):
                if len(values) > 1:
                    self.statistics[row, level] = values.mean()
                    self.statistics[row + 1, level] = values.std().clamp(min=1e-3)

    def standardised(self, tokens: NeuronTokens) -> tuple[Tensor, Tensor]:
        """Weights ``(networks, tokens, tokens)`` and biases ``(networks, tokens)`` in units of their level."""
        mean, std, bias_mean, bias_std = self.statistics[:, tokens.level]
        weighted = tokens.edge & ((tokens.flags & 1) > 0)[:, :, None]
        weight = torch.where(weighted, (tokens.weight - mean[..., None]) / std[..., None], 0.0)
        return weight, torch.where((tokens.flags & 2) > 0, (tokens.bias - bias_mean) / bias_std, 0.0)

    def with_weights(self, tokens: NeuronTokens, weight: Tensor, bias: Tensor) -> NeuronTokens:
        """Networks with other weights and biases, which are given in units of their level."""
        mean, std, bias_mean, bias_std = self.statistics[:, tokens.level]
        weighted = tokens.edge & ((tokens.flags & 1) > 0)[:, :, None]
        weight = torch.where(weighted, weight.float() * std[..., None] + mean[..., None], tokens.edge.float())
        bias = torch.where((tokens.flags & 2) > 0, bias.float() * bias_std + bias_mean, 0.0)
        return tokens._replace(weight=weight, bias=bias)

    def tell(self, task: TaskRows) -> Tensor:
        """What the network is told of tasks, ``(networks, told)``."""
        return task.meta.new_zeros(len(task.meta), 0)

    def sites(self) -> dict[str, int]:
        """Number of the first neuron among the tokens of each mechanism between neurons, by module path."""
        return {}

    @abstractmethod
    def encode(self, tokens: NeuronTokens) -> Posterior:
        """Posterior of the latents of networks."""

    @abstractmethod
    def architecture(self, latent: Tensor, told: Tensor, tokens: int) -> Architecture:
        """Decode latents ``(networks, latent)`` to architectures of at most so many vertices.

        Args:
            latent: Latents.
            told: What is told of the tasks, ``(networks, told)``.
            tokens: Room of each network.
        """

    @abstractmethod
    def weights(self, latent: Tensor, told: Tensor, tokens: NeuronTokens) -> tuple[Tensor, Tensor]:
        """Decode latents to the weights of given architectures, in units of their level.

        Args:
            latent: Latents.
            told: What is told of the tasks, ``(networks, told)``.
            tokens: Architectures, whose weights are not read.

        Returns:
            Weights ``(networks, tokens, tokens)`` and biases ``(networks, tokens)``.
        """


NetworkFactory = Callable[[Sizes, AttentionFactory], NetworkCoder]
"""Called with ``(sizes, attention)``; a class, or one with some options filled in."""


def padded(values: Tensor, size: int, name: str = "size") -> Tensor:
    """Pad the last dimension with zeros.

    Args:
        values: Values.
        size: Room for them.
        name: Name of the option that gives the room, for the message.

    Raises:
        RoomError: There are more values.
    """
    if values.shape[-1] > size:
        raise RoomError(f"{name} must be at least {values.shape[-1]} for these tasks, got {size}")
    return F.pad(values, (0, size - values.shape[-1]))
