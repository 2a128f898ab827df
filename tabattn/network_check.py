"""Validation of a file's description of a network against its weights, before anything of the declared size is made."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SIZES = ("dim", "heads", "hidden", "layers", "classes", "thinking_rows", "feature_group")
"""Arguments of ``PriorNetwork`` that must be whole numbers."""

OPTIONAL = ("thinking_rows", "feature_group")
"""Those that may be None."""


def check_network(arguments: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Check that arguments of ``PriorNetwork`` are of the right types and that their sizes are those of its weights.

    Args:
        arguments: As read from a file.
        weights: All weights of the network, by name.

    Raises:
        ValueError: They do not fit together. The message names the value and the bound.
    """
    for name in SIZES:
        value = arguments.get(name)
        known = name not in arguments or (value is None and name in OPTIONAL)
        if not known and (type(value) is not int or value < 0):
            raise ValueError(f"{name} must be a whole number, got {_shortened(value)}")
    for name, found in _measured(weights).items():
        value = arguments.get(name)
        if value is not None and value != found:
            raise ValueError(f"{name} is {_shortened(value)}, but the weights have {found}")
    heads, dim = arguments.get("heads", 1), arguments.get("dim", 1)
    if not 1 <= heads <= max(dim, 1):
        raise ValueError(f"heads must be between 1 and dim ({dim}), got {heads}")


def check_shapes(network: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Check the names and shapes of weights against a network, which may be on the device ``meta``.

    Raises:
        ValueError: They are not the network's.
    """
    needed = network.state_dict()
    for difference, word in (
        (needed.keys() - weights.keys(), "missing"),
        (weights.keys() - needed.keys(), "unexpected"),
    ):
        if difference:
            raise ValueError(f"{len(difference)} weights are {word}, such as {min(difference)}")
    for name, value in needed.items():
        if value.shape != weights[name].shape:
            raise ValueError(f"weight {name} has the shape {tuple(weights[name].shape)}, not {tuple(value.shape)}")
        if value.is_floating_point() != weights[name].is_floating_point():
            raise ValueError(f"weight {name} is of the type {weights[name].dtype}, not {value.dtype}")


def _measured(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Sizes of a network as its weights have them; those that are not there are left out."""
    blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    found = {"layers": len(blocks)}
    first, last, thinking = (weights.get(name) for name in ("decoder.0.weight", "decoder.2.weight", "thinking"))
    if first is not None and first.ndim == 2:
        found |= {"hidden": first.shape[0], "dim": first.shape[1]}
    if last is not None and last.ndim == 2:
        found["classes"] = last.shape[0]
    if thinking is not None and thinking.ndim:
        found["thinking_rows"] = thinking.shape[0]
    cells = weights.get("cells.linear.weight")
    if cells is not None and cells.ndim == 2 and cells.shape[1] > 1:
        found["feature_group"] = cells.shape[1] // 2
    return found


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
