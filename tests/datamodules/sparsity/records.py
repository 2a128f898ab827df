"""Recorded queries and keys, made at random."""

import torch

from datamodules.sparsity.records import Item, Kept
from tabattn.contract.queries_keys import Layer


def layer(path: str = "a", heads: int = 2, head_dim: int = 4, alpha: float = 1.5) -> Layer:
    return Layer(path, heads, head_dim, (alpha,) * heads, head_dim**-0.5)


def items(fact: Layer, lengths: list[tuple[int, int]], seed: int = 0, masked: bool = False) -> list[Item]:
    draw = torch.Generator().manual_seed(seed)
    found = []
    for number, (queries, keys) in enumerate(lengths):
        q = torch.randn(fact.heads, queries, fact.head_dim, generator=draw)
        k = torch.randn(fact.heads, keys, fact.head_dim, generator=draw)
        mask = torch.ones(queries, keys, dtype=torch.bool).tril() if masked and number else None
        found.append(Item(q, k, mask, torch.randn(fact.heads, keys, 3, generator=draw), number // 2))
    return found


def kept() -> Kept:
    """Two layers of several heads, widths, lengths and numbers of items; one has masks."""
    first, second = layer("blocks.0.rows"), layer("blocks.1.cells", 3, 2, 1.25)
    return Kept(
        [
            (first, items(first, [(3, 5), (4, 2), (1, 1), (6, 6), (2, 3)])),
            (second, items(second, [(2, 2), (5, 5), (3, 3)], 1, masked=True)),
        ]
    )


def dumpable(samples: int = 5, layers: int = 2) -> Kept:
    """Layers that a dump of Sparsefinder's own programs can hold."""
    facts = [layer(f"layers.{number}") for number in range(layers)]
    lengths = [(length, length) for length in range(3, 3 + samples)]
    made = [(fact, items(fact, lengths, number)) for number, fact in enumerate(facts)]
    return Kept([(fact, [item._replace(group=n) for n, item in enumerate(each)]) for fact, each in made])
