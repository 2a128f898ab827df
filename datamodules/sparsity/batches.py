"""Batches of recorded queries and keys: padded items of every layer, in an order that is set by (seed, epoch)."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from datamodules.counter import generator
from datamodules.sparsity.records import Item, Records
from tabattn.contract.queries_keys import Layer, LayerBatch, QueryKeyBatch

SPLIT, ORDER = 91, 92
"""Streams of random numbers: parts, and order of items."""

PARTS = {"train": "train", "val": "validate", "test": "test"}
"""Parts in the order of their numbers, and what is done with them."""

Ints = NDArray[np.int64]


def split_groups(group: Ints, shares: tuple[float, float], seed: int) -> NDArray[np.int8]:
    """Part of each item, 0 = training, 1 = validation, 2 = test: groups stay together where there are three at least.

    Args:
        group: Group of each item.
        shares: Shares of groups to validate and to test on; each part gets one at least.
        seed: Seed.

    Raises:
        ValueError: There are too few items, or none is left to train on.
    """
    names, number = np.unique(group, return_inverse=True)
    if len(names) < len(PARTS):
        number = np.arange(len(group))
    total = len(np.unique(number))
    val, test = (max(1, round(share * total)) for share in shares)
    if val + test >= total:
        raise ValueError(f"items must be at least {val + test + 1} to train, validate and test on, got {total}")
    part = np.zeros(total, np.int8)
    order = torch.randperm(total, generator=generator(seed, SPLIT)).numpy()
    part[order[:val]], part[order[val : val + test]] = 1, 2
    return part[number]


def padded(layer: Layer, items: Sequence[Item]) -> LayerBatch:
    """Pad items of a layer to a batch; it may have none."""
    if not items:
        empty, none = torch.zeros(0, layer.heads, 0, layer.head_dim), torch.zeros(0, 0, dtype=torch.bool)
        return LayerBatch(empty, empty, none, none)
    q, k = (pad_sequence([each.transpose(0, 1) for each in part], True).transpose(1, 2) for part in _tensors(items))
    queries, keys = (_there([each.shape[1] for each in part]) for part in _tensors(items))
    mask = None
    if any(item.mask is not None for item in items):
        mask = queries[:, :, None] & keys[:, None]
        for place, item in enumerate(items):
            if item.mask is not None:
                mask[place, : item.mask.shape[0], : item.mask.shape[1]] = item.mask
    values = [item.v.transpose(0, 1) for item in items if item.v is not None]
    v = pad_sequence(values, True).transpose(1, 2) if len(values) == len(items) else None
    return LayerBatch(q, k, queries, keys, mask, v)


def _tensors(items: Sequence[Item]) -> tuple[list[Tensor], list[Tensor]]:
    return [item.q for item in items], [item.k for item in items]


def _there(lengths: Sequence[int]) -> Tensor:
    """Which places of padded items there are, ``(items, longest)``."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


class Batches(Dataset[QueryKeyBatch]):
    """Batches to score: the items of each layer in their order, each once.

    Args:
        records: Queries and keys.
        items: Numbers of the items of each layer.
        batch_size: Most items of each layer in a batch.
    """

    def __init__(self, records: Records, items: Sequence[Ints], batch_size: int) -> None:
        self.records, self.items, self.batch_size = records, items, batch_size

    def __len__(self) -> int:
        return max(-(-len(numbers) // self.batch_size) for numbers in self.items)

    def __getitem__(self, index: int) -> QueryKeyBatch:
        first = index * self.batch_size
        return self.batch([numbers[first : first + self.batch_size] for numbers in self.items])

    def batch(self, chosen: Sequence[Ints]) -> QueryKeyBatch:
        """Make a batch of the items of these numbers, of each layer."""
        layers = (
            padded(recorded.layer, [self.records.item(layer, int(number)) for number in numbers])
            for layer, (recorded, numbers) in enumerate(zip(self.records.layers, chosen, strict=True))
        )
        return QueryKeyBatch(tuple(layers))


class TrainingBatches(Batches):
    """Endless stream of batches: of each layer epoch after epoch, a layer with fewer items starts anew earlier.

    Args:
        records: Queries and keys.
        items: Numbers of the items of each layer.
        batch_size: Items of each layer in a batch; less where a layer has less.
        seed: Seed.
    """

    def __init__(self, records: Records, items: Sequence[Ints], batch_size: int, seed: int) -> None:
        super().__init__(records, items, batch_size)
        self.seed = seed

    def __getitem__(self, index: int) -> QueryKeyBatch:
        return self.batch([self._chosen(layer, index) for layer in range(len(self.items))])

    def _chosen(self, layer: int, index: int) -> Ints:
        """Numbers of the items of a layer in a batch."""
        numbers = self.items[layer]
        each = -(-len(numbers) // self.batch_size)
        epoch, place = divmod(index, each)
        order = torch.randperm(len(numbers), generator=generator(self.seed, ORDER, layer, epoch)).numpy()
        return numbers[order[place * self.batch_size : (place + 1) * self.batch_size]]
