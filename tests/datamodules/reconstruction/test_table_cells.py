"""TableCells: no label of a held-out row reaches the network, and batches are functions of the seed."""

import re
from contextlib import nullcontext
from pathlib import Path
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


@pytest.mark.filterwarnings("ignore:column 'price' has -1e.06 in row")
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
    predicted = torch.cat([batch.row[0][batch.to_predict([2])] for batch in found])
    assert sorted(predicted.tolist()) == sorted(rows.tolist())


def test_rows_without_a_target_are_predicted() -> None:
    table = frame()
    table.loc[[5, 7], "price"] = np.nan
    data = TableCells(table, "price")
    assert data.prepared.cells.roles[[5, 7]].tolist() == [TEST, TEST]
    assert data.prepared.told().endswith(" test, 2 of them without a label")
    assert TableCells(frame(), "price").prepared.told().endswith(" test")
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


def first_of(role: int, table: pd.DataFrame) -> int:
    """First row of a role."""
    return int((TableCells(table, "price").prepared.cells.roles == role).nonzero()[0, 0])


@pytest.mark.parametrize("size", [1e20, -1e300])
def test_outliers_of_held_out_features_are_drawn_in_and_said(size: float) -> None:
    table = frame()
    row = first_of(TEST, table)
    before = TableCells(table, "price")
    table.loc[row, "size"] = size
    with pytest.warns(TableWarning, match=rf"'size' has {re.escape(f'{size:g}')} in row {row}, .* drawn in"):
        data = TableCells(table, "price")
    z = data.prepared.cells.truth
    assert data.columns == before.columns
    assert 20 < abs(float(z[row, 0])) < 120
    assert (z[row, 0] > 0) == (size > 0)
    others = [each for each in range(60) if each != row]
    torch.testing.assert_close(z[others], before.prepared.cells.truth[others], equal_nan=True)


def test_outliers_of_held_out_targets_are_kept_and_said() -> None:
    table = frame()
    row = first_of(TEST, table)
    table.loc[row, "price"] = 1e20
    with pytest.warns(TableWarning, match=rf"column 'price' has 1e\+20 in row {row}, .* scores count it as it is"):
        data = TableCells(table, "price")
    assert data.prepared.cells.truth[row, 2] * data.columns[2].std == pytest.approx(1e20)


def test_categories_are_not_drawn_in() -> None:
    draws = np.random.default_rng(0)
    table = pd.DataFrame({"a": [f"c{number:02}" for number in draws.permutation(np.repeat(np.arange(40), 4))]})
    data = TableCells(table.assign(price=draws.normal(size=160)), "price")
    assert sorted(data.prepared.cells.truth[:, 0].unique().tolist()) == list(range(40))


def test_large_numbers_of_training_rows_are_said() -> None:
    table = frame()
    row = first_of(TRAIN, table)
    table.loc[row, "size"] = 1e20
    with pytest.warns(TableWarning, match=rf"'size' has a value of 1e\+20, beside .* \(row {row}\)"):
        TableCells(table, "price")


@pytest.mark.parametrize("role", [TRAIN, TEST])
def test_infinite_features_are_missing_and_said(role: int) -> None:
    table = frame()
    row = first_of(role, table)
    table.loc[row, "size"] = -np.inf
    said = rf"column 'size' has '-inf', which cannot be read as a finite number: taken as missing \(1 .* row {row}\)"
    with pytest.warns(TableWarning, match=said):
        data = TableCells(table, "price")
    assert data.prepared.cells.truth[row, 0].isnan()


def test_words_in_numbers_of_held_out_rows_are_missing_and_said() -> None:
    table = frame()
    row = first_of(TEST, table)
    table["size"] = table["size"].astype(object)
    table.loc[row, "size"] = "large"
    with pytest.warns(TableWarning, match="column 'size' has 'large', which cannot be read as a number"):
        assert TableCells(table, "price").prepared.cells.truth[row, 0].isnan()


@pytest.mark.parametrize("role", [TRAIN, TEST])
def test_infinite_targets_are_refused(role: int) -> None:
    table = frame()
    row = first_of(role, table)
    table.loc[row, "price"] = np.inf
    with pytest.raises(ValueError, match=f"target 'price' must be finite, got 'inf' in row {row}: correct it"):
        TableCells(table, "price")


