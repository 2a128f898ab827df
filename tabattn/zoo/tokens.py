"""Tokenizers of networks: a token for each neuron, a token for each edge, or matrices; all without loss."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from tabattn.contract.graphs import BIASED, Bytes, Ints, NeuronDAG, Population
from tabattn.contract.networks import NeuronTokens, room, starts

PAD, VERTEX, BIAS, EDGE = range(4)
"""Kinds of tokens of an edge sequence."""
ROWS = 4
"""Rows of a matrix below those of the weights: types, levels, flags and biases."""


class EdgeTokens(NamedTuple):
    """A token for each edge, as in the original's loss: type, number, parent number and weight.

    Each vertex is a ``VERTEX`` token, then a ``BIAS`` token if it has one, then an ``EDGE`` token for each parent.

    Attributes:
        kind: ``PAD``, ``VERTEX``, ``BIAS`` or ``EDGE``, ``(networks, tokens)`` long.
        type: Code of the vertex's activation function, of that shape.
        flags: Its flags, of that shape.
        child: Its number, of that shape.
        parent: Number of the parent; of a ``VERTEX`` its level; else 0; of that shape.
        value: Weight or bias, else 0, of that shape, float.
    """

    kind: Tensor
    type: Tensor
    flags: Tensor
    child: Tensor
    parent: Tensor
    value: Tensor

    @classmethod
    def of(cls, population: Population, most: int | None = None) -> Self:
        """Tokenise networks, with room for ``most`` tokens each, or as many as the longest sequence has."""
        sizes = np.diff(population.vertex_pointer)
        network = np.repeat(np.arange(len(population)), sizes)
        vertex = np.arange(len(network)) - np.repeat(population.vertex_pointer[:-1], sizes)
        biased = (population.flags & BIASED) > 0
        count = 1 + biased + population.degree
        lengths = np.bincount(network, count, minlength=len(population)).astype(np.int64)
        most = room(lengths, most)
        first = np.cumsum(count) - count
        first = first - np.repeat((np.cumsum(lengths) - lengths), sizes) + network * most
        owner = np.repeat(np.arange(len(network)), population.degree)
        order = np.arange(len(owner)) - np.repeat(np.cumsum(population.degree) - population.degree, population.degree)
        edges = first[owner] + 1 + biased[owner] + order
        flat = [torch.zeros(len(population) * most, dtype=torch.long) for _ in range(5)]
        value = torch.zeros(len(population) * most)
        at_bias = first[biased] + 1
        for at, kind, owners in ((first, VERTEX, slice(None)), (at_bias, BIAS, biased), (edges, EDGE, owner)):
            own: list[Ints | Bytes] = [np.full(len(at), kind), population.type[owners], population.flags[owners]]
            own.append(vertex[owners])
            for target, values in zip(flat, own, strict=False):
                target[torch.from_numpy(at)] = torch.from_numpy(values.astype(np.int64))
        flat[4][torch.from_numpy(first)] = torch.from_numpy(population.level.astype(np.int64))
        flat[4][torch.from_numpy(edges)] = torch.from_numpy(population.source)
        value[torch.from_numpy(at_bias)] = torch.from_numpy(population.bias[biased])
        value[torch.from_numpy(edges)] = torch.from_numpy(population.weight)
        return cls(*(each.view(-1, most) for each in (*flat, value)))

    def population(self) -> Population:
        """Return the networks."""
        kind, kinds, flags, parent = (each.cpu() for each in (self.kind, self.type, self.flags, self.parent))
        value = self.value.cpu()
        vertices, edges, biases = kind == VERTEX, kind == EDGE, kind == BIAS
        number = vertices.flatten().cumsum(0) - 1
        total = int(vertices.sum())
        bias = torch.zeros(total)
        bias[number[biases.flatten()]] = value[biases]
        degree = torch.bincount(number[edges.flatten()], minlength=total)
        own, levels, bits = (each[vertices].numpy().astype(np.uint8) for each in (kinds, parent, flags))
        return Population(
            starts(vertices.sum(1)),
            starts(edges.sum(1)),
            own,
            levels,
            bits,
            bias.numpy(),
            degree.numpy(),
            parent[edges].numpy(),
            value[edges].numpy(),
        )


class MatrixTokens(NamedTuple):
    """Matrices of weights and of edges, with rows for what the vertices are: images for convolutions.

    Attributes:
        image: ``(networks, 2, vertices + 4, vertices)`` float. First channel: weights (row = child), then types,
            levels, flags and biases. Second channel: 1 where there is an edge, below where there is a vertex.
    """

    image: Tensor

    @classmethod
    def of(cls, population: Population, most: int | None = None) -> Self:
        """Tokenise networks, with room for ``most`` vertices each, or as many as the largest has."""
        tokens = NeuronTokens.of(population, most)
        rows = torch.stack([tokens.type, tokens.level, tokens.flags, tokens.bias], dim=1).float()
        present = tokens.mask[:, None].expand(-1, ROWS, -1)
        return cls(torch.stack([torch.cat([tokens.weight, rows], 1), torch.cat([tokens.edge, present], 1).float()], 1))

    def population(self) -> Population:
        """Return the networks."""
        values, present = self.image.unbind(1)
        size = self.image.shape[-1]
        kinds, levels, flags = (values[:, size + row].round().long() for row in range(3))
        edge, mask = present[:, :size] > 0.5, present[:, -1] > 0.5
        return NeuronTokens(kinds, levels, flags, values[:, -1], values[:, :size], edge, mask).population()


Tokens = NeuronTokens | EdgeTokens | MatrixTokens

TOKENIZERS: dict[str, type[Tokens]] = {"neuron": NeuronTokens, "edge": EdgeTokens, "matrix": MatrixTokens}
"""Tokenizers by name."""


def tokenize(
    networks: NeuronDAG | Sequence[NeuronDAG] | Population, tokenizer: str = "neuron", most: int | None = None
) -> Tokens:
    """Tokenise networks.

    Args:
        networks: Graphs of neurons: one, several, or a population.
        tokenizer: ``neuron``, ``edge`` or ``matrix``.
        most: Room of each network in tokens (``matrix``: in vertices); none = what the largest needs.

    Raises:
        ValueError: There is no such tokenizer, or a network needs more room.
    """
    if tokenizer not in TOKENIZERS:
        raise ValueError(f"tokenizer must be {', '.join(TOKENIZERS)}, got {tokenizer!r}")
    if isinstance(networks, NeuronDAG):
        networks = [networks]
    population = networks if isinstance(networks, Population) else Population.of(networks)
    return TOKENIZERS[tokenizer].of(population, most)


def detokenize(tokens: Tokens) -> list[NeuronDAG]:
    """Return the graphs of tokens: those that were tokenised, bit for bit.

    Raises:
        ValueError: Tokens are no graph.
    """
    population = tokens.population()
    return [population[index] for index in range(len(population))]
