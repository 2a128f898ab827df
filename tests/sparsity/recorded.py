"""Recorded queries and keys with structure, in memory or in a file."""

from pathlib import Path

import torch

from datamodules.sparsity.batches import padded
from datamodules.sparsity.records import Item, Kept, write_records
from tabattn.contract.queries_keys import Layer, LayerBatch

FIRST, SECOND = Layer("network.0", 2, 6, (1.5, 1.5), 6**-0.5), Layer("network.1", 3, 4, (1.25, 1.5, 2.0), 0.5)


def items(layer: Layer, count: int, seed: int = 0, cross: bool = False) -> list[Item]:
    """Queries and keys that share few latent dimensions, as those of trained heads do."""
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(layer.heads, 2, layer.head_dim, generator=draw)
    found = []
    for number in range(count):
        queries = 5 + number % 4
        keys = 7 if cross else queries
        q, k, v = (torch.randn(layer.heads, length, 2, generator=draw) for length in (queries, keys, keys))
        found.append(Item(2 * q @ mixing, 2 * k @ mixing, None, v, number))
    return found


def batch(layer: Layer = FIRST, count: int = 4, seed: int = 0, cross: bool = False) -> LayerBatch:
    return padded(layer, items(layer, count, seed, cross))


def kept(count: int = 12) -> Kept:
    """Two layers; the second attends from outside."""
    return Kept([(FIRST, items(FIRST, count)), (SECOND, items(SECOND, count, 1, cross=True))])


def file(folder: Path, count: int = 12) -> str:
    write_records(folder / "recorded.h5", kept(count))
    return f"{folder}/recorded.h5"
