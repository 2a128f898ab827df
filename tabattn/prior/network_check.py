"""Validation of a file's description of a network against its weights, before anything of the declared size is made."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tabattn.prior.options import DEFAULT_OPTIONS, PriorOptions

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
    options = arguments.get("options", DEFAULT_OPTIONS)
    if not isinstance(options, PriorOptions):
        raise ValueError(f"options must be a mapping of PriorOptions' arguments, got {_shortened(options)}")
    if options != DEFAULT_OPTIONS:
        _check_options(options, weights)
    for name, found in _measured(weights, options.radial if options.embedding == "rbf" else 0).items():
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


def _measured(weights: Mapping[str, Tensor], radial: int) -> dict[str, int]:
    """Sizes of a network as its weights have them; those that are not there are left out."""
    blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    found = {"layers": len(blocks)}
    first, last = weights.get("blocks.0.mlp.0.weight"), weights.get("decoder.2.weight")
    if first is not None and first.ndim == 2:
        found |= {"hidden": first.shape[0], "dim": first.shape[1]}
    if last is not None and last.ndim == 2:
        found["classes"] = last.shape[0]
    for name, axis in (("thinking", 0), ("rows.thinking", 1)):
        if (thinking := weights.get(name)) is not None and thinking.ndim > axis:
            found["thinking_rows"] = thinking.shape[axis]
    cells = weights.get("cells.linear.weight")
    if cells is not None and cells.ndim == 2 and cells.shape[1] > 1:
        found["feature_group"] = cells.shape[1] // (2 + radial)
    return found


def _check_options(options: PriorOptions, weights: Mapping[str, Tensor]) -> None:
    """Check the sizes among the options, as ``check_network`` does the others."""
    for name in ("radial", "summaries", "row_layers", "row_dim", "row_heads", "row_hidden"):
        if type(value := getattr(options, name)) is not int:
            raise ValueError(f"options.{name} must be a whole number, got {_shortened(value)}")
    found = {"row_layers": len({name.split(".")[2] for name in weights if name.startswith("rows.blocks.")})}
    found["summaries"] = _size(weights, "summaries", 0)
    if options.row_layers:
        found |= {
            "row_dim": _size(weights, "rows.project.1.weight", 0),
            "row_hidden": _size(weights, "decoder.0.weight", 0),
        }
    for name, size in found.items():
        if (value := getattr(options, name)) != size:
            raise ValueError(f"options.{name} is {_shortened(value)}, but the weights have {size}")
    if not 1 <= options.row_heads <= options.row_dim:
        raise ValueError(
            f"options.row_heads must be between 1 and row_dim ({options.row_dim}), got {options.row_heads}"
        )
    width = _size(weights, "cells.linear.weight", 1)
    if options.embedding == "rbf" and 2 + options.radial > width:
        raise ValueError(f"options.radial is {options.radial}, but cells have {width} values in the weights")


def _size(weights: Mapping[str, Tensor], name: str, axis: int) -> int:
    tensor = weights.get(name)
    return 0 if tensor is None or tensor.ndim <= axis else tensor.shape[axis]


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
