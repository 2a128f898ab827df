"""Prediction files of ``predict``."""

import importlib.util
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tabattn.storage.files import write_file

FOLDER = "predictions"


class Predictions(Callback):
    """Prediction writer: writes the predictions of each batch into ``predictions`` in the run folder.

    ``batch<number>.npz`` holds the tensors by name, those of a NamedTuple by the names of its fields, so ``numpy.load``
    reads them; a single tensor is called ``prediction``. A task with a ``prediction_table`` gets that as
    ``batch<number>.csv`` too, and as ``batch<number>.parquet`` if pyarrow is installed. Batches are numbered over all
    ranks, so the files do not depend on the number of ranks. Further tables of the task (``further_tables``) are
    ``batch<number>_<name>.csv``. ``data.json`` beside them holds what converts predictions to the data's units, if the
    datamodule has it: ``names``, ``mean`` and ``std`` of the sequences.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Get the run folder; a collective call."""
        if stage == "predict":
            self.folder = Path(trainer.log_dir or trainer.default_root_dir) / FOLDER

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the predictions of one batch."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        number = batch_idx * trainer.world_size + trainer.global_rank
        arrays = io.BytesIO()
        np.savez_compressed(arrays, **dict(_named("prediction", outputs)))
        write_file(self.folder / f"batch{number:05d}.npz", arrays.getbuffer())
        layout = getattr(pl_module, "prediction_table", None)
        if layout is not None and (columns := layout(batch, outputs, number)) is not None:
            _write_table(self.folder / f"batch{number:05d}", columns)
        further = getattr(pl_module, "further_tables", None)
        for name, columns in (further(batch, outputs, number) if further is not None else {}).items():
            _write_table(self.folder / f"batch{number:05d}_{name}", columns)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``data.json``, and print where the files are."""
        data = getattr(trainer, "datamodule", None)
        known = {name: getattr(data, name) for name in ("names", "mean", "std") if hasattr(data, name)}
        if self.folder is not None and known and trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_file(self.folder / "data.json", json.dumps(known).encode())
        rank_zero_info(f"Predictions are in {self.folder}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Synchronise with the other ranks, so that a failure of one fails the run."""
        if stage == "predict":
            trainer.strategy.barrier()


def _write_table(stem: Path, columns: dict[str, list[Any]]) -> None:
    """Write columns as CSV, and as Parquet if pyarrow is installed."""
    import pandas as pd

    table = pd.DataFrame(columns)
    write_file(stem.with_suffix(".csv"), table.to_csv(index=False).encode())
    if importlib.util.find_spec("pyarrow") is not None:
        write_file(stem.with_suffix(".parquet"), table.to_parquet(index=False))


def _named(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield each array in a nested prediction with a distinct name; None is left out."""
    if isinstance(value, Tensor):
        given = value.detach().cpu()
        yield name, (given.float() if given.dtype == torch.bfloat16 else given).numpy()
    elif hasattr(value, "_asdict"):
        for field, part in value._asdict().items():
            yield from _named(field if name == "prediction" else f"{name}.{field}", part)
    elif isinstance(value, dict):
        for field, part in value.items():
            yield from _named(str(field), part)
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from _named(f"{name}.{number}", part)
    elif value is not None:
        yield name, np.asarray(value)
