"""Training from a dump: each epoch visits all tasks in its own order, for any ranks, workers and resumptions."""

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from datamodules import PriorDump
from datamodules.counter import CounterLoader
from datamodules.prior.dump import __main__ as dump
from datamodules.prior.dump.read import Dump
from tabattn.contract.batches import TableBatch
from tabattn.contract.errors import DataError
from tabattn.prior.network import PriorNetwork
from tabattn.tasks import PriorClassification
from tests.helpers import build

SIZES = ("--rows", "16", "--context", "10", "--features", "2", "3")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ten synthetic tasks."""
    path = tmp_path_factory.mktemp("dump") / "scm.h5"
    assert dump.main(["--prior", "scm", "--tasks", "10", "--batch-size", "5", *SIZES, "--out", str(path)]) == 0
    return str(path)


def module(path: str, **changes: Any) -> PriorDump:
    return build(PriorDump, path, **{"batch_size": 2, "tables": (), **changes})


def cells(batch: TableBatch) -> bytes:
    return batch.x.nan_to_num(9).numpy().tobytes()


def epoch(loader: CounterLoader) -> list[bytes]:
    return [cells(batch) for batch in loader]


def test_each_epoch_visits_every_task_in_another_order(path: str) -> None:
    loader = module(path).train_dataloader()
    first, second = epoch(loader), epoch(loader)
    assert len(first) == 5
    assert sorted(first) == sorted(second)
    assert first != second
    assert epoch(module(path).train_dataloader()) == first
    assert epoch(module(path, seed=1).train_dataloader()) != first


def test_ranks_workers_and_restarts_share_the_order(path: str) -> None:
    data = module(path)
    whole = data.train_dataloader()
    expected = epoch(whole) + epoch(whole)
    ranks = [epoch(CounterLoader(data.batches, 5, rank, 2, num_workers=2 * rank)) for rank in (0, 1)]
    assert [batch for pair in zip(*ranks, strict=True) for batch in pair] == expected
    resumed = module(path).train_dataloader()
    resumed.load_state_dict({"position": 4})
    assert epoch(resumed) == expected[4:9]


def test_a_split_drawn_anew_stays_in_its_range_and_answers(path: str) -> None:
    data = module(path, resample_context=(0.25, 0.75), steps_per_epoch=30)
    batches = list(data.train_dataloader())
    assert {batch.context for batch in batches} <= set(range(4, 13))
    assert len({batch.context for batch in batches}) > 3
    for batch in batches:
        for labels in batch.y:
            assert set(labels[batch.context :].tolist()) - {-1} <= set(labels[: batch.context].tolist())
    again = list(module(path, resample_context=(0.25, 0.75), steps_per_epoch=30).train_dataloader())
    assert [batch.context for batch in again] == [batch.context for batch in batches]


def test_a_handle_is_opened_in_each_process_and_left_behind_in_pickles(path: str) -> None:
    dumped = Dump(path)
    first = dumped.read(np.arange(2))
    assert dumped.reader.handle is not None
    copy = pickle.loads(pickle.dumps(dumped))
    assert copy.reader.handle is None
    assert cells(copy.read(np.arange(2))) == cells(first)
    handle = dumped.reader.handle
    dumped.reader.owner = -1
    dumped.read(np.arange(2))
    assert dumped.reader.handle is not handle


def test_tasks_of_a_file_are_scored_alone(path: str) -> None:
    data = module(path, val_path=path, batch_size=4, tables=("sklearn:iris",), apart=False)
    numbers = [batch.table.tolist() for batch in data.val_dataloader()]
    assert sorted(number for batch in numbers for number in batch) == list(range(10))
    assert data.tables == ()
    run = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    task = PriorClassification(partial(PriorNetwork, dim=8, heads=2, hidden=8, layers=2, classes=3, thinking_rows=2))
    (result,) = run.validate(task, data, verbose=False)
    assert {"val/auroc", "val/reliance"} <= set(result)
    assert not any("iris" in name for name in result)
    (tested,) = run.test(task, module(path, val_path=path, batch_size=3, apart=False), verbose=False)
    assert tested["test/auroc"] == pytest.approx(result["val/auroc"], abs=1e-6)


def numbers(loader: Any) -> set[int]:
    return {number for batch in loader for number in batch.table.tolist()}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four other tasks."""
    path = tmp_path_factory.mktemp("dump") / "other.h5"
    made = ["--prior", "scm", "--tasks", "4", "--seed", "1", *SIZES, "--out", str(path)]
    assert dump.main(made) == 0
    return str(path)


