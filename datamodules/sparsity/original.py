"""Dumps of Sparsefinder's own programs: ``<name>_enc-attn.pt``, read and written without running code of a file."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.sparsity.records import Item, Kept, Recorded, Records
from tabattn.contract.errors import DataError
from tabattn.contract.queries_keys import Layer
from tabattn.storage import checkpoint_files
from tabattn.storage.files import write_checkpoint

ALPHA = 1.5
"""Alpha of the entmax in those programs."""


def read_dump(path: str | Path, *, rescale: bool = False) -> Kept:
    """Read a dump: a dictionary with ``q`` and ``k``, a list of tensors ``(layers, heads, length, head_dim)`` each.

    Args:
        path: The file.
        rescale: Whether to multiply queries by the root of ``head_dim``, as for models that have divided by it before.

    Raises:
        ValueError: There is no such file.
        DataError: It is damaged or no dump, or holds more than tensors and plain values.
    """
    found = checkpoint_files.load(path)
    samples = _samples(path, found)
    layers, heads, _, head_dim = samples[0][0].shape
    factor = head_dim**0.5 if rescale else 1.0
    facts = [Layer(f"layers.{layer}", heads, head_dim, (ALPHA,) * heads, head_dim**-0.5) for layer in range(layers)]
    return Kept(
        [
            (fact, [Item(q[layer].float() * factor, k[layer].float(), group=n) for n, (q, k) in enumerate(samples)])
            for layer, fact in enumerate(facts)
        ]
    )


def _samples(path: str | Path, found: Any) -> list[tuple[Tensor, Tensor]]:
    """Pairs of queries and keys of a dump, checked."""
    if not isinstance(found, dict) or not {"q", "k", "length_src"} <= set(found):
        raise DataError(f"{path} is no dump of queries and keys: it must hold q, k and length_src")
    q, k = found["q"], found["k"]
    lists = isinstance(q, list) and isinstance(k, list) and len(q) == len(k) > 0
    if not lists or not all(isinstance(each, Tensor) and each.dim() == 4 and each.numel() for each in [*q, *k]):
        raise DataError(
            f"{path}: q and k must be lists of one tensor (layers, heads, length, head_dim) for each sample"
        )
    kinds = {(*each.shape[:2], each.shape[3]) for each in [*q, *k]}
    if len(kinds) > 1:
        raise DataError(f"{path}: samples must have the same layers, heads and head_dim, got {sorted(kinds)}")
    lengths = torch.as_tensor(found["length_src"]).long().tolist()
    if lengths != [each.shape[2] for each in k]:
        raise DataError(f"{path}: length_src is not the number of keys of each sample")
    return list(zip(q, k, strict=True))


def write_dump(path: Path, records: Records) -> bool:
    """Write recorded queries and keys as a dump, atomically; queries are multiplied by the scale where it is another.

    Returns:
        Whether the queries see only keys up to their own place, which a dump cannot say: its reader must be told.

    Raises:
        ValueError: The dump cannot hold them: its layers share samples, lengths, heads and width, have alpha 1.5, and
            no mask but a causal one.
        OSError: The file cannot be written.
    """
    first = records.layers[0]
    for recorded in records.layers:
        if problem := _problem(recorded, first):
            raise ValueError(f"a dump cannot hold {recorded.layer.path}: {problem}")
    number, factor = range(len(first.group)), first.layer.head_dim**0.5
    items = [[records.item(layer, each) for layer in range(len(records.layers))] for each in number]
    causal = {_is_causal(item) for sample in items for item in sample}
    if len(causal) > 1:
        raise ValueError("a dump cannot hold masks: some queries see only some keys")
    scales = [recorded.layer.scale * factor for recorded in records.layers]
    dump: dict[str, Any] = {
        "length_src": torch.from_numpy(first.keys).float(),
        "q": [
            torch.stack([item.q * scale for item, scale in zip(sample, scales, strict=True)]).contiguous()
            for sample in items
        ],
        "k": [torch.stack([item.k for item in sample]).contiguous() for sample in items],
    }
    if not np.array_equal(first.queries, first.keys):
        dump["length_trg"] = torch.from_numpy(first.queries).float()
    write_checkpoint(path, dump)
    return causal == {True}


def _problem(recorded: Recorded, first: Recorded) -> str:
    """Why a dump cannot hold a layer beside the first; empty = it can."""
    layer = recorded.layer
    if layer[1:3] != first.layer[1:3]:
        return f"heads and head_dim are {layer.heads} and {layer.head_dim}, those of {first.layer.path} others"
    if any(alpha != ALPHA for alpha in layer.alpha):
        return f"alpha must be {ALPHA}, got {', '.join(f'{alpha:g}' for alpha in sorted(set(layer.alpha)))}"
    if not (np.array_equal(recorded.queries, first.queries) and np.array_equal(recorded.keys, first.keys)):
        return f"its lengths are not those of {first.layer.path}"
    return ""


def _is_causal(item: Item) -> bool:
    """Whether a query sees the keys up to its own place alone.

    Raises:
        ValueError: It sees some others.
    """
    if item.mask is None or bool(item.mask.all()):
        return False
    if not torch.equal(item.mask, torch.ones_like(item.mask).tril()):
        raise ValueError("a dump cannot hold masks: some queries see only some keys")
    return True
