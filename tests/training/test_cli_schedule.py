"""Optimizers and schedules from the command line."""

from pathlib import Path
from typing import Any

import pytest
from torch.optim import SGD, AdamW

from tabattn.optim import FlatCosine, LookaheadLamb, WarmupCosine
from tabattn.training.cli import CLI, main
from tests import helpers  # noqa: F401  (its classes are named on command lines)

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
FIT = ["fit", "--model=MeanTask", "--data=MeanData", *QUIET, "--trainer.max_epochs=2"]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def optimizer_of(cli: CLI) -> Any:
    return cli.trainer.optimizers[0]


def test_default_optimizer_and_schedule() -> None:
    cli = CLI(FIT)
    schedule = cli.trainer.lr_scheduler_configs[0]
    assert isinstance(optimizer_of(cli), AdamW)
    assert isinstance(schedule.scheduler, WarmupCosine)
    assert schedule.scheduler.total_steps == 6
    assert schedule.scheduler.last_epoch == 6
    assert optimizer_of(cli).param_groups[0]["lr"] == pytest.approx(0.0)


def test_optimizer_and_schedule_of_non_parametric_transformers() -> None:
    cli = CLI([*FIT, "--optimizer=LookaheadLamb", "--optimizer.lr=5e-4", "--lr_scheduler=FlatCosine"])
    schedule: Any = cli.trainer.lr_scheduler_configs[0]
    assert isinstance(optimizer_of(cli), LookaheadLamb)
    assert isinstance(schedule.scheduler, FlatCosine)
    assert (schedule.interval, schedule.scheduler.total_steps, schedule.scheduler.base_lrs) == ("step", 6, [5e-4])
    assert optimizer_of(cli).param_groups[0]["lr"] == pytest.approx(0.0)


def test_no_schedule() -> None:
    cli = CLI([*FIT, "--optimizer=SGD", "--optimizer.lr=0.5", "--lr_scheduler=null"])
    assert isinstance(optimizer_of(cli), SGD)
    assert cli.trainer.lr_scheduler_configs == []
    assert optimizer_of(cli).param_groups[0]["lr"] == 0.5


def test_plateau_is_stepped_by_its_metric() -> None:
    cli = CLI([*FIT, "--lr_scheduler=ReduceLROnPlateau", "--lr_scheduler.monitor=val/loss"])
    schedule = cli.trainer.lr_scheduler_configs[0]
    assert (schedule.monitor, schedule.interval) == ("val/loss", "epoch")


def test_a_run_without_end_has_no_cosine(capsys: pytest.CaptureFixture[str]) -> None:
    endless = ["--trainer.max_epochs=-1", "--trainer.max_time=00:00:00:00"]
    assert main([*FIT, *endless]) == 2
    assert "error: a run without end has no cosine" in capsys.readouterr().err
    assert main([*FIT, *endless, "--lr_scheduler=null"]) == 0


def test_a_run_without_a_step_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, "--trainer.max_steps=0"]) == 2
    assert "error: a run must take at least 1 step, got 0: raise --trainer.max_steps" in capsys.readouterr().err


def test_a_resumed_run_follows_the_schedule_of_its_command_line() -> None:
    main([*FIT, "--trainer.max_epochs=1"])
    longer = [*FIT, "--ckpt_path=runs/tiny/Softmax/version_0/checkpoints/last.ckpt", "--lr_scheduler.final=0.5"]
    assert optimizer_of(CLI(longer)).param_groups[0]["lr"] == pytest.approx(0.5e-3)
