"""Duplicate lookup: copies of the rows are context, with nothing hidden; the rows themselves are scored."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from datamodules import TableCells
from datamodules.reconstruction import ContextOptions, LookupOptions, MaskOptions, SplitOptions
from datamodules.reconstruction.splits import TEST
from tabattn.contract.cells import CellBatch


def frame(rows: int = 50) -> pd.DataFrame:
    """Make a table with numbers, categories and a missing cell."""
    draws = np.random.default_rng(0)
    size, kind = draws.normal(size=rows), draws.choice(["a", "b"], rows)
    size[::7] = np.nan
    return pd.DataFrame({"size": size, "age": draws.normal(size=rows), "kind": kind, "price": draws.normal(size=rows)})


def cells(lookup: LookupOptions, *, transductive: bool = False, **options: Any) -> TableCells:
    context = ContextOptions(transductive=transductive, rows=options.pop("rows", None), lookup=lookup)
    return TableCells(frame(), options.pop("target", "price"), context=context, **options)


def train(data: TableCells, index: int = 0) -> CellBatch:
    found: CellBatch = data.train_dataloader().dataset[index]
    return found


@pytest.mark.parametrize("transductive", [False, True])
def test_copies_hide_nothing_and_are_not_scored(transductive: bool) -> None:
    data = cells(LookupOptions(copies=True), transductive=transductive)
    truth = data.prepared.cells.truth
    for batch in (train(data), *data.val_dataloader(), *data.test_dataloader()):
        asked = batch.x.shape[1] - len(set(batch.row[0].tolist()))
        count = batch.x.shape[1] - asked
        copies = slice(count)
        rows = batch.row[0, copies]
        assert torch.equal(batch.hidden[0, copies], truth[rows].isnan())
        assert torch.equal(batch.x[0, copies], truth[rows].nan_to_num(0.0))
        assert not batch.scored[0, copies].any()
        assert batch.scored[0, count:].any()
        assert set(batch.row[0, count:].tolist()) <= set(rows.tolist())
        assert (batch.x[0, count:][batch.hidden[0, count:]] == 0).all()
        assert batch.context == (batch.x.shape[1] if transductive else count)


def test_held_out_rows_have_a_copy_too_and_context_rows_are_not_asked() -> None:
    data = cells(LookupOptions(copies=True))
    (batch,) = data.test_dataloader()
    test = data.prepared.cells.of(TEST)
    assert torch.equal(batch.row[0, batch.context :], test)
    assert torch.equal(batch.row[0, batch.context - len(test) : batch.context], test)
    assert batch.hidden[0, batch.context :, 3].all()
    assert batch.scored[0, batch.context :, 3].all()


def test_several_contexts_end_in_the_same_rows() -> None:
    batches = list(cells(LookupOptions(copies=True), rows=12).test_dataloader())
    for batch in batches:
        assert len(batch.x) == 4
        assert (batch.row[:, batch.context :] == batch.row[0, batch.context :]).all()
    rows = torch.cat([batch.row[0][batch.scored[0].any(1)] for batch in batches])
    assert len(rows) == len(rows.unique()) == 5


def test_a_number_is_added_to_numeric_targets_of_copies() -> None:
    data = cells(LookupOptions(copies=True, added=1.5), target=("price", "kind"))
    batch = train(data)
    copies = slice(batch.context)
    truth = data.prepared.cells.truth[batch.row[0, copies]]
    torch.testing.assert_close(batch.x[0, copies, 3], truth[:, 3] + 1.5)
    assert torch.equal(batch.x[0, copies, 2], truth[:, 2])
    assert torch.equal(batch.truth[0, copies], truth) or batch.truth[0, copies].isnan().any()
    torch.testing.assert_close(batch.truth[0, batch.context :, 3], truth[:, 3])


def test_last_features_may_be_random_apart_for_rows_and_copies() -> None:
    data = cells(LookupOptions(copies=True, random=2), masks=MaskOptions(features=0.5))
    batch = train(data)
    copies, rows = batch.x[0, : batch.context], batch.x[0, batch.context :]
    shown = ~batch.hidden[0, batch.context :]
    assert (copies[:, 1] != rows[:, 1])[shown[:, 1]].all()
    assert (copies[:, 2] != rows[:, 2])[shown[:, 2]].any()
    assert set(copies[:, 2].tolist()) == {0.0, 1.0}
    same = shown[:, 0] & ~data.prepared.cells.truth[batch.row[0, : batch.context], 0].isnan()
    drawn = batch.scored[0, batch.context :, 0]
    assert torch.equal(copies[same & ~drawn, 0], rows[same & ~drawn, 0])
    assert (batch.x[batch.hidden] == 0).all()
    assert not batch.scored[0, :, 1:3].any()
    assert batch.scored[0, :, 3].any()


def test_shuffled_targets_are_those_of_other_rows_in_training_alone() -> None:
    data = cells(LookupOptions(copies=True, shuffled=True))
    truth = data.prepared.cells.truth
    batch = train(data)
    rows = batch.row[0, batch.context :]
    targets = batch.truth[0, batch.context :, 3]
    assert not torch.equal(targets, truth[rows, 3])
    assert torch.equal(targets.sort().values, truth[rows, 3].sort().values)
    assert torch.equal(targets, batch.x[0, : batch.context, 3])
    assert not torch.equal(targets, train(data, 1).truth[0, batch.context :, 3])
    assert torch.equal(batch.truth[0, batch.context :, 1], truth[rows, 1])
    (test,) = data.test_dataloader()
    assert torch.equal(test.truth[0, :, 3], truth[test.row[0], 3])


def test_without_copies_nothing_changes() -> None:
    plain = TableCells(frame(), "price", split=SplitOptions())
    batch = train(plain)
    assert len(batch.row[0].unique()) == batch.x.shape[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"copies": True, "random": -1}, "context.lookup.random must be at least 0, got -1"),
        ({"copies": True, "added": float("nan")}, "context.lookup.added must be finite, got nan"),
        (
            {"added": 1.0},
            "context.lookup.copies must be true with other options of the lookup, got random=0",
        ),
        ({"random": 3}, "context.lookup.copies must be true .* got random=3"),
        ({"shuffled": True}, "context.lookup.copies must be true .* shuffled=True"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LookupOptions(**options)
