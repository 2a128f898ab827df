"""Tasks cut from a real table: rows without replacement, all classes in context and targets, no held-out rows."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from datamodules import TableTasks
from datamodules.counter import CounterLoader, RankSlice, generator
from datamodules.prior.cut import CutBatches, CutOptions, TaskCutter, apportion, split_rows
from datamodules.tables.real import RealTable
from tabattn.contract.batches import TableBatch
from tabattn.contract.errors import DataError
from tabattn.prior.metrics import score
from tabattn.prior.network import PriorNetwork
from tabattn.tasks import PriorClassification
from tests.helpers import build


def table(rows: int = 60, classes: int = 3) -> RealTable:
    """A table whose first column is the number of the row, so that a task tells which rows it has."""
    number = np.arange(rows, dtype=np.float32)
    codes = (number * 7) % 5
    x = np.stack([number, codes, number**2 + 1, -number - 1], axis=1)
    names = tuple(f"class {label}" for label in range(classes))
    return RealTable(
        "numbers", x, np.arange(rows) % classes, tuple("abcd"), names, np.array([False, True, False, False]), {}
    )


def cutter(whole: RealTable | None = None, **options: Any) -> TaskCutter:
    whole = whole or table()
    sizes = {"rows": 20, "context": 12, "permute_labels": False, "permute_columns": False, **options}
    return TaskCutter(whole, np.arange(len(whole.y)), CutOptions(**sizes), seed=0, stream=1)


def test_a_task_holds_each_row_once_with_its_label() -> None:
    for number in range(10):
        x, y = cutter().task(number)
        rows = x[:, 0].long()
        assert len(rows.unique()) == 20
        assert torch.equal(y, rows % 3)


def test_every_class_is_on_both_sides_by_its_share() -> None:
    whole = table(100, 4)._replace(y=np.repeat([0, 1, 2, 3], [60, 30, 6, 4]))
    for number in range(10):
        _, y = cutter(whole, rows=50, context=40).task(number)
        assert y[:40].unique().tolist() == y[40:].unique().tolist() == [0, 1, 2, 3]
        assert abs(int((y == 0).sum()) - 30) <= 2


def test_a_task_is_a_function_of_seed_stream_and_number() -> None:
    first, again = cutter(permute_labels=True, permute_columns=True), cutter(permute_labels=True, permute_columns=True)
    again.task(3)
    assert all(torch.equal(a, b) for a, b in zip(first.task(5), again.task(5), strict=True))
    assert not torch.equal(first.task(5).x, first.task(6).x)
    other = TaskCutter(table(), np.arange(60), first.options, seed=0, stream=2)
    assert not torch.equal(first.task(5).x, other.task(5).x)


def test_codes_are_those_of_the_context() -> None:
    whole = table()._replace(y=np.arange(60) % 2, classes=("a", "b"))
    unseen = False
    for number in range(20):
        x, _ = cutter(whole, rows=10, context=4, features=4).task(number)
        place = next((column for column in range(x.shape[1]) if (x[:4, column] < 5).all()), None)
        if place is None:
            continue
        seen = x[:4, place].unique()
        assert seen.tolist() == list(range(len(seen)))
        unseen |= bool(x[4:, place].isnan().any())
    assert unseen


def test_labels_and_columns_are_permuted_when_asked() -> None:
    plain, mixed = cutter(), cutter(permute_labels=True, permute_columns=True)
    codings = set()
    for number in range(12):
        x, y = mixed.task(number)
        column = next(
            place for place in range(4) if set(x[:, place].tolist()) == set(plain.task(number).x[:, 0].tolist())
        )
        codings.add((column, *(int(y[(x[:, column] % 3 == label)][0]) for label in range(3))))
    assert len({coding[0] for coding in codings}) > 1
    assert len({coding[1:] for coding in codings}) > 2


def test_columns_are_chosen_for_each_task_or_for_all() -> None:
    def widths(fixed: bool) -> set[tuple[float, ...]]:
        tasks = cutter(features=2, fixed_columns=fixed)
        return {
            tuple((tasks.task(number).x[0].sign() * 2 + (tasks.task(number).x.abs().amax(0) > 100)).tolist())
            for number in range(12)
        }

    assert cutter(features=2).task(0).x.shape == (20, 2)
    assert len(widths(True)) <= 2 < len(widths(False))


def test_narrow_tasks_are_padded() -> None:
    whole = table()
    whole.x[:, 1] = np.arange(60) == 0
    cut = CutBatches(cutter(whole, features=4), 12, None)[0]
    assert cut.columns is not None
    assert set(cut.columns.tolist()) == {3, 4}
    assert not cut.x[cut.columns == 3][:, :, 3].any()


def test_a_table_that_tells_nothing_is_refused() -> None:
    whole = table()
    whole.x[:] = 1
    with pytest.raises(DataError, match="no column of numbers tells 12 context rows apart"):
        cutter(whole).task(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 61}, "rows must be at most the 60 of this part of numbers, got 61"),
        ({"context": 2}, "3 <= context <= rows - 3, got context 2 of 20 rows"),
        ({"context": 18}, "got context 18 of 20 rows"),
        ({"features": 5}, "features must be between 1 and the 4 of numbers, got 5"),
        ({"features": 0}, "features must be between 1 and the 4"),
    ],
)
def test_impossible_tasks_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cutter(**options)


def test_a_split_keeps_the_shares_of_classes_and_shares_no_row() -> None:
    whole = table(100, 4)._replace(y=np.repeat([0, 1, 2, 3], [60, 30, 6, 4]))
    train, test = split_rows(whole, 0.3, 0)
    assert sorted([*train, *test]) == list(range(100))
    assert len(test) == 30
    counts = np.bincount(whole.y[test])
    assert (np.abs(counts - [18, 9, 1.8, 1.2]) <= 1).all()
    assert counts.min() == 2
    assert (split_rows(whole, 0.3, 1)[0] != train).any()


def test_a_split_needs_four_rows_of_each_class() -> None:
    whole = table(10)._replace(y=np.array([0] * 7 + [1] * 3), classes=("a", "b"))
    with pytest.raises(ValueError, match="class 'b' of numbers has 3 rows: tasks need at least 4 of each class"):
        split_rows(whole, 0.3, 0)
    with pytest.raises(ValueError, match="held_out must be between 0 and 1, got 1"):
        split_rows(table(), 1, 0)


def test_apportioning_is_exact_bounded_and_fair() -> None:
    weights = np.array([50, 30, 15, 5])
    drawn = [apportion(7, weights, np.full(4, 1), np.full(4, 6), generator(0, number)) for number in range(300)]
    assert {int(counts.sum()) for counts in drawn} == {7}
    assert all((counts >= 1).all() and (counts <= 6).all() for counts in drawn)
    free = [apportion(7, weights, np.zeros(4, np.int64), weights, generator(0, number)) for number in range(600)]
    np.testing.assert_allclose(np.mean(free, axis=0), 7 * weights / 100, atol=0.15)


def module(**changes: Any) -> TableTasks:
    arguments = {
        "evaluation__val_tasks": 5,
        "evaluation__test_tasks": 3,
        "rows": 30,
        "context": 20,
        "batch_size": 2,
        "steps_per_epoch": 2,
    }
    return build(TableTasks, "sklearn:iris", **{**arguments, **changes})


def test_held_out_rows_are_never_trained_on(tmp_path: Path) -> None:
    lines = "".join(f"{number},{number * 7 % 11},{number % 3}\n" for number in range(100))
    (tmp_path / "numbers.csv").write_text(f"number,other,label\n{lines}")
    data = build(
        TableTasks, f"{tmp_path}/numbers.csv", draws__permute_columns=False, rows=20, context=10, steps_per_epoch=5
    )
    train, val, test = (
        {number for batch in loader for number in batch.x[..., 0].flatten().tolist()}
        for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    )
    assert train | val == set(range(100))
    assert not train & val
    assert val == test
    scored = [
        {number for batch in loader for number in batch.x[:, batch.context :, 0].flatten().tolist()}
        for loader in (data.val_dataloader(), data.test_dataloader())
    ]
    assert not scored[0] & scored[1]
    assert scored[0] | scored[1] <= val


def test_scored_tasks_have_numbers_and_the_last_batch_is_short() -> None:
    data = module()
    assert [batch.table.tolist() for batch in data.val_dataloader()] == [[0, 1], [2, 3], [4]]
    assert [batch.table.tolist() for batch in data.test_dataloader()] == [[0, 1], [2]]
    assert not torch.equal(next(iter(data.val_dataloader())).x, next(iter(data.test_dataloader())).x)
    assert data.tables == ()
    assert data.classes == 3


def test_a_finite_number_of_tasks_repeats() -> None:
    stream = list(module(num_tasks=3, steps_per_epoch=3).train_dataloader())
    assert torch.equal(torch.cat([batch.x for batch in stream])[3:], torch.cat([batch.x for batch in stream])[:3])


def test_an_endless_stream_repeats_no_task() -> None:
    seen = [tuple(x.flatten().tolist()) for batch in module(steps_per_epoch=8).train_dataloader() for x in batch.x]
    assert len(set(seen)) == len(seen) == 16


def test_ranks_and_workers_share_the_tasks() -> None:
    data = module(steps_per_epoch=4)
    whole = list(data.train_dataloader())
    dataset = data.train_dataloader().dataset
    ranks = [CounterLoader(dataset, 2, rank, 2, num_workers=rank) for rank in (0, 1)]
    merged = [batch for pair in zip(*ranks, strict=True) for batch in pair]
    assert all(torch.equal(a.x, b.x) for a, b in zip(whole, merged, strict=True))
    scored = CutBatches(data.cutters["val"], 2, 5, scored=True)
    slices = [RankSlice(scored, rank, 2) for rank in (0, 1)]
    numbers = [[_numbers(part[index]) for index in range(len(part))] for part in slices]
    assert numbers == [[[0, 1], [4]], [[2, 3]]]


def _numbers(batch: TableBatch) -> list[int]:
    assert batch.table is not None
    return [int(number) for number in batch.table]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation__val_tasks": 0}, "val_tasks must be at least 1, got 0"),
        ({"num_tasks": 0}, "num_tasks must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"evaluation__held_out": 1.5}, "held_out must be between 0 and 1, got 1.5"),
        ({"rows": 46}, "rows must be at most the 45 of this part of iris, got 46"),
        ({"reading__target": "nothing"}, "has no column 'nothing'"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(**changes)


def test_each_task_is_scored_alone_and_averaged() -> None:
    run = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    task = PriorClassification(partial(PriorNetwork, dim=8, heads=2, hidden=8, layers=2, classes=3, thinking_rows=2))
    data = module()
    (result,) = run.validate(task, data, verbose=False)
    alone: list[float] = []
    task.eval()
    with torch.inference_mode():
        for batch in module().val_dataloader():
            assert isinstance(batch, TableBatch)
            predicted = task.predict_step(batch, 0)
            alone += [score(p, y).auroc for p, y in zip(predicted, batch.y[:, batch.context :], strict=True)]
    assert len(alone) == 5
    assert result["val/auroc"] == pytest.approx(np.mean(alone), abs=1e-6)
    assert {"val/accuracy", "val/log_loss", "val/reliance"} <= set(result)
    assert not any(name.count("/") > 1 for name in result)
