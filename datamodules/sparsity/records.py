"""Recorded queries and keys: ragged items of several attention layers, in an HDF5 file that is written atomically."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.hdf5 import SEALED, Reader, array
from datamodules.hdf5_write import whole_file
from tabattn.contract.errors import DataError
from tabattn.contract.queries_keys import Layer

FORMAT, VERSION = "tabattn-queries-keys", 1
CHUNK = 1 << 16
"""Most numbers in a chunk of an array."""

ADVICE = ": python train.py predict with configs/sparsity/extract.yaml records queries and keys"


class Item(NamedTuple):
    """Queries and keys of one element of a layer's batch, without padding.

    Attributes:
        q: Queries before scaling, ``(heads, queries, head_dim)``.
        k: Keys, ``(heads, keys, head_dim)``.
        mask: Which keys each query may see, ``(queries, keys)`` boolean; None = all.
        v: Values, ``(heads, keys, any)``; None = they were not recorded.
        group: Number of what the item belongs to, such as the batch that it was recorded from; items of one group are
            not split over training and test.
    """

    q: Tensor
    k: Tensor
    mask: Tensor | None = None
    v: Tensor | None = None
    group: int = 0


class Recorded(NamedTuple):
    """Facts of a recorded layer.

    Attributes:
        layer: The layer.
        queries: Number of queries of each item, ``(items,)``.
        keys: Number of keys of each item, ``(items,)``.
        group: Group of each item, ``(items,)``.
    """

    layer: Layer
    queries: NDArray[np.int64]
    keys: NDArray[np.int64]
    group: NDArray[np.int64]


class Records(ABC):
    """Abstract source of recorded queries and keys; ``layers`` says what there is."""

    layers: tuple[Recorded, ...]

    @abstractmethod
    def item(self, layer: int, number: int) -> Item:
        """Return an item of a layer, both by their numbers."""


@dataclass
class Kept(Records):
    """Recorded queries and keys in memory.

    Args:
        found: The layers and their items.
    """

    found: Sequence[tuple[Layer, Sequence[Item]]]

    def __post_init__(self) -> None:
        self.layers = tuple(_facts(layer, items) for layer, items in self.found)

    def item(self, layer: int, number: int) -> Item:
        """Return an item of a layer, both by their numbers."""
        return self.found[layer][1][number]


def _facts(layer: Layer, items: Sequence[Item]) -> Recorded:
    sizes = np.asarray([(each.q.shape[1], each.k.shape[1], each.group) for each in items], np.int64).reshape(-1, 3)
    return Recorded(layer, *sizes.T)


def write_records(path: Path, records: Records) -> None:
    """Write recorded queries and keys atomically, with a checksum.

    Raises:
        ValueError: There is a layer without items.
        DataError: The file cannot be written.
    """
    for recorded in records.layers:
        if not len(recorded.group):
            raise ValueError(f"{recorded.layer.path} has no items to write")
    with whole_file(path) as part:
        for number, recorded in enumerate(records.layers):
            items = [records.item(number, each) for each in range(len(recorded.group))]
            _put(part.file.create_group(f"layers/{number}"), recorded, items)
            part.save()
        part.file.attrs.update({"format": FORMAT, "version": VERSION, "layers": len(records.layers), SEALED: True})


def _put(group: h5py.Group, recorded: Recorded, items: Sequence[Item]) -> None:
    layer = recorded.layer
    for name in ("q", "k") if items[0].v is None else ("q", "k", "v"):
        # Tokens lead, so that an item is one stretch of the file.
        tokens = torch.cat([getattr(item, name).transpose(0, 1) for item in items]).contiguous().numpy()
        _create(group, name, tokens)
    for name in ("queries", "keys", "group"):
        _create(group, name, getattr(recorded, name))
    _create(group, "alpha", np.asarray(layer.alpha, np.float64))
    if any(item.mask is not None for item in items):
        whole = [torch.ones(item.q.shape[1], item.k.shape[1]) if item.mask is None else item.mask for item in items]
        _create(group, "mask", torch.cat([mask.reshape(-1) for mask in whole]).numpy().astype(np.uint8))
    group.attrs.update({"path": layer.path, "scale": layer.scale, "dtype": str(group["q"].dtype)})


def _create(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
    chunks = (max(1, min(len(values), CHUNK // max(1, values[0].size))), *values.shape[1:])
    group.create_dataset(name, data=values, chunks=chunks, compression="gzip", shuffle=True, fletcher32=True)


class RecordFile(Records):
    """Recorded queries and keys in a file of ``write_records``; items are read when they are asked for.

    Args:
        path: The file.

    Raises:
        ValueError: There is no such file.
        DataError: It is damaged, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ValueError(f"{path} is {'a folder' if path.is_dir() else 'not there'}{ADVICE}")
        self.reader = Reader(path)
        self.starts: list[dict[str, NDArray[np.int64]]] = []
        with self.reader.checked() as file:
            if file.attrs.get("format") != FORMAT:
                raise DataError(f"it holds no recorded queries and keys{ADVICE}")
            if file.attrs["version"] != VERSION:
                raise DataError(f"it has version {file.attrs['version']}, this package reads version {VERSION}")
            groups = [file[f"layers/{number}"] for number in range(int(file.attrs["layers"]))]
            self.layers = tuple(map(self._meet, groups))

    def _meet(self, group: h5py.Group) -> Recorded:
        """Check the arrays of a layer, and read all but its queries and keys."""
        q, k = (array(group, name, "f", 3) for name in ("q", "k"))
        alpha = array(group, "alpha", "f", 1)[()]
        queries, keys, groups = (
            array(group, name, "iu", 1)[()].astype(np.int64) for name in ("queries", "keys", "group")
        )
        heads, head_dim = q.shape[1:]
        path = str(group.attrs["path"])
        if k.shape[1:] != q.shape[1:] or alpha.shape != (heads,) or not len(queries) == len(keys) == len(groups):
            raise DataError(f"the arrays of {path} are of several sizes")
        if queries.min() < 1 or keys.min() < 1 or queries.sum() != len(q) or keys.sum() != len(k):
            raise DataError(f"the lengths of {path} are not those of its queries and keys")
        pairs = queries * keys
        if "mask" in group and len(array(group, "mask", "u", 1)) != pairs.sum():
            raise DataError(f"the mask of {path} is not of the size of its queries and keys")
        if "v" in group and (values := array(group, "v", "f", 3)).shape[:2] != k.shape[:2]:
            raise DataError(f"the values of {path} have the shape {values.shape}, its keys {k.shape}")
        sizes = {"q": queries, "k": keys, "mask": pairs, "v": keys}
        self.starts.append({name: np.concatenate([[0], np.cumsum(size)]) for name, size in sizes.items()})
        layer = Layer(path, heads, head_dim, tuple(map(float, alpha)), float(group.attrs["scale"]))
        return Recorded(layer, queries, keys, groups)

    def item(self, layer: int, number: int) -> Item:
        """Return an item of a layer, both by their numbers."""
        recorded = self.layers[layer]
        with self.reader.explained():
            group = self.reader.file()[f"layers/{layer}"]
            q, k, mask, v = (self._part(group, layer, name, number) for name in ("q", "k", "mask", "v"))
        if mask is not None:
            mask = mask.bool().view(int(recorded.queries[number]), int(recorded.keys[number]))
        q, k, v = (None if each is None else each.transpose(0, 1).float() for each in (q, k, v))
        assert q is not None
        assert k is not None
        return Item(q, k, mask, v, int(recorded.group[number]))

    def _part(self, group: h5py.Group, layer: int, name: str, number: int) -> Tensor | None:
        if name not in group:
            return None
        first, end = self.starts[layer][name][number : number + 2]
        return torch.from_numpy(group[name][first:end])
