"""Schedule-free optimizers: validation and checkpoints use the averaged weights, training steps do not."""

import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from tabattn.optim import WarmupCosine
from tabattn.optim.schedule_free import ScheduleFree
from tabattn.training.cli import CLI, main
from tests.helpers import MeanData, MeanTask

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
FIT = ["fit", "--model=MeanTask", "--data=MeanData", *QUIET, "--trainer.max_epochs=2", "--lr_scheduler=null"]
LAST = "checkpoints/last.ckpt"


class MeanOfPoints(Optimizer):
    """Gradient descent that trains at its last point and is used at the mean of all points it has been at.

    Args:
        params: What it updates.
        lr: Learning rate.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "training": False, "steps": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float]) -> float:  # type: ignore[override]
        (group,) = self.param_groups
        assert group["training"], "a step from the mean would be lost"
        with torch.enable_grad():
            loss = closure()
        group["steps"] += 1
        for p in group["params"]:
            state = self.state[p]
            p -= group["lr"] * p.grad
            state["z"] = p.clone()
            mean = state.setdefault("mean", torch.zeros_like(p))
            mean += (p - mean) / group["steps"]
        return loss

    def train(self) -> None:
        self._move("z", True)

    def eval(self) -> None:
        self._move("mean", False)

    @torch.no_grad()
    def _move(self, point: str, training: bool) -> None:
        (group,) = self.param_groups
        if group["training"] != training:
            group["training"] = training
            for p in group["params"]:
                if self.state[p]:
                    p.copy_(self.state[p][point])


class Points(Callback):
    """Keeps the points of every step, the weights they were trained at and those of every validation."""

    def __init__(self) -> None:
        self.steps: list[list[Tensor]] = []
        self.trained: list[list[Tensor]] = []
        self.validated: list[tuple[int, list[Tensor]]] = []

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self.trained.append(copies(pl_module))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        (optimizer,) = trainer.optimizers
        self.steps.append([optimizer.state[p]["z"].clone() for p in pl_module.parameters()])

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.validated.append((len(self.steps), copies(pl_module)))

    def average(self, steps: int | None = None) -> list[Tensor]:
        """Return the mean of the points of the first steps: what either optimizer has at a constant learning rate."""
        return [torch.stack(points).mean(0) for points in zip(*self.steps[:steps], strict=True)]


class Curious(Callback):
    """Asks for the state of the module between the gradients and the step."""

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.state_dict()


@pytest.fixture(params=["MeanOfPoints", "schedulefree.AdamWScheduleFree"])
def flags(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    if "." in request.param and importlib.util.find_spec("schedulefree") is None:
        pytest.skip("the package schedulefree is not installed")
    monkeypatch.chdir(tmp_path)
    return [*FIT, f"--optimizer={request.param}", "--optimizer.lr=0.1"]


def copies(module: LightningModule) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def close(got: Iterable[Tensor], want: Iterable[Tensor]) -> None:
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs)


def equal(got: Iterable[Tensor], want: Iterable[Tensor]) -> None:
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def run(flags: list[str]) -> tuple[Any, Points]:
    cli: Any = CLI([*flags, "--trainer.callbacks+=Points"])
    return cli, next(callback for callback in cli.trainer.callbacks if isinstance(callback, Points))


def saved(version: int, name: str = LAST) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(f"runs/tiny/Softmax/version_{version}/{name}", weights_only=True)
    return checkpoint


def test_validation_sees_the_average(flags: list[str]) -> None:
    _, points = run(flags)
    assert {steps for steps, _ in points.validated} == {0, 3, 6}
    for steps, weights in points.validated[2:]:
        close(weights, points.average(steps))
        assert not torch.allclose(weights[0], points.trained[steps - 1][0], atol=1e-3)


@pytest.mark.parametrize("weights_only", ["true", "false"])
@pytest.mark.parametrize("when", ["--checkpoint.every_n_epochs=1", "--checkpoint.every_n_train_steps=2"])
def test_checkpoints_hold_the_average(flags: list[str], weights_only: str, when: str) -> None:
    _, points = run([*flags, f"--checkpoint.save_weights_only={weights_only}", when])
    checkpoint = saved(0)
    assert checkpoint["global_step"] == 6
    close(checkpoint["state_dict"].values(), points.average())


def test_saving_between_steps_changes_no_step(flags: list[str]) -> None:
    # In single precision AdamW makes steps of the rounding errors of gradients that are zero.
    flags = [*flags, "--trainer.precision=64-true"]
    _, plain = run(flags)
    _, often = run([*flags, "--checkpoint.every_n_train_steps=1", "--trainer.callbacks+=Curious"])
    for trained, want in zip(often.trained, plain.trained, strict=True):
        close(trained, want)


def test_weights_are_the_average_after_training(flags: list[str]) -> None:
    cli, points = run([*flags, "--trainer.limit_val_batches=0", "--trainer.enable_checkpointing=false"])
    close(cli.model.parameters(), points.average())
    (optimizer,) = cli.trainer.optimizers
    optimizer.train()
    trained = copies(cli.model)
    cli.model.state_dict()
    equal(cli.model.parameters(), trained)


class Averaged(MeanTask):
    """Has an optimizer of its own, as outside the command line."""

    def configure_optimizers(self) -> Optimizer:
        return MeanOfPoints(self.parameters())


def test_the_callback_alone_leaves_the_average(tmp_path: Path) -> None:
    """Where nothing else reads the state of the module at the end, as the guard against divergence does."""
    points, task = Points(), Averaged()
    alone = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        callbacks=[ScheduleFree(), points],
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    alone.fit(task, MeanData())
    assert len(points.steps) == 6
    close(task.parameters(), points.average())
    assert not task._state_dict_pre_hooks


def test_resumed_equals_uninterrupted(flags: list[str]) -> None:
    whole, _ = run(flags)
    main([*flags, "--trainer.max_epochs=1"])
    resumed, _ = run([*flags, f"--ckpt_path=runs/tiny/Softmax/version_1/{LAST}"])
    equal(resumed.model.parameters(), whole.model.parameters())
    for cli in (whole, resumed):
        cli.trainer.optimizers[0].train()
    equal(resumed.model.parameters(), whole.model.parameters())


def test_the_default_schedule_is_left_out(flags: list[str], caplog: pytest.LogCaptureFixture) -> None:
    cli, _ = run([flag for flag in flags if flag != "--lr_scheduler=null"])
    assert cli.trainer.lr_scheduler_configs == []
    assert "is schedule-free: the learning rate is constant, the default WarmupCosine left out" in caplog.text
    assert yaml.safe_load(Path("runs/tiny/Softmax/version_0/config.yaml").read_text())["lr_scheduler"] is None


def test_a_schedule_that_was_asked_for_is_kept_with_a_warning(flags: list[str], tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("lr_scheduler: {class_path: tabattn.optim.WarmupCosine, init_args: {final: 0.5}}\n")
    flags = [flag for flag in flags if flag != "--lr_scheduler=null"]
    for asked in (["--lr_scheduler.warmup=0.05"], ["--lr_scheduler=WarmupCosine"], [f"--config={config}"]):
        with pytest.warns(UserWarning, match="is schedule-free: its average is worse for a learning rate that falls"):
            cli, _ = run([*flags, *asked])
        assert isinstance(cli.trainer.lr_scheduler_configs[0].scheduler, WarmupCosine)
    assert main(["test", *(flag for flag in flags[1:] if "max_epochs" not in flag), "--lr_scheduler.warmup=0.1"]) == 0


def test_other_optimizers_are_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [*FIT, "--optimizer=AdamW"]
    ours = CLI(flags)
    monkeypatch.setattr("tabattn.training.cli.ScheduleFree", Callback)
    without = CLI(flags)
    assert isinstance(ours.model, MeanTask)
    equal(ours.model.parameters(), without.model.parameters())
    assert saved(0).keys() == saved(1).keys()
    assert saved(0)["callbacks"].keys() == saved(1)["callbacks"].keys()
