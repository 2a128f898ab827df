"""Prediction files: their numbers and names."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tabattn.training.predictions import Predictions


def written(folder: Path, output: Any, number: int = 0) -> dict[str, Any]:
    """What the file of a batch holds."""
    callback: Any = Predictions()
    callback.folder = folder
    callback.on_predict_batch_end(SimpleNamespace(world_size=1, global_rank=0), None, output, None, number)
    with np.load(folder / f"batch{number:05d}.npz") as file:
        return {name: file[name].tolist() for name in file.files}


def test_batches_are_numbered_over_all_ranks(tmp_path: Path) -> None:
    """As are the tables that a task lays out."""
    numbers: list[int] = []
    task = SimpleNamespace(prediction_table=lambda batch, output, number: numbers.append(number))
    callback: Any = Predictions()
    callback.folder = tmp_path
    for rank in range(2):
        for index in range(2):
            place = SimpleNamespace(world_size=2, global_rank=rank)
            callback.on_predict_batch_end(place, task, torch.tensor([rank, index]), None, index)
    assert numbers == [0, 2, 1, 3]
    found = [np.load(path)["prediction"].tolist() for path in sorted(tmp_path.iterdir())]
    assert found == [[0, 0], [1, 0], [0, 1], [1, 1]]


class Inner(NamedTuple):
    x: Tensor
    task: Tensor | None = None


class Outer(NamedTuple):
    x: Tensor
    batch: Inner
    several: list[Tensor]


def test_every_array_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Also where a part has fields of the same names; of what is None there is no array."""
    x, half = torch.arange(2.0), torch.tensor([0.5], dtype=torch.bfloat16)
    found = written(tmp_path, Outer(x, Inner(x + 2), [half, x + 4]))
    assert found == {"x": [0, 1], "batch.x": [2, 3], "several.0": [0.5], "several.1": [4, 5]}
    assert written(tmp_path, x, 3) == {"prediction": [0, 1]}
    assert written(tmp_path, {"a": x, "b": 3}, 4) == {"a": [0, 1], "b": 3}


def test_what_converts_to_the_units_of_the_data_lies_beside(tmp_path: Path) -> None:
    callback: Any = Predictions()
    callback.folder = tmp_path / "predictions"
    data = SimpleNamespace(names=("a", "b"), mean=(1.0, 2.0), std=(3.0, 4.0), others=5)
    for zero in (False, True):
        callback.on_predict_end(SimpleNamespace(datamodule=data, is_global_zero=zero), None)
        assert callback.folder.exists() == zero
    told = json.loads((callback.folder / "data.json").read_text())
    assert told == {"names": ["a", "b"], "mean": [1.0, 2.0], "std": [3.0, 4.0]}
