"""Recorder of queries and keys of trained attention layers."""

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from tabattn.attention import Mechanism
from tabattn.attention.capture import Record, capture
from tabattn.contract.checks import check_expression
from tabattn.contract.queries_keys import Layer

if TYPE_CHECKING:
    from datamodules.sparsity.records import Item


class QueryKeyRecorder(Callback):
    """Records queries and keys of every attention layer during ``predict``, to learn sparse attention graphs from.

    An item is one element of a layer's own batch, such as a table or a row of one, without the keys that are hidden and
    the queries that see nothing; masks with a row for each query are kept. Predictions stay bit-identical. The file
    (HDF5) is written atomically when all batches are done; ``QueriesKeys`` reads it, and ``python -m
    datamodules.sparsity --convert`` converts it.

    Args:
        path: File to write.
        items: Most items of a layer; None = all.
        per_call: Most items of one call of a layer, evenly spaced in its batch; None = all.
        layers: Regular expression searched in module paths; only matching layers are recorded. None = all.
        alpha: Alpha of the entmax that says which weights are zero, for mechanisms that have none, such as Softmax.
            None = such layers are left out.
        values: Whether to record values too, for the errors of outputs.
        dtype: Type of the numbers in the file.
        overwrite: Whether an existing file may be replaced.
    """

    def __init__(
        self,
        path: str = "queries_keys.h5",
        items: int | None = 512,
        per_call: int | None = 16,
        layers: str | None = None,
        alpha: float | None = None,
        values: bool = True,
        dtype: Literal["float32", "float16"] = "float32",
        overwrite: bool = False,
    ) -> None:
        for name, value in (("items", items), ("per_call", per_call)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1 or None, got {value}")
        check_expression("layers", layers)
        if alpha is not None and not 1.0 < alpha <= 2.0:
            raise ValueError(f"alpha must be in (1, 2], got {alpha}")
        if dtype not in ("float32", "float16"):
            raise ValueError(f"dtype must be float32 or float16, got {dtype!r}")
        self.path, self.items, self.per_call, self.layers = Path(path), items, per_call, layers
        self.alpha, self.dtype, self.overwrite = alpha, getattr(torch, dtype), overwrite
        self.keep = ("q", "k", "mask", *(["v"] if values else []))
        self.chosen: dict[str, Layer] = {}
        self.found: dict[str, list[Item]] = {}
        self.open = ExitStack()
        self.records: dict[str, list[Record]] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the file may be written and that there are layers to record; raise before any work."""
        from datamodules.commands import check_target

        if stage != "predict":
            return
        if trainer.world_size > 1:
            raise MisconfigurationException(f"QueryKeyRecorder records one process, got {trainer.world_size}")
        try:
            check_target(self.path, self.overwrite)
        except ValueError as ex:
            raise MisconfigurationException(
                f"QueryKeyRecorder: {str(ex).replace('--overwrite', 'overwrite=true')}"
            ) from ex

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the layers to record, once the weights are loaded."""
        outer = outermost(pl_module)
        paths = [path for path in outer if self.layers is None or re.search(self.layers, path)]
        if not paths:
            there = ", ".join(outer) or "none"
            raise MisconfigurationException(f"layers={self.layers!r} matches no attention layer; there are: {there}")
        found = {path: self._layer(path, outer[path]) for path in paths}
        self.chosen = {path: layer for path, layer in found.items() if layer is not None}
        self.found = {path: [] for path in self.chosen}
        if dense := [path for path in paths if path not in self.chosen]:
            text = f"no weights of zero, as its attention has no alpha above 1: {', '.join(dense)}"
            if not self.chosen:
                raise MisconfigurationException(f"QueryKeyRecorder: {text}; train with Entmax, or give an alpha")
            rank_zero_info(f"QueryKeyRecorder leaves out what has {text}")

    def _layer(self, path: str, mechanism: Mechanism) -> Layer | None:
        """Facts of a layer; None = its weights are all above zero."""
        numbers = torch.as_tensor(getattr(mechanism, "alpha", self.alpha or 1.0)).detach().cpu().double()
        if float(numbers.min()) <= 1.0:
            return None
        alpha = tuple(numbers.expand(mechanism.heads).tolist())
        return Layer(path, mechanism.heads, mechanism.head_dim, alpha, mechanism.scale)

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if any(self._lacks(path) for path in self.chosen):
            self.records = self.open.enter_context(capture(pl_module, self.keep, items=None))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.open.close()
        for path, found in self.found.items():
            for record in self.records.get(path, []):
                if self._lacks(path):
                    rest = None if self.items is None else self.items - len(found)
                    found += self._items(path, record, batch_idx)[:rest]
        self.records = {}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.open.close()

    def _lacks(self, path: str) -> bool:
        return self.items is None or len(self.found[path]) < self.items

    def _items(self, path: str, record: Record, group: int) -> "list[Item]":
        """Items of a call."""
        from datamodules.sparsity.records import Item

        q, k, v, mask = record.q, record.k, record.v, record.mask
        assert q is not None
        assert k is not None
        if mask is not None and bool((mask != mask[:, :1]).any()):
            raise MisconfigurationException(f"QueryKeyRecorder: {path} has a mask that differs by head")
        count = len(q) if self.per_call is None else min(len(q), self.per_call)
        items = []
        for place in torch.linspace(0, len(q) - 1, count).round().long().tolist() if count else ():
            queries, keys, seen = visible(None if mask is None else mask[place % len(mask), 0], q.shape[2], k.shape[2])
            if len(queries):
                values = None if v is None else v[place][:, keys].to(self.dtype)
                own = q[place][:, queries].to(self.dtype), k[place][:, keys].to(self.dtype)
                items.append(Item(*own, seen, values, group))
        return items

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        from datamodules.sparsity.records import Kept, write_records

        if silent := [path for path, items in self.found.items() if not items]:
            rank_zero_warn(
                f"QueryKeyRecorder: not called, or without anything to see, and left out: {', '.join(silent)}"
            )
        kept = Kept([(self.chosen[path], items) for path, items in self.found.items() if items])
        if not kept.layers:
            raise MisconfigurationException("QueryKeyRecorder saw no attention layer at work")
        write_records(self.path, kept)
        counts = [len(recorded.group) for recorded in kept.layers]
        rank_zero_info(f"{self.path}: {len(counts)} layers, {min(counts)} to {max(counts)} items each")


def outermost(model: torch.nn.Module) -> dict[str, Mechanism]:
    """Mechanisms of a model by module path, without those that are parts of another."""
    found = {path: module for path, module in model.named_modules() if isinstance(module, Mechanism)}
    return {path: module for path, module in found.items() if not any(path.startswith(f"{other}.") for other in found)}


def visible(mask: Tensor | None, queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Places of queries that see something and of keys that are seen, and the mask of these; None = all are seen.

    Args:
        mask: ``(queries or 1, keys or 1)`` boolean; None = all keys may be seen.
        queries: Number of queries.
        keys: Number of keys.
    """
    if mask is None:
        return torch.arange(queries), torch.arange(keys), None
    mask = mask.expand(queries, keys)
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    seen = mask[rows][:, columns]
    return rows, columns, None if bool(seen.all()) else seen
