"""Weights of a network: what of its state has a name and a shape that its arguments determine."""

from collections.abc import Mapping

from torch import Tensor

EXTRA = "_extra_state"
"""End of the names under which PyTorch keeps what ``get_extra_state`` returns: of any shape, and not in all files."""


def of_fixed_shape(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return parameters and buffers of a state, without extra state such as the rows that a process keeps."""
    return {name: value for name, value in state.items() if not name.endswith(EXTRA)}
