"""NeuronDAG: a feedforward network as a directed acyclic graph of neurons, without loss."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tabattn.contract.activations import ACTIVATIONS

WEIGHTED, BIASED, OUTPUT = 1, 2, 4
"""Bits of the flags of a vertex: its incoming edges have weights, it has a bias, it is an output."""
MOST = 2**16
"""Most vertices of a graph."""

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class NeuronDAG:
    """Feedforward network as a graph: a vertex is a neuron with its activation, an edge is a weight.

    A vertex computes ``type(sum of weight * parent + bias)``. Vertices are in topological order: inputs, then level by
    level. Edges are sorted by child, then by parent. An edge with weight 0 is not a missing edge, a bias of 0 not a
    missing bias. Vertices without the flag ``WEIGHTED`` add their parents: a second activation in a row, or a skip
    connection.

    Args:
        type: Codes of activation functions (``ACTIVATIONS``), ``(vertices,)``.
        level: Levels, 0 = input, rising, ``(vertices,)``.
        flags: Bits ``WEIGHTED``, ``BIASED`` and ``OUTPUT``, ``(vertices,)``.
        bias: Biases, 0 where there is none, ``(vertices,)``.
        pointer: Where the incoming edges of each vertex begin, and the number of edges, ``(vertices + 1,)``.
        source: Parent of each edge, ``(edges,)``.
        weight: Weight of each edge, 1 where it has none, ``(edges,)``.

    Raises:
        ValueError: The arrays are no such graph.
    """

    type: Bytes
    level: Bytes
    flags: Bytes
    bias: Floats
    pointer: Ints
    source: Ints
    weight: Floats

    def __post_init__(self) -> None:
        fault = _fault(self)
        if fault:
            raise ValueError(f"a network of neurons {fault}")

    def __len__(self) -> int:
        """Vertices."""
        return len(self.type)

    @property
    def inputs(self) -> int:
        """Number of input vertices."""
        return int((self.level == 0).sum())

    @property
    def child(self) -> Ints:
        """Child of each edge, ``(edges,)``."""
        return np.repeat(np.arange(len(self)), np.diff(self.pointer))

    def __eq__(self, other: object) -> bool:
        """Whether all arrays are equal bit for bit, so that NaN equals NaN, and 0 is not -0."""
        if not isinstance(other, NeuronDAG):
            return NotImplemented
        return self.bits() == other.bits()

    def __hash__(self) -> int:
        """Hash of the bits."""
        return hash(self.bits())

    def bits(self) -> bytes:
        """All arrays as bytes."""
        return b"".join([len(self).to_bytes(4), *(getattr(self, each.name).tobytes() for each in fields(self))])

    def architecture(self) -> bytes:
        """All but the numbers, as bytes: networks of one architecture differ in weights and biases only."""
        parts = self.type, self.level, self.flags, self.pointer, self.source
        return b"".join([len(self).to_bytes(4), *(part.tobytes() for part in parts)])


def _fault(dag: NeuronDAG) -> str:
    """What is wrong with the arrays; empty = nothing."""
    size, edges = len(dag.type), len(dag.source)
    kinds = np.uint8, np.uint8, np.uint8, np.float32, np.int64, np.int64, np.float32
    shapes = size, size, size, size, size + 1, edges, edges
    for field, kind, length in zip(fields(dag), kinds, shapes, strict=True):
        array = getattr(dag, field.name)
        if not isinstance(array, np.ndarray) or array.dtype != kind or array.shape != (length,):
            return f"needs {field.name} of type {np.dtype(kind)} and shape ({length},), got {_described(array)}"
    if not 0 < size <= MOST:
        return f"has 1 to {MOST} vertices, got {size}"
    if dag.pointer[0] != 0 or dag.pointer[-1] != edges or (np.diff(dag.pointer) < 0).any():
        return f"needs pointers that rise from 0 to the number of edges ({edges})"
    if (dag.type >= len(ACTIVATIONS)).any():
        return f"has activation codes below {len(ACTIVATIONS)}, got {int(dag.type.max())}"
    return _order_fault(dag)


def _order_fault(dag: NeuronDAG) -> str:
    levels = dag.level.astype(np.int64)
    if levels[0] != 0 or not np.isin(np.diff(levels), (0, 1)).all():
        return "needs levels that begin at 0 and rise by 1"
    if (dag.flags > WEIGHTED + BIASED + OUTPUT).any():
        return f"has flags up to {WEIGHTED + BIASED + OUTPUT}, got {int(dag.flags.max())}"
    child, source = dag.child, dag.source
    if len(source) and (source.min() < 0 or (levels[source.clip(0, len(dag) - 1)] >= levels[child]).any()):
        return "has edges from lower to higher levels only"
    if (np.diff(source)[np.diff(child) == 0] <= 0).any():
        return "has edges sorted by parent, each once"
    bare = (dag.flags & BIASED) == 0
    if dag.bias[bare].view(np.uint32).any():
        return "has a bias of 0 where there is none"
    unit = (dag.flags[child] & WEIGHTED) == 0
    if (dag.weight[unit] != 1).any():
        return "has edges of weight 1 where they have none"
    if (dag.flags[: dag.inputs] & ~np.uint8(OUTPUT)).any() or dag.type[: dag.inputs].any():
        return "has inputs without weights, bias or activation"
    return ""


def _described(array: object) -> str:
    if isinstance(array, np.ndarray):
        return f"{array.dtype} of shape {array.shape}"
    return type(array).__name__


@dataclass(frozen=True, eq=False)
class Population:
    """Many networks in one: arrays of ``NeuronDAG`` behind one another (compressed sparse rows).

    Args:
        vertex_pointer: Where the vertices of each network begin, and their number, ``(networks + 1,)``.
        edge_pointer: Where the edges of each network begin, and their number, ``(networks + 1,)``.
        type: Codes of activation functions, ``(vertices,)``.
        level: Levels, of that shape.
        flags: Flags, of that shape.
        bias: Biases, of that shape.
        degree: Number of incoming edges of each vertex, of that shape.
        source: Parent of each edge, counted from the first vertex of its network, ``(edges,)``.
        weight: Weights, of that shape.
    """

    vertex_pointer: Ints
    edge_pointer: Ints
    type: Bytes
    level: Bytes
    flags: Bytes
    bias: Floats
    degree: Ints
    source: Ints
    weight: Floats

    @classmethod
    def of(cls, dags: Sequence[NeuronDAG]) -> Self:
        """Put networks behind one another."""

        def joined(arrays: list[NDArray[Any]], kind: type) -> Any:
            return np.concatenate(arrays) if arrays else np.zeros(0, kind)

        return cls(
            np.cumsum([0, *map(len, dags)]),
            np.cumsum([0, *(len(dag.source) for dag in dags)]),
            joined([dag.type for dag in dags], np.uint8),
            joined([dag.level for dag in dags], np.uint8),
            joined([dag.flags for dag in dags], np.uint8),
            joined([dag.bias for dag in dags], np.float32),
            joined([np.diff(dag.pointer) for dag in dags], np.int64),
            joined([dag.source for dag in dags], np.int64),
            joined([dag.weight for dag in dags], np.float32),
        )

    @classmethod
    def joined(cls, populations: Sequence["Population"]) -> Self:
        """Put populations behind one another.

        Raises:
            ValueError: There is none.
        """
        if not populations:
            raise ValueError("populations must be at least 1 to be joined, got 0")

        def pointer(name: str) -> Ints:
            counts = [np.diff(getattr(each, name)) for each in populations]
            return np.cumsum(np.concatenate([np.zeros(1, np.int64), *counts]))

        def whole(name: str) -> Any:
            return np.concatenate([getattr(each, name) for each in populations])

        names = [field.name for field in fields(cls)]
        return cls(pointer(names[0]), pointer(names[1]), *map(whole, names[2:]))

    def __len__(self) -> int:
        """Networks."""
        return len(self.vertex_pointer) - 1

    def __getitem__(self, index: int) -> NeuronDAG:
        if not -len(self) <= index < len(self):
            raise IndexError(f"network {index} of {len(self)}")
        index %= len(self)
        vertices = slice(*self.vertex_pointer[index : index + 2])
        edges = slice(*self.edge_pointer[index : index + 2])
        pointer = np.cumsum(np.concatenate([[0], self.degree[vertices]]))
        return NeuronDAG(
            self.type[vertices],
            self.level[vertices],
            self.flags[vertices],
            self.bias[vertices],
            pointer,
            self.source[edges],
            self.weight[edges],
        )

    def take(self, networks: Ints) -> "Population":
        """The networks of some numbers, in that order."""
        vertices, vertex_pointer = _ranges(self.vertex_pointer, networks)
        edges, edge_pointer = _ranges(self.edge_pointer, networks)
        return Population(
            vertex_pointer,
            edge_pointer,
            self.type[vertices],
            self.level[vertices],
            self.flags[vertices],
            self.bias[vertices],
            self.degree[vertices],
            self.source[edges],
            self.weight[edges],
        )


def _ranges(pointer: Ints, chosen: Ints) -> tuple[Ints, Ints]:
    """Places of the chosen ranges behind one another, and where each begins."""
    lengths = np.diff(pointer)[chosen]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths) + np.repeat(pointer[:-1][chosen], lengths)
    return places, starts