@pytest.mark.parametrize("price", [1.0, "a"])
def test_targets_of_a_single_value_are_said(price: object) -> None:
    with pytest.warns(TableWarning, match="column 'price' has a single value in the rows to train on"):
        TableCells(frame().assign(price=price), "price")


def test_words_for_a_missing_label_are_none() -> None:
    table = frame().assign(price=lambda each: each["price"].round(2).astype(str).where(each.index % 5 > 0, "?"))
    data = TableCells(table, "price")
    assert (data.prepared.cells.roles[::5] == TEST).all()
    assert int((data.prepared.cells.roles == TEST).sum()) == 12 + 5


def test_names_are_text() -> None:
    table = frame().set_axis([1, "", 3], axis=1)
    assert [column.name for column in TableCells(table, 3).columns] == ["1", "", "3"]  # type: ignore[arg-type]
    assert [column.name for column in TableCells(table, "3", drop=(1,)).columns] == ["", "3"]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the DataFrame has 2 columns '1': their names must be different"):
        TableCells(frame().set_axis([1, "1", 3], axis=1), "3")


@pytest.mark.parametrize("features", [[], ["size"], ["shape"]])
def test_tables_of_few_columns_and_rows(features: list[str]) -> None:
    table = frame()[[*features, "price"]]
    with nullcontext() if features else pytest.warns(TableWarning, match="has no column but 'price': predictions are"):
        data = TableCells(table[:5], "price", split=SplitOptions(folds=5, val=0.3))
    assert [column.name for column in data.columns] == [*features, "price"]
    assert len({int(role) for role in data.prepared.cells.roles}) == 3
    assert all(batch.x.isfinite().all() for batch in batches(data))


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
        ({"target": "price", "drop": "sizes"}, "has no column 'sizes'"),
        ({"target": ("price", "price")}, "target 'price' is given twice"),
        ({"target": ("price", "shape"), "drop": ("shape",)}, "column 'shape' is both a target and to be dropped"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1, got 0"),
        ({"split": SplitOptions(folds=61)}, "split.folds must be at most the number of labelled rows"),
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


def numbered(**types: str) -> pd.DataFrame:
    """Draw a table whose columns are all numbers, some of another type."""
    source = np.random.default_rng(0)
    frame = pd.DataFrame({"size": source.normal(size=60), "code": [1, 2, 10] * 20, "kind": [0, 1] * 30})
    return frame.astype(types)


def categories(data: TableCells) -> dict[str, tuple[str, ...]]:
    """Categories of each column."""
    return {column.name: column.categories for column in data.columns}


def test_numbers_are_categories_where_their_type_says_so() -> None:
    data = TableCells(numbered(code="category", kind="bool"), "kind")
    assert categories(data) == {"size": (), "code": ("1", "2", "10"), "kind": ("False", "True")}
    assert data.prepared.cells.classes is not None
    assert data.columns[2].target


def test_numbers_are_categories_where_the_user_says_so() -> None:
    data = TableCells(numbered(), "kind", categorical=("code", "kind"))
    assert categories(data) == {"size": (), "code": ("1", "2", "10"), "kind": ("0", "1")}
    counts = [np.bincount(data.prepared.cells.classes[data.prepared.cells.of(role)]) for role in range(3)]
    assert all(abs(count[0] - count[1]) <= 1 for count in counts)
    assert categories(TableCells(numbered(), "kind", categorical="kind")) == {
        "size": (),
        "code": (),
        "kind": ("0", "1"),
    }
    assert "target kind (2 categories)" in data.prepared.told()
    assert "target kind (a number)" in TableCells(numbered(), "kind").prepared.told()


def test_a_categorical_column_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has no column 'kinds' \(did you mean 'kind'\?\)"):
        TableCells(numbered(), "kind", categorical="kinds")


def test_nominal_attributes_are_categories_also_if_they_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "table.arff"
    rows = "\n".join(f"{place % 7},{place % 3 + 1},{place % 2 + 1}" for place in range(42))
    path.write_text(f"@relation t\n@attribute a numeric\n@attribute b {{3,1,2}}\n@attribute c {{1,2}}\n@data\n{rows}\n")
    assert categories(TableCells(str(path), "c")) == {"a": (), "b": ("3", "1", "2"), "c": ("1", "2")}
