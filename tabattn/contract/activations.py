"""Activation functions of tokenised networks, by stable codes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gelu(x: Tensor) -> Tensor:
    """Gaussian error linear unit (GELU), element by element (Hendrycks and Gimpel 2016).

    On a CPU it is computed by PyTorch itself. oneDNN, which PyTorch hands tensors in their natural order of dimensions,
    keeps an entry for each shape; batches of many shapes would scatter these among their activations, so that freed
    memory could not be used again.
    """
    return F.gelu(x.movedim(-1, 0)).movedim(0, -1) if x.dim() > 1 else F.gelu(x)


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
    "gelu": gelu,
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
