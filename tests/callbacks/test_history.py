"""History and TimeBudget: seconds, rows and the end of a run."""

import csv
import errno
import mmap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks import History, TimeBudget
from callbacks.clock import STATUS, Memory
from tests.callbacks.tiny import Batch, TinyTask, loader, metrics, trainer

LOADING, TRAINING, VALIDATING = 0.25, 1.0, 100.0
STEP = LOADING + TRAINING


class FakeTime:
    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr("callbacks.clock.time", SimpleNamespace(perf_counter=fake.perf_counter))
    return fake


class TimedTask(TinyTask):
    """Takes a known time for everything."""

    run: Trainer

    def __init__(self, clock: FakeTime) -> None:
        super().__init__()
        self.clock = clock
        self.scores: list[float] = []

    def training_step(self, batch: Batch) -> Tensor:
        self.clock.now += TRAINING
        return super().training_step(batch)

    def validation_step(self, batch: Batch) -> None:
        self.clock.now += VALIDATING
        self.scores.append(self.loss(batch).item())
        self.log("val/auroc", self.scores[-1], batch_size=len(batch.y))
        self.log("val/error", 1 - self.scores[-1], batch_size=len(batch.y))


class TimedLoader(DataLoader[Any]):
    def __init__(self, clock: FakeTime) -> None:
        super().__init__(loader(3).dataset, batch_size=None)
        self.clock = clock

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            self.clock.now += LOADING
            yield batch


def fit(folder: Path, clock: FakeTime, *callbacks: Any, checkpoint: Path | None = None, **options: Any) -> TimedTask:
    task = TimedTask(clock)
    run = trainer(folder, callbacks, **{"log_every_n_steps": 1, "num_sanity_val_steps": 1} | options)
    run.fit(task, TimedLoader(clock), loader(1), ckpt_path=checkpoint, weights_only=True)
    task.run = run
    return task


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "board" / "version_0" / "history.csv").open() as file:
        return list(csv.DictReader(file))


def column(folder: Path, name: str) -> list[float]:
    return [float(row[name]) for row in table(folder)]


def test_each_step_has_a_row(tmp_path: Path, clock: FakeTime) -> None:
    task = fit(tmp_path, clock, History())
    rows = table(tmp_path)
    assert list(rows[0]) == [
        "step",
        "cumulative time",
        "step time",
        "train loss",
        "current mem MB",
        "peak mem MB",
        "ROC AUC",
    ]
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert column(tmp_path, "step time") == [STEP] * 6
    assert column(tmp_path, "cumulative time") == [STEP * count for count in range(1, 7)]
    assert column(tmp_path, "train loss") == pytest.approx(task.losses, rel=1e-8)
    scores = [row["ROC AUC"] for row in rows]
    assert scores[:2] == scores[3:5] == ["", ""]
    assert [float(scores[2]), float(scores[5])] == pytest.approx(task.scores[1:], rel=1e-6)


def test_throughput_is_logged(tmp_path: Path, clock: FakeTime) -> None:
    fit(tmp_path, clock, History())
    assert metrics(tmp_path, "train/items_per_second") == pytest.approx([4 / STEP] * 6)


def test_a_validated_step_has_a_line_whatever_the_interval(tmp_path: Path, clock: FakeTime) -> None:
    fit(tmp_path, clock, History(every=4))
    assert column(tmp_path, "step") == [2, 3, 5]
    assert column(tmp_path, "step time") == [STEP] * 3


def test_validation_within_an_epoch_does_not_count(tmp_path: Path, clock: FakeTime) -> None:
    fit(tmp_path, clock, History(), val_check_interval=1)
    assert column(tmp_path, "step time") == [STEP] * 6
    assert all(row["ROC AUC"] for row in table(tmp_path))


def test_batches_whose_gradients_are_accumulated_are_one_step(tmp_path: Path, clock: FakeTime) -> None:
    fit(tmp_path, clock, History(), accumulate_grad_batches=3, val_check_interval=2)
    assert column(tmp_path, "step") == [0, 1]
    assert column(tmp_path, "step time") == [3 * STEP] * 2
    assert metrics(tmp_path, "train/items_per_second") == pytest.approx([4 / STEP] * 2)


def test_no_score_wanted(tmp_path: Path, clock: FakeTime) -> None:
    fit(tmp_path, clock, History(metric=None))
    assert [row["ROC AUC"] for row in table(tmp_path)] == [""] * 6


