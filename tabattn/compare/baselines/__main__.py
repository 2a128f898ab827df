"""Command line ``python -m tabattn.compare.baselines DIR``: scores simple baselines on the data of a comparison."""

import argparse
import json
import math
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, seed_everything
from lightning.pytorch.utilities.model_helpers import is_overridden

import datamodules  # noqa: F401
from tabattn.compare.baselines import cells, numbers, sequences, tables
from tabattn.compare.baselines.logged import logged
from tabattn.compare.report.frame import Comparison, read
from tabattn.storage.class_paths import guard
from tabattn.storage.files import write_file

COMPUTED: Mapping[str, ModuleType] = {
    "prior": tables,
    "regression": numbers,
    "pairs": sequences,
    "reconstruction": cells,
}
"""Baselines that are fitted, by task."""


def rows_of(comparison: Comparison) -> list[dict[str, Any]]:
    """Rows of all baselines and oracles of a comparison; one that fails is a row with its reason."""
    scores = [cell.finite for cell in comparison.cells if cell.result is not None]
    rows = logged(comparison.task, scores)
    kind = COMPUTED.get(comparison.task)
    if kind is None:
        return rows
    try:
        data = datamodule(configuration(comparison), str(comparison.settings.get("folder") or os.getcwd()))
    except Exception as ex:
        return [*rows, {"name": "simple baselines", "kind": "baseline", "scores": {}, "reason": _reason(ex)}]
    stage = "test" if is_overridden("test_dataloader", data) else "val"
    for name in kind.MODELS:
        row: dict[str, Any] = {"name": name, "kind": "baseline", "scores": {}}
        try:
            batches = data.test_dataloader() if stage == "test" else data.val_dataloader()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                row["scores"] = kind.score(name, data, batches, stage)
        except Exception as ex:
            row["reason"] = _reason(ex)
        rows.append(row)
    return rows


def configuration(comparison: Comparison) -> Mapping[str, Any]:
    """Datamodule of the configuration that the cells share.

    Raises:
        ValueError: No cell has one.
    """
    for cell in comparison.cells:
        told = cell.folder / "cell.json"
        found = json.loads(told.read_text()).get("config") if told.is_file() else None
        if found and found.get("data"):
            return dict(found["data"])
    raise ValueError("no cell says its datamodule")


def datamodule(config: Mapping[str, Any], folder: str) -> Any:
    """Build a datamodule, ready for evaluation.

    Args:
        config: Its class path and arguments.
        folder: Folder that its paths start from, which becomes that of this process.
    """
    os.chdir(folder)
    seed_everything(0, workers=True, verbose=False)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=LightningDataModule)
    with guard():
        data = parser.instantiate_classes(parser.parse_object({"data": dict(config)})).data
    data.prepare_data()
    data.setup("test")
    return data


def _reason(ex: Exception) -> str:
    return f"{type(ex).__name__}: {' '.join(str(ex).split())}"


def main(argv: Sequence[str] | None = None) -> None:
    """Score the baselines, and write ``baselines.json``."""
    parser = argparse.ArgumentParser(
        prog="python -m tabattn.compare.baselines",
        description="Score simple baselines on the evaluation data of a comparison, and write baselines.json.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="folder of the comparison: --out of python -m tabattn.compare")
    options = parser.parse_args(argv)
    folder = options.folder.absolute()
    try:
        rows = rows_of(read(folder))
        write_file(folder / "baselines.json", json.dumps({"rows": [_plain(row) for row in rows]}, indent=1).encode())
    except (ValueError, OSError) as ex:
        parser.error(" ".join(str(ex).split()))
    for row in rows:
        sys.stderr.write(f"{row['kind']}: {row['name']}{': ' + row['reason'] if row.get('reason') else ''}\n")


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with null in place of NaN, which JSON lacks."""
    scores = {name: value if math.isfinite(value) else None for name, value in row["scores"].items()}
    return {**row, "scores": scores}


if __name__ == "__main__":
    main()
