"""Recorded queries and keys of a file of either kind, of all layers or some."""

import re
from pathlib import Path

from datamodules.sparsity.original import read_dump
from datamodules.sparsity.records import Item, RecordFile, Records


class Chosen(Records):
    """Some layers of what was recorded.

    Args:
        records: All layers.
        numbers: Numbers of the layers to keep.
    """

    def __init__(self, records: Records, numbers: list[int]) -> None:
        self.records, self.numbers = records, numbers
        self.layers = tuple(records.layers[number] for number in numbers)

    def item(self, layer: int, number: int) -> Item:
        """Return an item of a layer, both by their numbers."""
        return self.records.item(self.numbers[layer], number)


def read(path: Path, layers: str | None = None, rescale: bool = False) -> Records:
    """Read recorded queries and keys: a file of the recorder, or a dump (``.pt``).

    Args:
        path: The file.
        layers: Regular expression searched in module paths; None = all layers.
        rescale: Whether to multiply a dump's queries by the root of ``head_dim``.

    Raises:
        ValueError: There is no such file, or no layer that matches; ``rescale`` is for dumps.
        DataError: It is damaged, or holds something else.
    """
    if path.suffix != ".pt" and rescale:
        raise ValueError(f"rescale is for dumps of Sparsefinder's own programs (.pt), got {path}")
    records: Records = read_dump(path, rescale=rescale) if path.suffix == ".pt" else RecordFile(path)
    if layers is None:
        return records
    paths = [recorded.layer.path for recorded in records.layers]
    numbers = [number for number, each in enumerate(paths) if re.search(layers, each)]
    if not numbers:
        raise ValueError(f"layers={layers!r} matches no layer of {path}; there are: {', '.join(paths)}")
    return Chosen(records, numbers)
