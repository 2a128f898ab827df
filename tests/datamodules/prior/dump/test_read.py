"""Dumps of other projects are read, invalid ones refused, and tasks batched by size."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from datamodules.prior.dump.read import Dump, DumpBatches
from tabattn.contract.errors import DataError
from tests.datamodules.prior.dump.foreign import original


def test_files_of_others_are_read(tmp_path: Path) -> None:
    seed = Dump(original(tmp_path / "seed.h5"))
    assert (len(seed), seed.sizes.classes, seed.read(np.arange(3)).context) == (6, 2, 7)
    newer = original(
        tmp_path / "newer.h5",
        single_eval_pos=None,
        num_datapoints=None,
        num_features=None,
        max_num_classes=None,
        train_test_split_index=np.full(6, 4, np.int32),
        original_batch_size=np.array([3]),
        problem_type="classification",
    )
    batch = Dump(newer).read(np.arange(6))
    assert batch.context == 4
    assert batch.x.shape == (6, 10, 4)
    assert batch.columns is None
    assert Dump(newer).sizes.classes == 2


def test_targets_that_no_context_row_answers_are_not_scored(tmp_path: Path) -> None:
    y = np.zeros((6, 10), np.float32)
    y[2, 8] = y[3, [1, 8]] = 1
    found = Dump(original(tmp_path / "a.h5", y=y)).read(np.arange(2, 4)).y
    assert found[0].tolist() == [0] * 8 + [-1, 0]
    assert found[1].tolist() == [0, 1] + [0] * 6 + [1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": None}, r"it is no dump of tasks: it has no array X \(but: "),
        ({"y": np.zeros((6, 9), np.float32)}, r"its sizes do not fit: X is \(6, 10, 4\), y is \(6, 9\)"),
        ({"problem_type": "regression"}, "it holds regression tasks, not classification"),
        ({"single_eval_pos": None}, "it does not say how many rows are context"),
        ({"single_eval_pos": np.full(6, 10)}, "a task has no target rows"),
        ({"single_eval_pos": np.zeros(6)}, "single_eval_pos must hold 6 numbers between 1 and 10"),
        ({"num_features": np.full(6, 5)}, "num_features must hold 6 numbers between 1 and 4"),
        ({"num_datapoints": np.full(5, 10)}, "num_datapoints must hold 6 numbers between 1 and 10"),
    ],
)
def test_a_wrong_file_says_why(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = original(tmp_path / "a.h5", **changes)
    with pytest.raises(DataError, match=rf"a\.h5 cannot be used: {message}"):
        Dump(path)


@pytest.mark.parametrize("label", [-1, 2, 0.5, np.nan])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_labels_out_of_range_are_refused(tmp_path: Path, label: float) -> None:
    y = np.zeros((6, 10), np.float32)
    y[5, 9] = label
    dumped = Dump(original(tmp_path / "a.h5", y=y))
    assert dumped.read(np.arange(5)).y.shape == (5, 10)
    with pytest.raises(DataError, match=r"a\.h5 cannot be used: labels of tasks 4 to 5 are not 0 to 1"):
        dumped.read(np.arange(4, 6))


def test_batches_are_of_one_size(tmp_path: Path) -> None:
    rows = np.array([10, 8, 10, 10, 8, 10])
    path = original(tmp_path / "a.h5", num_datapoints=rows, single_eval_pos=np.array([7, 7, 7, 5, 7, 7]))
    groups = [tasks.tolist() for tasks in DumpBatches(Dump(path), 2, seed=None).groups]
    assert groups == [[0, 2], [5], [1, 4], [3]]
    assert [tasks.tolist() for tasks in DumpBatches(Dump(path), 4, 0, (0.3, 0.6)).groups] == [[0, 2, 3, 5], [1, 4]]
    batch = DumpBatches(Dump(path), 2, seed=None)[2]
    assert batch.table is not None
    assert batch.table.tolist() == [1, 4]
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(batch.x, file["X"][[1, 4], :8])


@pytest.mark.parametrize("value", [3e38, -3e38, np.inf, -np.inf])
def test_cells_that_networks_cannot_take_are_named_with_their_task(tmp_path: Path, value: float) -> None:
    x = np.zeros((6, 10, 4), np.float32)
    x[3, 2, 1] = value
    x[5, 0, 0] = np.nan
    dump = Dump(original(tmp_path / "a.h5", X=x))
    with pytest.raises(DataError, match=r"a\.h5 cannot be used: task 3 holds -?(3e\+38|inf) in row 2, column 1"):
        dump.read(np.arange(6))
    assert dump.read(np.array([4, 5])).x.shape == (2, 10, 4)
