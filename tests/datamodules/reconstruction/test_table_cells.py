"""TableCells: no label of a held-out row reaches the network, and batches are functions of the seed."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from datamodules import TableCells
from datamodules.reconstruction import ContextOptions, MaskOptions, SplitOptions
from datamodules.reconstruction.batches import TrainingBatches
from datamodules.reconstruction.splits import TEST, TRAIN
from tabattn.contract.cells import CellBatch
from tabattn.contract.errors import TableWarning


def frame(rows: int = 60) -> pd.DataFrame:
    """Make a table with numbers, categories, missing cells and a numeric target."""
    draws = np.random.default_rng(0)
    size = draws.normal(size=rows).round(3)
    size[::9] = np.nan
    shape = draws.choice(["round", "square", "flat"], rows).astype(object)
    shape[3::11] = None
    return pd.DataFrame({"size": size, "shape": shape, "price": 100 + 10 * draws.normal(size=rows)})


def batches(data: TableCells) -> list[CellBatch]:
    """Return the first training batches and all batches to score."""
    train = data.train_dataloader().dataset
    return [*(train[index] for index in range(4)), *data.val_dataloader(), *data.test_dataloader()]


@pytest.mark.parametrize("transductive", [False, True])
@pytest.mark.parametrize("rows", [None, 20])
@pytest.mark.parametrize("target", ["price", "shape"])
def test_labels_of_held_out_rows_change_no_input(transductive: bool, rows: int | None, target: str) -> None:
    table = frame()
    # Folds are stratified by the labels; the last rows are not.
    options: dict[str, Any] = {"split": SplitOptions(test_rows=12 if target == "shape" else None)}
    options["context"] = ContextOptions(transductive=transductive, rows=rows, balanced=False)
    before = TableCells(table, target, **options)
    held = (before.prepared.cells.roles == TEST).numpy()
    if target == "price":
        table.loc[held, target] = -1e6
    else:
        table.loc[held & table[target].notna(), target] = "flat"
    after = TableCells(table, target, **options)
    for one, other in zip(batches(before), batches(after), strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.hidden, other.hidden)


def test_statistics_are_those_of_training_rows() -> None:
    table = frame()
    data = TableCells(table, "price")
    train = (data.prepared.cells.roles == TRAIN).numpy()
    size, price = data.columns[0], data.columns[2]
    assert size.mean == pytest.approx(np.nanmean(table["size"][train]))
    assert size.std == pytest.approx(np.nanstd(table["size"][train]))
    assert price.std == pytest.approx(table["price"][train].std(ddof=0))
    whole = TableCells(table, "price", context=ContextOptions(transductive=True)).columns
    assert whole[0].mean == pytest.approx(table["size"].mean())
    assert whole[2] == price


def test_an_epoch_has_every_row_once_and_another_order_each_time() -> None:
    data = TableCells(frame(), "shape", context=ContextOptions(rows=10))
    train = data.train_dataloader().dataset
    epochs = [[train[epoch * len(train) + part].row[0] for part in range(len(train))] for epoch in range(2)]
    for epoch in epochs:
        rows = torch.cat(epoch)
        assert len(rows) == len(rows.unique()) == int((data.prepared.cells.roles == TRAIN).sum())
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))
    assert torch.equal(train[3].row, train[3].row)


def test_parts_of_an_epoch_have_the_shares_of_the_classes() -> None:
    table = pd.DataFrame({"a": np.arange(200.0), "b": np.repeat(["x", "y"], 100)})
    data = TableCells(table, "b", context=ContextOptions(rows=20))
    train = data.train_dataloader().dataset
    for part in range(len(train)):
        truth = train[part].truth[0, :, 1]
        assert abs(float(truth.mean()) - 0.5) <= 1 / len(truth)


def test_training_rows_with_a_hidden_target_come_last() -> None:
    data = TableCells(frame(), "price", masks=MaskOptions(targets=0.4))
    for index in range(5):
        batch = data.train_dataloader().dataset[index]
        asked = batch.scored[0, :, 2]
        assert not asked[: batch.context].any()
        assert asked[batch.context :].all()
    everything = TableCells(frame(), "price", masks=MaskOptions(targets=1.0))
    batch = everything.train_dataloader().dataset[0]
    assert batch.context == batch.x.shape[1]


@pytest.mark.parametrize("transductive", [False, True])
def test_each_row_is_scored_once(transductive: bool) -> None:
    data = TableCells(frame(), "price", context=ContextOptions(transductive=transductive, rows=16, partitions=3))
    found = list(data.test_dataloader())
    rows = torch.cat([batch.row[0][batch.scored[0].any(1)] for batch in found])
    assert sorted(rows.tolist()) == (data.prepared.cells.roles == TEST).nonzero()[:, 0].tolist()
    for batch in found:
        assert len(batch.x) == 3
        assert batch.x.shape[1] <= 16
        asked = batch.scored[0].any(1)
        assert all(torch.equal(batch.row[part][asked], batch.row[0][asked]) for part in range(3))
        assert batch.context == (batch.x.shape[1] if transductive else int((~asked).sum()))
    assert not torch.equal(found[0].row[0], found[0].row[1])


def test_rows_without_a_target_are_predicted() -> None:
    table = frame()
    table.loc[[5, 7], "price"] = np.nan
    data = TableCells(table, "price")
    assert data.prepared.cells.roles[[5, 7]].tolist() == [TEST, TEST]
    batch = next(iter(data.test_dataloader()))
    asked = torch.isin(batch.row[0], torch.tensor([5, 7]))
    assert batch.hidden[0][asked, 2].all()
    assert not batch.scored[0][asked].any()


def test_several_targets() -> None:
    data = TableCells(frame(), ("price", "shape"))
    assert [column.target for column in data.columns] == [False, True, True]
    batch = next(iter(data.val_dataloader()))
    assert batch.scored[0, -12:, 1:].any(0).all()


def test_unknown_categories_of_held_out_rows_are_missing() -> None:
    table = frame()
    test = TableCells(table, "price").prepared.cells.roles == TEST
    row = int(test.nonzero()[0, 0])
    table.loc[row, "shape"] = "star"
    data = TableCells(table, "price")
    assert data.columns[1].categories == ("flat", "round", "square")
    assert data.prepared.cells.truth[row, 1].isnan()


def test_columns_without_a_value_are_said() -> None:
    table = frame().assign(empty=np.nan)[["size", "empty", "price"]]
    with pytest.warns(TableWarning, match="column 'empty' has no value: it is left out"):
        data = TableCells(table)
    assert [column.name for column in data.columns] == ["size", "price"]


def test_duplicated_rows_are_found() -> None:
    table = frame()
    roles = TableCells(table, "price").prepared.cells.roles
    train, test = (int((roles == role).nonzero()[0, 0]) for role in (TRAIN, TEST))
    table.loc[test, ["size", "shape"]] = table.loc[train, ["size", "shape"]]
    data = TableCells(table, "price")
    assert data.duplicated[test]
    assert not data.duplicated[train]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"target": "prize"}, r"the DataFrame has no column 'prize' \(did you mean 'price'\?\)"),
        ({"target": "price", "drop": ("sizes",)}, "has no column 'sizes'"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1, got 0"),
        ({"split": SplitOptions(folds=61)}, "split.folds must be at most the number of rows"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TableCells(frame(), **arguments)


@pytest.mark.parametrize(("target", "share"), [("price", 0.0), ("shape", 0.15), (("shape", "price"), 0.0)])
def test_features_are_hidden_by_the_kind_of_the_targets(target: str | tuple[str, ...], share: float) -> None:
    data = TableCells(frame(), target, masks=MaskOptions(features=None))
    assert data.prepared.cells.masks.features == share
    batch = TrainingBatches(data.prepared.cells)[0]
    targets = torch.tensor([column.target for column in data.columns])
    assert bool((batch.scored & ~targets).any()) == (share > 0)
    assert TableCells(frame(), target, masks=MaskOptions(features=0.0)).prepared.cells.masks.features == 0
