"""Callbacks of a trial: validations at even intervals, reports, pruning, and the pace of a training."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from tabattn.compare.validations import Validations
from tabattn.sweep.callbacks import Pace, Reports, interval
from tabattn.sweep.folder import Folder
from tabattn.sweep.study import load
from tabattn.training.cli import main
from tests.helpers import MeanTask  # noqa: F401
from tests.sweep.stubs import sweep

FIT = ["fit", "--model=MeanTask", "--data=MeanData", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
FIT += ["--trainer.enable_model_summary=false", "--trainer.max_epochs=-1", "--run.name=run", "--run.version=0"]
LENGTH = ["--trainer.max_steps=20", "--trainer.check_val_every_n_epoch=3"]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


class Steps(Callback):
    """Records the steps at which a validation ends."""

    def __init__(self) -> None:
        self.found: list[int] = []

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.found.append(trainer.global_step)


def trial(
    folder: Folder, *words: str, others: int = 0, before: float = 0.0, metric: str = "val/loss"
) -> tuple[int, list[int], Any]:
    """Train a trial after others of score 0, and another one before their end.

    Returns:
        The status, the steps of validations, and the trial.
    """
    study = load(folder)
    for _ in range(others):
        other = study.ask()
        for step in (4, 8, 12, 16, 20):
            other.report(0.0 if step == 20 else before, step)
        study.tell(other, 0.0)
    asked = study.ask()
    steps = Steps()
    reports = Reports(load(folder), asked._trial_id, metric, folder.path / "outcome.json")
    status = main([*FIT, *LENGTH, *words], callbacks=[Validations(interval(20, 5)), reports, steps])
    return status, steps.found, study.get_trials()[asked.number]


@pytest.mark.parametrize(
    ("steps", "validations", "every"), [(200, 5, 40), (20, 3, 10), (7, 5, 7), (3, 5, 1), (12, 5, 3)]
)
def test_the_last_validation_is_at_the_end(steps: int, validations: int, every: int) -> None:
    assert interval(steps, validations) == every


@pytest.mark.parametrize("accumulated", [1, 2])
def test_validations_are_reported(tmp_path: Path, accumulated: int) -> None:
    folder = sweep(tmp_path / "sweep", mode="min")
    status, steps, found = trial(folder, f"--trainer.accumulate_grad_batches={accumulated}")
    assert status == 0
    assert steps == [4, 8, 12, 16, 20]
    assert list(found.intermediate_values) == steps
    scores = found.intermediate_values
    best = min(scores, key=scores.__getitem__)
    outcome = json.loads((folder.path / "outcome.json").read_text())
    assert outcome == {"state": "complete", "best": scores[best], "step": best, "steps": 20}
    with Path("runs/run/0/metrics.csv").open() as file:
        logged = [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]
    assert logged == pytest.approx(list(scores.values()))
    assert "Reports" not in Path("runs/run/0/config.yaml").read_text()


def test_a_trial_behind_the_others_is_stopped(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "sweep", mode="min")
    status, steps, _ = trial(folder, others=5)
    assert status == 0
    assert steps == [4, 8], "the first validation stops none"
    outcome = json.loads((folder.path / "outcome.json").read_text())
    assert (outcome["state"], outcome["steps"]) == ("pruned", 8)


def test_a_trial_before_the_others_is_not_stopped(tmp_path: Path) -> None:
    _, steps, _ = trial(sweep(tmp_path / "sweep", mode="max"), others=5)
    assert steps == [4, 8, 12, 16, 20]


def test_a_trial_that_falls_behind_at_its_end_is_complete(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "sweep", mode="min")
    _, steps, _ = trial(folder, others=5, before=1e9)
    assert steps == [4, 8, 12, 16, 20]
    assert json.loads((folder.path / "outcome.json").read_text())["state"] == "complete"


def test_a_score_that_is_no_number_does_not_count(tmp_path: Path) -> None:
    study = load(sweep(tmp_path / "sweep"))
    reports = Reports(study, study.ask()._trial_id, "val/loss", tmp_path / "outcome.json")
    strategy = SimpleNamespace(broadcast=lambda value: value)
    trainer: Any = SimpleNamespace(sanity_checking=False, is_global_zero=True, strategy=strategy, should_stop=False)
    trainer.global_step, trainer.max_steps, trainer.callback_metrics = 4, 20, {"val/loss": torch.tensor(torch.nan)}
    task: Any = None
    reports.on_validation_end(trainer, task)
    reports.on_fit_end(trainer, task)
    assert not (tmp_path / "outcome.json").exists()
    trainer.callback_metrics["val/loss"] = torch.tensor(0.5)
    reports.on_validation_end(trainer, task)
    assert reports.scores == {4: 0.5}


@pytest.mark.parametrize("changes", [{"others": 4}, {"others": 5, "prune": False}])
def test_no_trial_is_stopped(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Of the first, and where that is asked."""
    others = changes.pop("others")
    _, steps, _ = trial(sweep(tmp_path / "sweep", mode="min", **changes), others=others)
    assert steps == [4, 8, 12, 16, 20]


def test_an_unknown_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, _ = trial(sweep(tmp_path / "sweep"), metric="val/los")
    assert status == 2
    assert "--metric: validation logs no 'val/los' but val/loss" in capsys.readouterr().err


def test_pace(tmp_path: Path) -> None:
    pace = Pace(1e9, tmp_path / "pace.json")
    short = ["--trainer.logger=false", "--trainer.enable_checkpointing=false", "--trainer.limit_val_batches=0"]
    assert main([*FIT, *short, "--trainer.max_steps=100"], callbacks=[pace]) == 0
    assert len(pace.laps) == 23
    seconds = json.loads((tmp_path / "pace.json").read_text())["seconds"]
    assert seconds == sorted(pace.laps[3:])[9:11][0] / 2 + sorted(pace.laps[3:])[9:11][1] / 2
    hurried = Pace(1e-9, tmp_path / "pace.json")
    assert main([*FIT, *short, "--trainer.max_steps=100"], callbacks=[hurried]) == 0
    assert len(hurried.laps) == 4