def test_a_score_that_does_not_exist_is_refused_before_training(tmp_path: Path, clock: FakeTime) -> None:
    with pytest.raises(MisconfigurationException, match=r"logs no 'val/f1' but val/auroc"):
        fit(tmp_path, clock, History(metric="val/f1"))
    assert table(tmp_path) == []


class OfTables(TimedTask):
    """Logs a score of each of two tables, one table a batch."""

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        super().validation_step(batch)
        self.log(f"val/table{batch_idx}/auroc", 0.5, batch_size=len(batch.y))


def fit_of_tables(folder: Path, clock: FakeTime, metric: str, sanity: int) -> None:
    run = trainer(folder, [History(metric=("val/auroc", metric))], num_sanity_val_steps=sanity)
    run.fit(OfTables(clock), TimedLoader(clock), loader(2))


@pytest.mark.parametrize("sanity", [1, 2, 0])
def test_scores_of_tables_that_a_sanity_check_does_not_reach(tmp_path: Path, clock: FakeTime, sanity: int) -> None:
    fit_of_tables(tmp_path, clock, "val/table1/auroc", sanity)
    assert [row["val/table1/auroc"] for row in table(tmp_path)] == ["", "", "0.5"] * 2


@pytest.mark.parametrize(
    ("metric", "sanity", "rows"), [("val/none/auroc", 2, 0), ("val/none/f1", 1, 0), ("val/none/auroc", 1, 3)]
)
def test_scores_of_tables_that_do_not_exist(
    tmp_path: Path, clock: FakeTime, metric: str, sanity: int, rows: int
) -> None:
    with pytest.raises(MisconfigurationException, match=f"logs no '{metric}' but val/"):
        fit_of_tables(tmp_path, clock, metric, sanity)
    assert len(table(tmp_path)) == rows


def test_a_resumed_run_continues_its_counts(tmp_path: Path, clock: FakeTime) -> None:
    first = fit(tmp_path / "first", clock, History(), max_epochs=1)
    first.run.save_checkpoint(tmp_path / "last.ckpt")
    clock.now += 1e6
    fit(tmp_path / "second", clock, History(), checkpoint=tmp_path / "last.ckpt")
    assert column(tmp_path / "second", "step") == [3, 4, 5]
    assert column(tmp_path / "second", "cumulative time") == [STEP * count for count in (4, 5, 6)]


