"""Tasks from Python: train, resume, test and predict by Lightning's trainer, with the configuration's optimizer."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import StepLR

from datamodules import SyntheticPairs, SyntheticPrior
from datamodules.prior import FoldEvaluation
from tabattn import tasks
from tabattn.attention import Softmax
from tabattn.optim import MuonAdamW, WarmupCosine
from tabattn.pairs import TNPD
from tabattn.prior.network import PriorNetwork
from tabattn.tasks import PairInference, PriorClassification, Task
from tests.helpers import build
from tests.optim.test_schedule_free import MeanOfPoints

CONFIGS = Path(__file__).parents[2] / "configs"
DROPPING = partial(Softmax, dropout=0.3)


def prior(**changes: Any) -> PriorClassification:
    small = partial(PriorNetwork, dim=16, heads=2, hidden=16, layers=1, thinking_rows=2)
    return PriorClassification(**{"network": small, "attention": DROPPING, **changes})


def pairs(**changes: Any) -> PairInference:
    small = partial(TNPD, dim=16, heads=2, hidden=16, layers=1)
    return PairInference(**{"network": small, "attention": DROPPING, **changes})


def tables() -> SyntheticPrior:
    return SyntheticPrior(
        batch_size=2,
        steps_per_epoch=4,
        rows=(12, 16),
        features=(2, 3),
        tables=("sklearn:iris",),
        evaluation=FoldEvaluation(folds=2),
    )


def sequences() -> SyntheticPairs:
    return build(
        SyntheticPairs,
        points=(8, 8),
        context=3,
        batch_size=2,
        steps_per_epoch=4,
        evaluation__val_batches=1,
        evaluation__test_batches=1,
    )


TASKS: list[tuple[Callable[..., Task], Callable[[], LightningDataModule]]] = [(prior, tables), (pairs, sequences)]
each_task = pytest.mark.parametrize(("task", "data"), TASKS, ids=["prior", "pairs"])


def trainer(folder: Path, **changes: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    given = {"max_steps": 8, "num_sanity_val_steps": 0, "enable_checkpointing": False, **changes}
    return Trainer(default_root_dir=folder, **quiet, **given)


def copies(task: Task) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in task.parameters()]


@each_task
def test_a_task_trains_scores_and_predicts(task: Any, data: Any, tmp_path: Path) -> None:
    model = task()
    before = copies(model)
    run = trainer(tmp_path, enable_checkpointing=True)
    run.fit(model, data())
    assert run.global_step == 8
    assert not any(map(torch.equal, before, copies(model)))
    assert run.checkpoint_callback is not None
    path = run.checkpoint_callback.best_model_path
    for stage, score in (("val", run.validate), ("test", run.test)):
        (scores,) = score(model, data(), verbose=False)
        assert any(name.startswith(f"{stage}/") for name in scores)
    assert run.test(model, data(), ckpt_path="best", weights_only=True, verbose=False) == run.test(
        type(model).load_from_checkpoint(path), data(), verbose=False
    )
    assert run.predict(model, data())


@pytest.mark.parametrize("name", [name for name in tasks.__all__ if name != "Task"])
def test_the_defaults_are_those_of_the_configuration(name: str) -> None:
    task: type[Task] = getattr(tasks, name)
    file = "sparsity/projections" if name == "SparsefinderProjections" else task.task_name
    config = yaml.safe_load((CONFIGS / f"{file}.yaml").read_text())
    default = task.optimizer
    assert isinstance(default, partial)
    given = config["optimizer"]["class_path"]
    assert given.rpartition(".")[2] == default.func.__name__
    assert config["optimizer"]["init_args"] == default.keywords
    assert "lr_scheduler" not in config, "the command line's default, as the task's"
    assert task.lr_scheduler is WarmupCosine


@pytest.mark.parametrize(("task", "rates"), [(prior, [0.02, 3e-3]), (pairs, [5e-3, 2e-3])])
def test_the_default_schedule_goes_over_the_whole_run(task: Any, rates: list[float], tmp_path: Path) -> None:
    data = dict(TASKS)[task]
    run = trainer(tmp_path, max_epochs=2, max_steps=-1, limit_val_batches=0)
    run.fit(task(), data())
    (optimizer,), (schedule,) = run.optimizers, run.lr_scheduler_configs
    assert type(optimizer) is MuonAdamW
    assert [group["initial_lr"] for group in optimizer.param_groups] == rates
    assert isinstance(schedule.scheduler, WarmupCosine)
    assert (schedule.interval, schedule.scheduler.total_steps, schedule.scheduler.last_epoch) == ("step", 8, 8)


def test_optimizer_and_schedule_are_chosen(tmp_path: Path) -> None:
    run = trainer(tmp_path, limit_val_batches=0)
    model = pairs().use_optimizer(partial(SGD, lr=0.5), partial(StepLR, step_size=4, gamma=0.1))
    run.fit(model, sequences())
    (optimizer,) = run.optimizers
    assert type(optimizer) is SGD
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.005)
    run = trainer(tmp_path, max_steps=2, limit_val_batches=0)
    run.fit(pairs().use_optimizer(lr_scheduler=None), sequences())
    assert type(run.optimizers[0]) is MuonAdamW
    assert run.lr_scheduler_configs == []


def test_the_choice_is_no_hyperparameter(tmp_path: Path) -> None:
    model = pairs().use_optimizer(lambda parameters: SGD(parameters, 0.1))
    run = trainer(tmp_path, max_steps=1, limit_val_batches=0)
    run.fit(copy.deepcopy(model), sequences())
    run.save_checkpoint(tmp_path / "kept.ckpt")
    assert "optimizer" not in model.hparams
    assert type(PairInference.load_from_checkpoint(tmp_path / "kept.ckpt")) is PairInference


@pytest.mark.parametrize("name", ["optimizer", "lr_scheduler"])
@pytest.mark.parametrize("given", [3, {"lr": 0.1}, SGD([torch.zeros(1, requires_grad=True)])])
def test_what_makes_no_optimizer_is_refused(name: str, given: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be a class, or functools.partial\(<class>, ...\), got"):
        pairs().use_optimizer(**{name: given})


class SaveEarly(Callback):
    """Saves after a step, before the trainer's own callbacks have seen it."""

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def trained(run: Trainer) -> list[Tensor]:
    """The weights to train with."""
    (optimizer,) = run.optimizers
    if isinstance(optimizer, MeanOfPoints):
        optimizer.train()
    return copies(run.lightning_module)  # type: ignore[arg-type]


