"""Dumps from arrays and data frames: read back by our loader and by others', and refused in one line."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from datamodules import PriorDump
from datamodules.prior import DrawOptions
from datamodules.prior.dump import __main__ as command
from datamodules.prior.dump import cut_tasks, write_tasks
from datamodules.prior.dump.arrays import ArrayTasks
from datamodules.prior.dump.read import Dump
from tabattn.contract.errors import TableWarning
from tests.datamodules.prior.dump.foreign import as_others_read

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 12, 3))
X[1, 2, 0] = np.nan
Y = np.tile([0, 1], 30).reshape(5, 12)


def ragged() -> tuple[list[Any], list[Any]]:
    """Tasks of 8, 9, 10 and 11 rows, and of 2 and 3 features."""
    return [RNG.normal(size=(8 + i, 2 + i % 2)) for i in range(4)], [np.arange(8 + i) % 3 for i in range(4)]


def test_tasks_of_arrays_are_read_back_by_our_loader_and_by_others(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written = write_tasks(tmp_path / "a.h5", X, Y, 8, batch_size=2)
    assert written[:2] == (tmp_path / "a.h5", 5)
    assert written.classes == ("0", "1")
    dump = Dump(tmp_path / "a.h5")
    dump.verify()
    batch = dump.read(np.arange(5))
    np.testing.assert_array_equal(batch.x.numpy(), X.astype(np.float32))
    assert (batch.y.tolist(), batch.context, batch.columns) == (Y.tolist(), 8, None)
    for first in (0, 1):
        x, y, context = as_others_read(tmp_path / "a.h5", first, 2)
        np.testing.assert_array_equal(x, X[first : first + 2].astype(np.float32))
        assert (y.tolist(), context) == (Y[first : first + 2].tolist(), 8)
    data = PriorDump(str(tmp_path / "a.h5"), tables=("sklearn:iris",))
    assert data.train_dataloader().dataset[0].x.shape == (5, 12, 3)
    assert json.loads(dump.attributes["arguments"])["classes"] == ["0", "1"]


def test_tasks_of_different_sizes(tmp_path: Path) -> None:
    x, y = ragged()
    write_tasks(tmp_path / "a.h5", x, y, [4, 5, 6, 7], batch_size=3)
    dump = Dump(tmp_path / "a.h5")
    assert dump.sizes.rows.tolist() == [8, 9, 10, 11]
    assert dump.sizes.features.tolist() == [2, 3, 2, 3]
    assert (dump.sizes.context.tolist(), dump.sizes.classes) == ([4, 5, 6, 7], 3)
    for number in range(4):
        batch = dump.read(np.asarray([number]))
        np.testing.assert_array_equal(batch.x[0].numpy(), x[number].astype(np.float32))
        assert (batch.y[0].tolist(), batch.context) == (y[number].tolist(), 4 + number)


def test_tensors_and_lists_are_arrays_too(tmp_path: Path) -> None:
    x = torch.from_numpy(X).requires_grad_()
    first = write_tasks(tmp_path / "a.h5", x, torch.from_numpy(Y), torch.full((5,), 8))
    assert write_tasks(tmp_path / "b.h5", X.tolist(), Y.astype(float).tolist(), 8).sha256 == first.sha256


def test_cells_that_single_precision_cannot_tell_apart_are_standardised(tmp_path: Path) -> None:
    seconds = 1.7e9 + np.arange(12.0)
    write_tasks(tmp_path / "a.h5", np.stack([seconds, X[0, :, 0]], 1)[None], Y[:1], 8)
    x = Dump(tmp_path / "a.h5").read(np.asarray([0])).x[0]
    assert len(x[:, 0].unique()) == 12
    np.testing.assert_array_equal(x[:, 1].numpy(), X[0, :, 0].astype(np.float32))


def test_labels_are_numbered_and_it_is_said(tmp_path: Path) -> None:
    names = np.asarray(["yes", "no"])[Y]
    with pytest.warns(TableWarning, match=r"^labels are numbered by the order of their values: 'no' = 0, 'yes' = 1$"):
        written = write_tasks(tmp_path / "a.h5", X, names, 8)
    assert written.classes == ("no", "yes")
    assert Dump(tmp_path / "a.h5").read(np.arange(5)).y.tolist() == (1 - Y).tolist()
    with pytest.warns(TableWarning, match="2 = 0, 7 = 1$"):
        write_tasks(tmp_path / "b.h5", X, 5 * Y + 2, 8)
    with pytest.warns(TableWarning, match="9 = 9, ...$"):
        write_tasks(tmp_path / "c.h5", [np.zeros((48, 1))], [np.r_[np.arange(12), 13:25, :12, 13:25]], 24)


def test_classes_of_different_tables_are_numbered_in_each(tmp_path: Path) -> None:
    y = [["a", "b"] * 6, [0, 1] * 6]
    with pytest.warns(TableWarning, match="labels of 1 of 2 tasks are numbered, in each by the order of their values"):
        written = write_tasks(tmp_path / "a.h5", X[:2], y, 8, shared_classes=False)
    dump = Dump(tmp_path / "a.h5")
    assert (dump.sizes.classes, written.classes) == (2, ())
    assert dump.read(np.arange(2)).y.tolist() == [[0, 1] * 6] * 2
    with pytest.raises(ValueError, match="labels of all tasks must be of one kind that can be sorted"):
        write_tasks(tmp_path / "b.h5", X[:2], y, 8)


def changed(array: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    """A copy with another value at a place."""
    copy = array.astype(float)
    copy[place] = value
    return copy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": X[:4]}, "x and y must hold the same number of tasks, at least 1, got 4 and 5"),
        ({"x": X[:0], "y": Y[:0]}, "x and y must hold the same number of tasks, at least 1, got 0 and 0"),
        ({"x": X[:, :11]}, r"x of task 0 must be \(12, features\), as its y has 12 rows, got \(11, 3\)"),
        ({"x": X[:, :, 0]}, r"x of task 0 must be \(12, features\), as its y has 12 rows, got \(12,\)"),
        ({"x": X[:, :, :0]}, r"x of task 0 must be \(12, features\), as its y has 12 rows, got \(12, 0\)"),
        ({"x": X.astype(str)}, "x of task 0 must hold numbers, got <U32: cut_tasks encodes columns"),
        ({"x": changed(X, (3, 4, 1), np.inf)}, "x of task 3 is infinite in row 4, column 1"),
        ({"y": changed(Y, (2, 5), np.nan)}, "y of task 2: Input y contains NaN: 1 of 12 rows have no label"),
        ({"y": changed(Y, (2, 5), 0.5)}, "y of task 2: Unknown label type: continuous"),
        ({"y": Y[:, :, None]}, r"y of task 0 must be \(rows,\), got \(12, 1\)"),
        ({"context": 12}, "context of task 0 must be between 1 and 11, as it has 12 rows, got 12"),
        ({"context": [8, 8, 0, 8, 8]}, "context of task 2 must be between 1 and 11, as it has 12 rows, got 0"),
        ({"context": 0.8}, "context must be one whole number, or one for each of the 5 tasks, got 0.8"),
        ({"context": [8, 8]}, r"one for each of the 5 tasks, got an array of int64, \(2,\)"),
        ({"context": 1}, "the 1 context rows of task 0 lack a target's class, 1: draw its rows stratified, or write"),
        ({"y": np.r_["0", Y[:4], np.full((1, 12), 1)]}, "the 8 context rows of task 4 have a single class, 1: draw"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_wrong_arrays_are_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        write_tasks(tmp_path / "a.h5", **{"x": X, "y": Y, "context": 8, **changes})
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_target_of_an_unseen_class_is_written_where_that_is_asked_for(tmp_path: Path) -> None:
    y = changed(Y, (0, 11), 2)
    with pytest.raises(ValueError, match="the 8 context rows of task 0 lack a target's class, 2"):
        write_tasks(tmp_path / "a.h5", X, y, 8)
    write_tasks(tmp_path / "a.h5", X, y, 8, strict=False)
    assert Dump(tmp_path / "a.h5").read(np.arange(5)).y[0, 8:].tolist() == [0, 1, 0, -1]


def test_an_interrupted_call_goes_on_with_the_same_arrays_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, get = write_tasks(tmp_path / "whole.h5", X, Y, 8, batch_size=2), ArrayTasks.__getitem__
    made: list[int] = []

    def failing(self: ArrayTasks, index: int) -> Any:
        made.append(index)
        if made == [0, 1]:
            raise KeyboardInterrupt
        return get(self, index)

    monkeypatch.setattr(ArrayTasks, "__getitem__", failing)
    with pytest.raises(KeyboardInterrupt):
        write_tasks(tmp_path / "a.h5", X, Y, 8, batch_size=2)
    assert [path.name for path in tmp_path.glob("a.h5*")] == ["a.h5.tmp"]
    for other in ({"x": changed(X, (4, 11, 2), 0)}, {"y": Y[:, ::-1]}, {"context": 9}):
        with pytest.raises(ValueError, match=r"a\.h5\.tmp was begun with other arguments"):
            write_tasks(tmp_path / "a.h5", **{"x": X, "y": Y, "context": 8, "batch_size": 2, **other})
    assert write_tasks(tmp_path / "a.h5", X, Y, 8, batch_size=2).sha256 == whole.sha256
    assert made == [0, 1, 1, 2]
    with pytest.raises(ValueError, match=r"a\.h5 exists: give another name, or overwrite=True"):
        write_tasks(tmp_path / "a.h5", X, Y, 8)
    assert write_tasks(tmp_path / "a.h5", X, Y, 8, batch_size=2, overwrite=True).sha256 == whole.sha256


FRAME = pd.DataFrame(
    {"size": np.arange(60.0), "colour": np.tile(["red", "blue", "green"], 20), "kind": np.repeat(["a", "b"], 30)}
)
CUT = {"tasks": 10, "rows": 15, "context": 10}


def test_a_data_frame_is_cut_as_the_command_cuts_its_file(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    train, test = cut_tasks(tmp_path / "frame.h5", FRAME, **CUT, seed=3)
    assert [(each.path.name, each.tasks) for each in (train, test)] == [("frame_train.h5", 7), ("frame_test.h5", 3)]
    flags = [word for name, value in CUT.items() for word in (f"--{name}", str(value))]
    assert command.main(["--source", f"{tmp_path}/t.csv", *flags, "--seed", "3", "--out", f"{tmp_path}/c.h5"]) == 0
    assert Dump(tmp_path / "c_train.h5").attributes["sha256"] == train.sha256
    assert Dump(tmp_path / "c_test.h5").attributes["sha256"] == test.sha256
    (again,) = cut_tasks(tmp_path / "one.h5", tmp_path / "t.csv", "kind", **CUT | {"tasks": 3}, seed=3, split="test")
    assert again.sha256 == test.sha256


def test_a_pair_of_arrays_is_cut(tmp_path: Path) -> None:
    pair = (FRAME[["size", "colour"]], FRAME["kind"])
    draws = DrawOptions(permute_labels=False)
    parts = cut_tasks(tmp_path / "pair.h5", pair, **CUT, draws=draws)
    assert [part.classes for part in parts] == [("a", "b")] * 2
    frame = cut_tasks(tmp_path / "frame.h5", FRAME, "kind", **CUT, draws=draws)
    assert [part.sha256 for part in parts] == [part.sha256 for part in frame]
    cells = np.stack([FRAME["size"], FRAME["size"] % 7], 1)
    (one,) = cut_tasks(tmp_path / "a.h5", (cells, Y.ravel()), **CUT, split="train")
    assert Dump(one.path).read(np.arange(10)).x.shape == (10, 15, 2)


@pytest.mark.parametrize(
    ("table", "changes", "message"),
    [
        (FRAME, {"split": "val"}, "split must be both, train or test, got 'val'"),
        (FRAME, {"tasks": 0}, "tasks must be at least 1, got 0"),
        (FRAME, {"tasks": 1}, "tasks of the test part must be at least 1, got 0"),
        (FRAME, {"target": "sort"}, "the DataFrame has no column 'sort'"),
        ((X[0], Y[0]), {"target": "kind"}, "a pair of arrays has its labels in the second, and no column 'kind'"),
        ((X[0], Y[0], Y[0]), {}, r"a table of arrays is a pair \(cells, labels\), got 3 arrays"),
        ((X, Y[0]), {}, r"cells must be \(rows, features\), got an array of the shape \(5, 12, 3\)"),
        ((X[0], Y[0, :11]), {}, "cells and labels must have as many rows, got 12 and 11"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, table: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cut_tasks(tmp_path / "a.h5", table, **CUT | changes)
    assert not list(tmp_path.iterdir())