def test_a_run_resumed_in_its_folder_keeps_its_rows(tmp_path: Path, clock: FakeTime) -> None:
    here: dict[str, Any] = {"logger": False, "default_root_dir": tmp_path}
    first = fit(tmp_path, clock, History(), max_epochs=1, **here)
    first.run.save_checkpoint(tmp_path / "last.ckpt")
    fit(tmp_path, clock, History(), checkpoint=tmp_path / "last.ckpt", **here)
    with (tmp_path / "history.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "1", "2", "3", "4", "5"]


def test_a_line_that_was_cut_short_is_dropped(tmp_path: Path, clock: FakeTime) -> None:
    """As a full disk or a kill leaves it."""
    here: dict[str, Any] = {"logger": False, "default_root_dir": tmp_path}
    first = fit(tmp_path, clock, History(), max_epochs=1, **here)
    first.run.save_checkpoint(tmp_path / "last.ckpt")
    with (tmp_path / "history.csv").open("a") as file:
        file.write("3,0.5")
    fit(tmp_path, clock, History(), checkpoint=tmp_path / "last.ckpt", **here)
    with (tmp_path / "history.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "1", "2", "3", "4", "5"]


def test_a_full_disk_keeps_no_other_callback_from_hearing_of_it(tmp_path: Path, clock: FakeTime) -> None:
    heard = []

    class Last(Callback):
        def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
            heard.append(exception)

    history = History()
    history._write = lambda: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full"))  # type: ignore[method-assign]
    with pytest.raises(OSError, match="full") as raised:
        fit(tmp_path, clock, history, Last(), max_epochs=1)
    assert heard == [raised.value]


def test_an_interrupted_run_keeps_its_last_line(tmp_path: Path, clock: FakeTime) -> None:
    class Failing(TimedTask):
        def training_step(self, batch: Batch) -> Tensor:
            if len(self.losses) == 2:
                raise RuntimeError("a fault")
            return super().training_step(batch)

    with pytest.raises(RuntimeError, match="a fault"):
        trainer(tmp_path, [History()]).fit(Failing(clock), TimedLoader(clock), loader(1))
    assert column(tmp_path, "step") == [0, 1]


def test_a_fast_dev_run_leaves_nothing(tmp_path: Path, clock: FakeTime) -> None:
    trainer(tmp_path, [History()], fast_dev_run=True, logger=None).fit(TimedTask(clock), loader(3), loader(1))
    assert not list(tmp_path.rglob("history.csv"))


def test_without_loggers_the_root_folder_is_the_runs(tmp_path: Path, clock: FakeTime) -> None:
    fit(tmp_path, clock, History(), logger=False, default_root_dir=tmp_path / "here")
    assert (tmp_path / "here" / "history.csv").exists()


def test_training_is_bit_identical_with_and_without(tmp_path: Path, clock: FakeTime) -> None:
    results = []
    for callbacks in ([], [History(), TimeBudget(1e9)]):
        torch.manual_seed(3)
        task = fit(tmp_path / str(len(callbacks)), clock, *callbacks)
        results.append((task.losses, [*task.state_dict().values()]))
    (losses, weights), (watched_losses, watched_weights) = results
    assert losses == watched_losses
    assert all(torch.equal(one, two) for one, two in zip(weights, watched_weights, strict=True))


@pytest.mark.skipif(not STATUS.exists(), reason="resident memory is known on Linux alone")
def test_memory_of_the_process() -> None:
    memory = Memory(torch.device("cpu"))
    # Not an array, and in small pieces: an allocator may serve what is large from memory that it keeps.
    held = mmap.mmap(-1, 64_000_000)
    piece = b"1" * 64_000
    for _ in range(1000):
        held.write(piece)
    assert memory.current() > 60
    held.close()
    assert memory.current() < 20
    assert memory.peak() > 60
    memory.restart()
    assert memory.peak() < 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_memory_of_a_device() -> None:
    device = torch.device("cuda")
    before = torch.zeros(1_000_000, device=device)
    memory = Memory(device)
    held = torch.zeros(2_000_000, device=device)
    assert memory.current() == pytest.approx(8, abs=0.1)
    del held
    assert memory.current() == 0
    assert memory.peak() == pytest.approx(8, abs=0.1)
    memory.restart()
    assert memory.peak() == 0
    del before


@pytest.mark.parametrize(("seconds", "steps"), [(0.1, 1), (STEP, 1), (STEP + 0.1, 2), (4 * STEP, 4), (100 * STEP, 6)])
def test_a_budget_counts_training_alone(tmp_path: Path, clock: FakeTime, seconds: float, steps: int) -> None:
    task = fit(tmp_path, clock, TimeBudget(seconds))
    assert len(task.losses) == steps


def test_the_step_that_spends_the_budget_is_validated(tmp_path: Path, clock: FakeTime) -> None:
    fit(tmp_path, clock, History(), TimeBudget(2 * STEP))
    assert [bool(row["ROC AUC"]) for row in table(tmp_path)] == [False, True]


def test_a_resumed_run_has_what_is_left_of_the_budget(tmp_path: Path, clock: FakeTime) -> None:
    first = fit(tmp_path / "first", clock, TimeBudget(5 * STEP), max_epochs=1)
    first.run.save_checkpoint(tmp_path / "last.ckpt")
    second = fit(tmp_path / "second", clock, TimeBudget(5 * STEP), max_epochs=9, checkpoint=tmp_path / "last.ckpt")
    assert len(second.losses) == 2


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_budget_of_zero_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=f"seconds must be greater than 0, got {seconds}"):
        TimeBudget(seconds)


def test_an_interval_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        History(every=0)


def test_a_run_without_validation_needs_no_score(tmp_path: Path, clock: FakeTime) -> None:
    fit(tmp_path, clock, History(), limit_val_batches=0)
    assert column(tmp_path, "step") == [0, 1, 2, 3, 4, 5]


def test_a_metric_other_than_roc_auc_has_its_own_column(tmp_path, clock):
    fit(tmp_path, clock, History(metric="val/error"))
    assert "ROC AUC" not in table(tmp_path)[0]
    assert table(tmp_path)[-1]["val/error"]
