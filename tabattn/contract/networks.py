"""Batches of networks: padded tokens of neurons, and the task that each network was trained on."""

from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from tabattn.contract.graphs import Population


class NeuronTokens(NamedTuple):
    """A token for each neuron: what it is, its bias, and its row of incoming weights.

    Attributes:
        type: Codes of activation functions, ``(networks, tokens)`` long; 0 where there is no vertex, as in the others.
        level: Levels, 0 = input, of that shape.
        flags: Bits of ``NeuronDAG``, of that shape.
        bias: Biases, of that shape, float.
        weight: Weights, ``(networks, tokens, tokens)``: row = child, column = parent; 0 where there is no edge.
        edge: Whether there is an edge, of that shape, boolean.
        mask: Whether there is a vertex, ``(networks, tokens)`` boolean.
    """

    type: Tensor
    level: Tensor
    flags: Tensor
    bias: Tensor
    weight: Tensor
    edge: Tensor
    mask: Tensor

    @classmethod
    def of(cls, population: Population, most: int | None = None) -> Self:
        """Tokenise networks, with room for ``most`` vertices each, or as many as the largest has."""
        sizes = np.diff(population.vertex_pointer)
        most = room(sizes, most)
        network = np.repeat(np.arange(len(population)), sizes)
        place = np.arange(len(network)) - np.repeat(population.vertex_pointer[:-1], sizes)
        at = torch.from_numpy(network * most + place)

        def spread(values: np.ndarray, dtype: torch.dtype) -> Tensor:
            flat = torch.zeros(len(population) * most, dtype=dtype)
            flat[at] = torch.from_numpy(values).to(dtype)
            return flat.view(len(population), most)

        child = torch.from_numpy(np.repeat(network * most + place, population.degree))
        cell = child * most + torch.from_numpy(population.source)
        weight = torch.zeros(len(population) * most * most)
        weight[cell] = torch.from_numpy(population.weight)
        edge = torch.zeros(len(weight), dtype=torch.bool)
        edge[cell] = True
        shape = len(population), most, most
        mask = spread(np.ones(len(network), bool), torch.bool)
        return cls(
            spread(population.type, torch.long),
            spread(population.level, torch.long),
            spread(population.flags, torch.long),
            spread(population.bias, torch.float),
            weight.view(shape),
            edge.view(shape),
            mask,
        )

    def population(self) -> Population:
        """Return the networks."""
        mask = self.mask.cpu()
        sizes = mask.sum(1)
        edge = self.edge.cpu() & mask[:, :, None]
        degree = edge.sum(2)
        source = edge.nonzero()[:, 2]
        kind, level, flags = (each.cpu()[mask].numpy().astype(np.uint8) for each in self[:3])
        return Population(
            starts(sizes),
            starts(degree.mul(mask).sum(1)),
            kind,
            level,
            flags,
            self.bias.cpu()[mask].numpy().astype(np.float32),
            degree[mask].numpy(),
            source.numpy(),
            self.weight.cpu()[edge].numpy(),
        )

    @property
    def place(self) -> Tensor:
        """Number of each vertex within its level, ``(networks, tokens)`` long."""
        same = (self.level[:, :, None] == self.level[:, None, :]) & self.mask[:, None, :]
        return same.tril(-1).sum(2) * self.mask


class NetworkBatch(NamedTuple):
    """Batch of trained networks, each with the task that it was trained on.

    Tables are padded with NaN columns on the right to the most inputs of the zoo, and to one number of rows with rows
    whose target is NaN.

    Attributes:
        tokens: The networks, padded to one number of tokens.
        probe: Rows on which outputs of networks are compared, ``(networks, probes, inputs)`` float, drawn from the
            inputs' distribution of each task; columns that a network does not have are 0.
        meta: Meta-features of each task's training rows, scaled, ``(networks, features)`` float; 0 where undefined.
        x: Rows of each task, ``(networks, rows, inputs)`` float; NaN = a column or a row that is not there.
        y: Their standardised targets, ``(networks, rows, outputs)`` float.
        task: Index of each network's task in the zoo, ``(networks,)`` long.
        number: Index of each network in the zoo, ``(networks,)`` long; -1 = one that is not scored.
        context: Number of leading rows that are training rows of the task; those behind them were held out. None = all
            are training rows.
        classes: Number of classes of each task, ``(networks,)`` long; 0 = its targets are numbers. The targets of a
            classification are 1 for the class of the row and 0 for others; two classes may be one target, which is 1
            for the second. None = no task of the zoo has classes.
    """

    tokens: NeuronTokens
    probe: Tensor
    meta: Tensor
    x: Tensor
    y: Tensor
    task: Tensor
    number: Tensor
    context: int | None = None
    classes: Tensor | None = None

    def unscored(self) -> Self:
        """Return the batch with the numbers of all networks -1, so that none is scored."""
        return self._replace(number=torch.full_like(self.number, -1))


def room(sizes: np.ndarray, most: int | None) -> int:
    """Return the room of each network in tokens: ``most``, or what the largest needs.

    Raises:
        ValueError: The largest needs more.
    """
    needed = int(sizes.max(initial=0))
    if most is not None and most < needed:
        raise ValueError(f"most must be at least {needed}, the size of the largest network, got {most}")
    return needed if most is None else most


def starts(counts: Tensor) -> np.ndarray:
    """Return where each of consecutive slices begins, and where the last ends."""
    return np.concatenate([[0], counts.cpu().numpy().cumsum()]).astype(np.int64)
