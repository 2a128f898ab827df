"""Throughput: counts and times of windows of steps, without warm-up and validations."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks import History, Throughput
from callbacks.clock import STATUS
from tests.callbacks.tiny import Batch, TinyTask, loader, metrics, trainer

FIRST, LOADING, TRAINING, VALIDATING = 50.0, 0.25, 1.0, 100.0
STEP = LOADING + TRAINING


class FakeTime:
    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Timed(TinyTask):
    """Takes a known time for everything, and longer for its first step."""

    def __init__(self, clock: FakeTime) -> None:
        super().__init__()
        self.clock, self.steps = clock, 0

    def counted(self, batch: Batch) -> dict[str, int]:
        return {"tables": len(batch.x), "rows": 5 * len(batch.x)}

    def training_step(self, batch: Batch) -> Tensor:
        self.clock.now += TRAINING if self.steps else FIRST
        self.steps += 1
        return super().training_step(batch)

    def validation_step(self, batch: Batch) -> None:
        self.clock.now += VALIDATING
        super().validation_step(batch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    for module in ("callbacks.clock", "callbacks.throughput"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(perf_counter=fake.perf_counter))
    return fake


def train(folder: Path, clock: FakeTime, callback: Throughput, batches: int = 6, **options: Any) -> Trainer:
    data = list(loader(batches))

    class Slow(list):  # type: ignore[type-arg]
        def __getitem__(self, place: Any) -> Any:
            clock.now += LOADING
            return super().__getitem__(place)

    run = trainer(folder, [callback], **options)
    task = Timed(clock)
    run.fit(task, DataLoader(Slow(data), batch_size=None), loader(2))  # type: ignore[arg-type]
    return run


def test_windows_have_the_time_of_steps_without_warm_up_and_validation(tmp_path: Path, clock: FakeTime) -> None:
    train(tmp_path, clock, Throughput(every=5, warmup=1), max_epochs=2, num_sanity_val_steps=2)
    # 12 steps: 1 of warm-up, two windows of 5, and the last step alone.
    assert metrics(tmp_path, "speed/step_ms") == pytest.approx([1000 * STEP] * 3)
    assert metrics(tmp_path, "speed/tables_per_second")[0] == pytest.approx(4 / STEP)
    assert metrics(tmp_path, "speed/rows_per_second")[0] == pytest.approx(20 / STEP)
    assert metrics(tmp_path, "speed/data_share")[0] == pytest.approx(LOADING / STEP)


def test_accumulated_batches_are_one_step(tmp_path: Path, clock: FakeTime) -> None:
    train(tmp_path, clock, Throughput(every=1, warmup=1), max_epochs=1, accumulate_grad_batches=2)
    assert metrics(tmp_path, "speed/step_ms") == pytest.approx([2000 * STEP] * 2)
    assert metrics(tmp_path, "speed/tables_per_second") == pytest.approx([4 / STEP] * 2)


def test_a_run_within_its_warm_up_logs_nothing(tmp_path: Path, clock: FakeTime) -> None:
    train(tmp_path, clock, Throughput(every=2, warmup=6), max_epochs=1)
    assert not any("speed" in line for line in (tmp_path / "csv/version_0/metrics.csv").read_text().splitlines()[:1])


@pytest.mark.skipif(not STATUS.exists(), reason="resident memory is read from Linux's status file")
def test_the_peak_of_memory_is_seen_before_history_measures_anew(tmp_path: Path) -> None:
    class Greedy(TinyTask):
        def training_step(self, batch: Batch) -> Tensor:
            block = bytearray(80_000_000)
            loss = super().training_step(batch)
            self.kept = block
            return loss

        def on_before_zero_grad(self, *args: Any) -> None:
            self.kept = bytearray(0)

    run = trainer(tmp_path, [History(metric=None), Throughput(every=2, warmup=0)], max_epochs=1)
    run.fit(Greedy(), loader(4), loader(1))
    assert min(metrics(tmp_path, "speed/peak_memory_mb")) > 70


def test_training_is_as_without(tmp_path: Path) -> None:
    plain, looking = TinyTask(), TinyTask()
    looking.load_state_dict(plain.state_dict())
    for task, callbacks in ((plain, []), (looking, [Throughput(every=2, warmup=0)])):
        torch.manual_seed(1)
        trainer(tmp_path, callbacks).fit(task, loader(3), loader(2))
    assert looking.losses == plain.losses
    assert len((tmp_path / "csv" / "version_1" / "metrics.csv").read_text().split("speed/items_per_second")) == 2


def test_bad_options_and_a_run_without_logger(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        Throughput(every=0)
    with pytest.raises(ValueError, match="warmup must be at least 0, got -1"):
        Throughput(warmup=-1)
    with pytest.raises(MisconfigurationException, match="Throughput logs scalars and the trainer has no logger"):
        trainer(tmp_path, [Throughput()], logger=False).fit(TinyTask(), loader(1), loader(1))
