"""Dumps in the formats of other projects, and reading as these do."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np


def original(path: Path, tasks: int = 6, rows: int = 10, **changes: Any) -> Path:
    """A file as nanoTabPFN writes it."""
    rng = np.random.default_rng(0)
    arrays = {
        "X": rng.normal(size=(tasks, rows, 4)).astype(np.float32),
        "y": (np.arange(tasks * rows).reshape(tasks, rows) % 2).astype(np.float32),
        "num_features": np.full(tasks, 4, np.int32),
        "num_datapoints": np.full(tasks, rows, np.int32),
        "single_eval_pos": np.full(tasks, 7, np.int32),
        "max_num_classes": np.array([2]),
        **changes,
    }
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            if array is not None:
                file[key] = array
    return path


def as_others_read(path: Path, first: int, count: int) -> tuple[Any, Any, int]:
    """Cells, labels and context of some tasks by the rules of TFM-Playground's loader."""
    with h5py.File(path) as file:
        assert file["problem_type"][()].decode() == "classification"
        assert int(file["max_num_classes"][0]) >= 2
        tasks = slice(first, first + count)
        rows, width = int(file["num_datapoints"][tasks].max()), int(file["num_features"][tasks].max())
        split = "train_test_split_index" if first % 2 else "single_eval_pos"
        return file["X"][tasks, :rows, :width], file["y"][tasks, :rows], int(file[split][tasks][0])
