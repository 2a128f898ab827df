"""Weight names of nanoTabPFN, of its attention fork and of TFM-Playground, mapped to those of this package."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tabattn.contract.errors import DataError

BLOCKS = "transformer_blocks."
FEATURES = "self_attention_between_features"
SHARED = "self_attention_between_datapoints"
CONTEXT, TARGET = f"{SHARED}_train", f"{SHARED}_test"

FOUR_PROJECTIONS = ("Scratch", "Local", "Optimized Local", "Einstein")
"""Attention types of the fork with the same names of weights."""

MARKS: dict[str, tuple[str, ...]] = {
    f"{SHARED}.in_proj_weight": ("Original",),
    f"{CONTEXT}.in_proj_weight": ("Original",),
    f"{CONTEXT}.pool_tokens": ("Pooling",),
    f"{CONTEXT}.w_q.weight": ("Sparse",),
    f"{CONTEXT}.Wq.weight": FOUR_PROJECTIONS,
}
"""The fork's attention types by a weight that only they have; the first match counts."""


class Sizes(NamedTuple):
    """Sizes of a network, read from the shapes of its weights; ``points`` is 0 without pooling."""

    dim: int
    hidden: int
    layers: int
    classes: int
    points: int


class Weights:
    """Weights by name: each is taken once, and its shape checked.

    Args:
        weights: The weights.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._left = dict(weights)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, *shape: int) -> Tensor:
        """Remove a weight and return it.

        Args:
            name: Its name.
            shape: Expected shape.

        Raises:
            DataError: There is no such weight, or it has another shape.
        """
        if name not in self._left:
            raise DataError(f"the weight {name} is missing")
        weight = self._left.pop(name)
        if weight.shape != shape:
            raise DataError(f"the weight {name} must be of shape {shape}, got {tuple(weight.shape)}")
        return weight

    def check_empty(self) -> None:
        """Raise DataError if some of the weights have not been taken."""
        if self._left:
            more = f" and {len(self._left) - 1} more" if len(self._left) > 1 else ""
            raise DataError(f"the weight {min(self._left)}{more} belongs to no network of this family")


def sizes(theirs: Mapping[str, Tensor]) -> Sizes:
    """Read the sizes of a network from its weights.

    Raises:
        DataError: A weight that determines a size is missing or not a matrix.
    """

    def length(name: str) -> int:
        if name not in theirs:
            raise DataError(f"this is no checkpoint of nanoTabPFN or its relatives: the weight {name} is missing")
        if theirs[name].dim() != 2:
            raise DataError(f"the weight {name} must be a matrix, got the shape {tuple(theirs[name].shape)}")
        return theirs[name].shape[0]

    tokens = f"{BLOCKS}0.{CONTEXT}.pool_tokens"
    return Sizes(
        dim=length("feature_encoder.linear_layer.weight"),
        hidden=length(f"{BLOCKS}0.linear1.weight"),
        layers=len({name.split(".")[1] for name in theirs if name.startswith(BLOCKS)}),
        classes=length("decoder.linear2.weight"),
        points=length(tokens) if tokens in theirs else 0,
    )


def kinds(theirs: Mapping[str, Tensor], layers: int) -> tuple[str, ...]:
    """Attention types between context rows that match the names of the weights.

    Raises:
        DataError: None matches, or layers match different ones.
    """
    layer_marks = [[mark for mark in MARKS if f"{BLOCKS}{layer}.{mark}" in theirs] for layer in range(layers)]
    if not all(layer_marks):
        raise DataError("the weights of the attention between rows are of no known form")
    found = {MARKS[marks[0]] for marks in layer_marks}
    if len(found) > 1:
        raise DataError("the layers differ in their attention between rows")
    return found.pop()


def translate(theirs: Mapping[str, Tensor], size: Sizes, heads: int) -> dict[str, Tensor]:
    """Rename the weights to the names of ``NanoTabPFN``.

    The attention between context rows of the last layer is dropped, as nothing reads it.

    Args:
        theirs: Weights of the other program.
        size: Sizes as returned by ``sizes``.
        heads: Number of heads; must divide the width.

    Returns:
        Weights by the names of this package.

    Raises:
        DataError: A weight is missing, left over or of another shape.
    """
    weights = Weights(theirs)
    ours = {
        **_linear(weights, "feature_encoder.linear_layer", "cells.linear", size.dim, 1),
        **_linear(weights, "target_encoder.linear_layer", "labels.linear", size.dim, 1),
        **_linear(weights, "decoder.linear1", "decoder.0", size.hidden, size.dim),
        **_linear(weights, "decoder.linear2", "decoder.2", size.classes, size.hidden),
    }
    for layer in range(size.layers):
        block = _block(weights, f"{BLOCKS}{layer}.", size, heads)
        last = layer == size.layers - 1
        ours |= {
            f"blocks.{layer}.{name}": weight
            for name, weight in block.items()
            if not (last and name.startswith("rows.context."))
        }
    weights.check_empty()
    return ours


def _linear(weights: Weights, theirs: str, ours: str, outputs: int, inputs: int) -> dict[str, Tensor]:
    return {
        f"{ours}.weight": weights.take(f"{theirs}.weight", outputs, inputs),
        f"{ours}.bias": weights.take(f"{theirs}.bias", outputs),
    }


def _block(weights: Weights, there: str, size: Sizes, heads: int) -> dict[str, Tensor]:
    dim = size.dim
    ours = {
        **_linear(weights, f"{there}linear1", "mlp.0", size.hidden, dim),
        **_linear(weights, f"{there}linear2", "mlp.2", dim, size.hidden),
    }
    for norm in range(3):
        ours |= {
            f"norms.{norm}.{name}": weights.take(f"{there}norm{norm + 1}.{name}", dim) for name in ("weight", "bias")
        }
    sites = {"features.": _attention(weights, there + FEATURES, dim)}
    if f"{there}{SHARED}.in_proj_weight" in weights:
        sites["rows.context."] = sites["rows.target."] = _attention(weights, there + SHARED, dim)
    else:
        sites["rows.context."] = _attention(weights, there + CONTEXT, dim)
        sites["rows.target."] = _attention(weights, there + TARGET, dim)
    if size.points:
        tokens = weights.take(f"{there}{CONTEXT}.pool_tokens", size.points, dim)
        sites["rows.context."] |= _memory(tokens, sites["rows.context."], heads)
    return ours | {site + name: weight for site, named in sites.items() for name, weight in named.items()}


def _attention(weights: Weights, there: str, dim: int) -> dict[str, Tensor]:
    """Take the projections of one attention site, in any of the three forms in which files store them."""
    if f"{there}.in_proj_weight" in weights:
        weight = weights.take(f"{there}.in_proj_weight", 3 * dim, dim)
        bias = weights.take(f"{there}.in_proj_bias", 3 * dim)
        return {"qkv.weight": weight, "qkv.bias": bias, **_linear(weights, f"{there}.out_proj", "out", dim, dim)}
    biased = f"{there}.w_q.weight" not in weights
    names = ("Wq", "Wk", "Wv", "Wo") if biased else ("w_q", "w_k", "w_v", "w_o")
    parts = [weights.take(f"{there}.{name}.weight", dim, dim) for name in names[:3]]
    biases = [weights.take(f"{there}.{name}.bias", dim) if biased else torch.zeros(dim) for name in names[:3]]
    out = _linear(weights, f"{there}.{names[3]}", "out", dim, dim)
    return {"qkv.weight": torch.cat(parts), "qkv.bias": torch.cat(biases), **out}


def _memory(tokens: Tensor, site: dict[str, Tensor], heads: int) -> dict[str, Tensor]:
    """Project constant pooling tokens ``(points, dim)`` to keys and values."""
    dim = tokens.shape[1]
    projected = F.linear(tokens, site["qkv.weight"][dim:], site["qkv.bias"][dim:])
    keys, values = (part.unflatten(-1, (heads, -1)).transpose(0, 1) for part in projected.chunk(2, dim=-1))
    return {"mechanism.memory_keys": keys, "mechanism.memory_values": values}
