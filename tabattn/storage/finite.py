"""Non-finite weights: found in state dictionaries, whoever writes or reads them."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

WEIGHTS = ("state_dict", "current_model_state")
"""Entries of a checkpoint that hold weights: those to use, and beside an average those that are trained."""


def first_non_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity; None where all numbers are finite.

    Args:
        tensors: Tensors by name, of any shape and type; waits for their device once.
    """
    floats = [(name, value) for name, value in tensors if value.is_floating_point() or value.is_complex()]
    if not floats:
        return None
    device = floats[0][1].device
    finite = torch.stack([value.detach().isfinite().all().to(device) for _, value in floats])
    return next((name for (name, _), good in zip(floats, finite.tolist(), strict=True) if not good), None)


def non_finite_weight(module: nn.Module, state: Mapping[str, Any]) -> str | None:
    """Return the first parameter of a module that is not finite in a state dictionary; None where all are.

    Buffers are left alone: a mask of -inf is a legitimate one.

    Args:
        module: Whose parameters they are.
        state: Its state dictionary, by the same names.
    """
    names = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return first_non_finite((name, value) for name, value in state.items() if name in names and _is_tensor(value))


def non_finite_in_checkpoint(module: nn.Module, checkpoint: Mapping[str, Any]) -> str | None:
    """Return the first parameter of a module that is not finite in one of a checkpoint's sets of weights."""
    found = (non_finite_weight(module, checkpoint[key]) for key in WEIGHTS if isinstance(checkpoint.get(key), Mapping))
    return next((name for name in found if name is not None), None)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)