@pytest.mark.parametrize("spelt", ["the same", "twice", "by a link"])
def test_no_task_of_a_file_trains_and_is_scored(
    path: str, other: str, tmp_path: Path, spelt: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One file for two or three purposes, whatever it is called."""
    every = {cells(Dump(path).read(np.array([number]))): number for number in range(10)}
    second = path
    if spelt == "twice":
        second = str(Path(path).parent / ".." / Path(path).parent.name / Path(path).name)
    elif spelt == "by a link":
        (tmp_path / "link.h5").symlink_to(path)
        second = str(tmp_path / "link.h5")

    def parts(**changes: Any) -> list[set[int]]:
        data = module(path, batch_size=1, **changes)
        trained = {every[cells(batch)] for batch in data.train_dataloader()}
        return [trained, numbers(data.val_dataloader()), numbers(data.test_dataloader())]

    caplog.set_level("INFO")
    train, val, test = parts(val_path=second)
    assert [len(part) for part in (train, val, test)] == [5, 2, 3]
    assert train | val | test == set(range(10))
    assert "serves training, validation and test, and no task two of them: 5 for training and 2 for" in caplog.text
    assert parts(val_path=second, test_path=second) == [train, val, test]
    train, val, test = parts(val_path=second, test_path=other)
    assert (len(train), len(val), len(test)) == (5, 5, 4)
    assert not train & val
    train, val, test = parts(val_path=other, test_path=second)
    assert (len(train), len(val), len(test)) == (5, 4, 5)
    assert not train & test
    train, val, test = parts(val_path=other)
    assert (len(train), len(val), len(test)) == (10, 2, 2)
    assert not val & test
    assert parts(val_path=second, apart=False) == [set(range(10))] * 3


def test_validation_and_test_share_the_tasks_of_one_file(path: str, other: str) -> None:
    data = module(other, val_path=path, batch_size=4)
    val, test = numbers(data.val_dataloader()), numbers(data.test_dataloader())
    assert len(val) == len(test) == 5
    assert val | test == set(range(10))
    assert numbers(data.predict_dataloader()) == test
    again, seeded = module(other, val_path=path, batch_size=2), module(other, val_path=path, seed=1)
    assert numbers(again.val_dataloader()) == val != numbers(seeded.val_dataloader())
    for batch in data.val_dataloader():
        assert cells(batch) == cells(Dump(path).read(batch.table.numpy()))


def test_one_task_is_not_for_validation_and_test(tmp_path: Path, path: str) -> None:
    one = str(tmp_path / "one.h5")
    assert dump.main(["--prior", "scm", "--tasks", "1", *SIZES, "--out", one]) == 0
    with pytest.raises(ValueError, match=r"one\.h5 has 1 task, .* by validation and test: name other files, or share"):
        module(path, val_path=one)
    assert len(list(module(path, val_path=one, test_path=path).val_dataloader())) == 1


def test_real_tables_are_scored_where_no_file_is(path: str) -> None:
    data = module(path, tables=("sklearn:iris",), test_path=path, apart=False)
    assert data.tables == ("iris",)
    assert len(list(data.val_dataloader())) == 2
    assert data.classes == 3
    run = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    task = PriorClassification(partial(PriorNetwork, dim=8, heads=2, hidden=8, layers=2, classes=3, thinking_rows=2))
    assert "val/iris/auroc" in run.validate(task, data, verbose=False)[0]
    assert "test/auroc" in run.test(task, module(path, tables=("sklearn:iris",), test_path=path), verbose=False)[0]


def test_training_on_a_dump_moves_the_weights(path: str) -> None:
    class Fitted(PriorClassification):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    task = Fitted(partial(PriorNetwork, dim=8, heads=2, hidden=8, layers=2, classes=3, thinking_rows=2))
    before = {name: weight.clone() for name, weight in task.state_dict().items()}
    run = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        max_epochs=2,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    run.fit(task, module(path, resample_context=(0.3, 0.9), val_path=path, apart=False))
    assert run.global_step == 10
    assert all(torch.isfinite(weight).all() for weight in task.state_dict().values())
    assert any(not torch.equal(before[name], weight) for name, weight in task.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1, got 0"),
        ({"resample_context": (0.9, 0.1)}, "resample_context must be two shares"),
        ({"val_path": "nowhere.h5"}, r"there is no file nowhere\.h5"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"evaluation__max_rows": 9}, "max_rows must be at least 10, got 9"),
        ({"tables": ("sklearn:iris",), "evaluation__folds": 51}, r"smallest class of iris \(50\), got 51"),
    ],
)
def test_bad_arguments_are_refused(path: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(path, **changes)


def test_a_damaged_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(DataError, match="it is not an HDF5 file"):
        module(f"{tmp_path}/a.h5")
