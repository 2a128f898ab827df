"""Activation functions of tokenised networks, by stable codes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Sine(nn.Module):
    """Sine, element by element (Sitzmann et al. 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the sine of each element."""
        return x.sin()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "silu": F.silu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "softplus": F.softplus,
    "sine": torch.sin,
}
"""Activation functions by name, each with the default options of its module; the place in it is the code in files."""

CODES = {name: code for code, name in enumerate(ACTIVATIONS)}

MODULES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "sine": Sine,
}
"""Modules of the activation functions but the identity, which needs none."""
