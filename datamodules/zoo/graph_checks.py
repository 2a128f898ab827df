"""Checks of many graphs of neurons at once: those that ``NeuronDAG`` makes of one."""

from dataclasses import fields

import numpy as np

from tabattn.contract.activations import ACTIVATIONS
from tabattn.contract.graphs import BIASED, MOST, OUTPUT, WEIGHTED, Population


def graph_fault(population: Population) -> str:
    """What is wrong with the graphs of a population; empty = nothing: each of its networks is a ``NeuronDAG``."""
    checks = _length_fault, _pointer_fault, _vertex_fault, _edge_fault
    return next((fault for check in checks if (fault := check(population))), "")


def _length_fault(population: Population) -> str:
    size, total = len(population.type), len(population.source)
    lengths = {"edge_pointer": len(population.vertex_pointer), "source": total, "weight": total}
    for field in fields(population)[1:]:
        found, length = len(getattr(population, field.name)), lengths.get(field.name, size)
        if found != length:
            return f"graph/{field.name} has {found} entries, not {length}"
    return ""


def _pointer_fault(population: Population) -> str:
    pointer, size = population.vertex_pointer, len(population.type)
    if not len(pointer) or pointer[0] != 0 or pointer[-1] != size or (np.diff(pointer) < 1).any():
        return "graph/vertex_pointer does not rise from 0 to the number of vertices"
    if (np.diff(pointer) > MOST).any():
        return f"a network has more than {MOST} vertices"
    if (population.degree < 0).any() or population.degree.sum() != len(population.source):
        return "graph/degree does not add up to the number of edges"
    if not np.array_equal(np.concatenate([[0], np.cumsum(population.degree)])[pointer], population.edge_pointer):
        return "graph/edge_pointer is not where the edges of each network begin"
    return ""


def _vertex_fault(population: Population) -> str:
    levels, first = population.level.astype(np.int64), population.vertex_pointer[:-1]
    rise = np.diff(levels, prepend=-1)
    begins = np.zeros(len(levels), bool)
    begins[first] = True
    if levels[first].any() or not np.isin(rise[~begins], (0, 1)).all():
        return "graph/level does not begin at 0 and rise by 1 in each network"
    if (population.type >= len(ACTIVATIONS)).any():
        return f"graph/type has codes of at least {len(ACTIVATIONS)}"
    inputs = levels == 0
    if (population.flags > WEIGHTED + BIASED + OUTPUT).any():
        return f"graph/flags has bits beyond {WEIGHTED + BIASED + OUTPUT}"
    if (population.flags[inputs] & ~np.uint8(OUTPUT)).any() or population.type[inputs].any():
        return "graph/flags or graph/type says that inputs have weights, a bias or an activation function"
    if population.bias[(population.flags & BIASED) == 0].view(np.uint32).any():
        return "graph/bias is not 0 where there is none"
    return ""


def _edge_fault(population: Population) -> str:
    sizes = np.diff(population.vertex_pointer)
    network = np.repeat(np.arange(len(sizes)), sizes)
    child = np.repeat(np.arange(len(network)), population.degree)
    source = population.source
    if (source < 0).any() or (source >= sizes[network[child]]).any():
        return "graph/source has parents beyond the vertices of a network"
    parent = source + population.vertex_pointer[:-1][network[child]]
    if (population.level[parent] >= population.level[child]).any():
        return "graph/source has parents that are not of a lower level"
    if (np.diff(source)[np.diff(child) == 0] <= 0).any():
        return "graph/source is not sorted, each parent once"
    if (population.weight[(population.flags[child] & WEIGHTED) == 0] != 1).any():
        return "graph/weight is not 1 where there is none"
    return ""
