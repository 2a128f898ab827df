"""Gaussian error linear unit as a module."""

from torch import Tensor, nn

from tabattn.contract.activations import gelu


class GELU(nn.GELU):
    """Gaussian error linear unit (GELU) for tensors of many shapes; see ``tabattn.contract.activations.gelu``."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return the GELU of each element."""
        return gelu(x)
