"""Executor: computes many networks of any graphs at once, with gradients to their weights."""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tabattn.contract.activations import ACTIVATIONS
from tabattn.contract.graphs import OUTPUT
from tabattn.contract.networks import NeuronTokens


class Executed(NamedTuple):
    """What networks compute.

    Attributes:
        outputs: Outputs, ``(networks, rows, outputs)``; 0 where a network has fewer.
        values: Values of all vertices, ``(networks, rows, tokens)``.
    """

    outputs: Tensor
    values: Tensor


def execute(tokens: NeuronTokens, x: Tensor, probe: Tensor | None = None) -> Executed:
    """Compute networks on rows of their own, level by level.

    Args:
        tokens: The networks.
        x: Inputs, ``(networks, rows, inputs)``; columns beyond a network's inputs are not read.
        probe: What is added before each activation, ``(networks, rows, tokens)``: its gradients are sensitivities.

    Raises:
        ValueError: A network has more inputs than there are columns.
    """
    columns = _Columns.of(tokens)
    starts = columns.starts
    if x.shape[-1] < starts[1]:
        raise ValueError(
            f"x must have at least {starts[1]} columns, the inputs of the largest network, got {x.shape[-1]}"
        )
    weight = columns.laid(columns.laid(torch.where(tokens.edge, tokens.weight, 0.0).to(x.dtype), 1), 2)
    bias, kinds = columns.laid(tokens.bias.to(x.dtype), 1), columns.laid(tokens.type, 1)
    added = None if probe is None else columns.laid(probe, 2)
    codes = tokens.type[tokens.mask].unique().tolist()
    values = torch.where(columns.real[:, None, : starts[1]], x[..., : starts[1]], 0.0)
    for start, end in pairwise(starts[1:]):
        own = slice(start, end)
        before = torch.baddbmm(bias[:, None, own], values, weight[:, own, :start].mT)
        if added is not None:
            before = before + added[..., own]
        values = torch.cat([values, _activated(before, kinds[:, None, own], codes)], dim=-1)
    values = values.gather(2, columns.column[:, None].expand(-1, x.shape[1], -1)) * tokens.mask[:, None]
    return Executed(_outputs(tokens, values), values)


class _Columns(NamedTuple):
    """Layout of vertices in which a level has the same columns in each network.

    Attributes:
        column: Column of each token, ``(networks, tokens)``; 0 where there is no vertex.
        token: Token of each column, ``(networks, columns)``; the number of tokens where there is none.
        real: Whether a column has a vertex, of that shape.
        starts: First column of each level, and the number of columns.
    """

    column: Tensor
    token: Tensor
    real: Tensor
    starts: list[int]

    @classmethod
    def of(cls, tokens: NeuronTokens) -> "_Columns":
        room = tokens.mask.shape[1]
        levels = int(tokens.level.max()) + 1 if tokens.level.numel() else 1
        counts = (F.one_hot(tokens.level, levels) * tokens.mask[..., None]).sum(1)
        widths = counts.max(0).values.tolist() if len(counts) else [0] * levels
        starts = [sum(widths[:level]) for level in range(levels + 1)]
        column = (torch.tensor(starts, device=tokens.level.device)[tokens.level] + tokens.place) * tokens.mask
        token = torch.full((len(column), starts[-1] + 1), room, device=column.device)
        numbers = torch.arange(room, device=column.device).expand_as(column)
        token.scatter_(1, torch.where(tokens.mask, column, starts[-1]), numbers)
        token = token[:, :-1]
        return cls(column, token, token < room, starts)

    def laid(self, values: Tensor, dim: int) -> Tensor:
        """Tokens of a dimension in their columns, 0 where there is none."""
        padding = [0, 0] * (values.ndim - 1 - dim) + [0, 1]
        index = self.token.view(len(self.token), *([1] * (dim - 1)), -1, *([1] * (values.ndim - 1 - dim)))
        sizes = [size if at != dim else -1 for at, size in enumerate(values.shape)]
        return F.pad(values, padding).gather(dim, index.expand(sizes))


def _activated(before: Tensor, kinds: Tensor, codes: list[int]) -> Tensor:
    names = list(ACTIVATIONS)
    found = torch.zeros_like(before)
    for code in codes:
        found = torch.where(kinds == code, ACTIVATIONS[names[code]](before), found)
    return found


def _outputs(tokens: NeuronTokens, values: Tensor) -> Tensor:
    flagged = ((tokens.flags & OUTPUT) > 0) & tokens.mask
    most = int(flagged.sum(1).max()) if len(flagged) else 0
    order = torch.argsort((~flagged).long(), dim=1, stable=True)[:, :most]
    real = flagged.gather(1, order)
    return values.gather(2, order[:, None].expand(-1, values.shape[1], -1)) * real[:, None]