@pytest.mark.parametrize("optimizer", [None, MeanOfPoints])
@pytest.mark.parametrize("step", [3, 6])
@each_task
def test_a_resumed_run_is_the_uninterrupted_one(
    task: Any, data: Any, step: int, optimizer: Callable[..., Optimizer] | None, tmp_path: Path
) -> None:
    """With dropout, whose random numbers go on too, and a schedule."""
    whole = trainer(tmp_path, callbacks=[SaveEarly(tmp_path / "kept.ckpt", step)], limit_val_batches=1)
    whole.fit(task().use_optimizer(optimizer), data())
    resumed = trainer(tmp_path, limit_val_batches=1)
    resumed.fit(task().use_optimizer(optimizer), data(), ckpt_path=tmp_path / "kept.ckpt", weights_only=True)
    assert resumed.global_step == 8
    assert all(map(torch.equal, trained(resumed), trained(whole)))


def test_a_schedule_free_optimizer_is_scored_at_its_average(tmp_path: Path) -> None:
    run = trainer(tmp_path, limit_val_batches=1, callbacks=[])
    model = pairs().use_optimizer(MeanOfPoints)
    run.fit(model, sequences())
    (optimizer,) = run.optimizers
    assert run.lr_scheduler_configs == []
    assert optimizer.param_groups[0]["training"] is False
    means = [optimizer.state[parameter]["mean"] for parameter in model.parameters()]
    assert all(map(torch.equal, means, copies(model)))


PROCESSES = """
from lightning import Trainer
from tests.training.test_from_python import sequences, pairs

run = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_steps=2, logger=False, {options})
run.fit(pairs(), sequences())
assert run.global_step == 2
run.test(run.lightning_module, sequences())
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", ["use_distributed_sampler=False", ""])
def test_two_processes_train_from_python(options: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(PROCESSES.format(options=options))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CONFIGS.parent)}
    done = subprocess.run(
        [sys.executable, "script.py"],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode == 0) is bool(options), done.stderr[-3000:]
    assert ("several processes need" in done.stderr) is not bool(options)


def test_a_command_line_that_only_builds_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tabattn.cli import CLI

    monkeypatch.chdir(tmp_path)
    for name, small in (("prior", ["--data.tables=[sklearn:iris]"]), ("pairs", [])):
        cli = CLI([f"--config={CONFIGS / name}.yaml", *small, "--trainer.accelerator=cpu"], run=False)
        assert cli.model.task_name == name
    assert not list(tmp_path.iterdir())
