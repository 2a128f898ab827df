"""Checks for NaN and infinity in state dictionaries."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

WEIGHTS = ("state_dict", "current_model_state")
"""Entries of a checkpoint that hold weights: those to use, and beside an average those that are trained."""


def first_non_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity; None if all are finite.

    Args:
        tensors: Tensors by name, of any shape and dtype; one synchronisation with their device.
    """
    floats = [(name, value) for name, value in tensors if value.is_floating_point() or value.is_complex()]
    if not floats:
        return None
    device = floats[0][1].device
    finite = torch.stack([value.detach().isfinite().all().to(device) for _, value in floats])
    return next((name for (name, _), good in zip(floats, finite.tolist(), strict=True) if not good), None)


def non_finite_weight(module: nn.Module, state: Mapping[str, Any]) -> str | None:
    """Return the name of the first non-finite parameter in a state dictionary; None if all are finite.

    Buffers are not checked, as one may rightly hold infinity, such as an additive mask.

    Args:
        module: Module of the state dictionary.
        state: Its state dictionary, by the same names.
    """
    names = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return first_non_finite((name, value) for name, value in state.items() if name in names and _is_tensor(value))


def non_finite_in_checkpoint(module: nn.Module, checkpoint: Mapping[str, Any]) -> str | None:
    """Return the name of the first non-finite parameter in any of a checkpoint's state dictionaries."""
    found = (non_finite_weight(module, checkpoint[key]) for key in WEIGHTS if isinstance(checkpoint.get(key), Mapping))
    return next((name for name in found if name is not None), None)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)
