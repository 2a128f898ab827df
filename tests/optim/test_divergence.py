"""Diverging runs stop with one line and keep finite checkpoints; checkpoints that are not finite are refused."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor

from tabattn import TabularClassifier
from tabattn.contract.errors import DataError, DivergenceError
from tabattn.optim import LookaheadLamb, MuonAdamW
from tabattn.optim.divergence import DivergenceGuard, largest_gradient, leave_step_out
from tabattn.prior.network import PriorNetwork
from tabattn.prior.weights import load_network
from tabattn.storage.matching import load_matching
from tabattn.tasks import PriorClassification
from tabattn.training.cli import main
from tests.helpers import MeanData, MeanTask

pytestmark = pytest.mark.filterwarnings("ignore:step", "ignore:Checkpoint directory")

TINY = {"dim": 8, "heads": 2, "hidden": 8, "layers": 1, "classes": 2}
QUIET: dict[str, Any] = {
    "logger": False,
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
FIT = [
    *("fit", "--data=MeanData", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
    *("--trainer.enable_model_summary=false", "--trainer.max_epochs=4", "--optimizer=SGD", "--optimizer.lr=0.1"),
]


class Poisoned(MeanTask):
    """Has a loss of NaN, or a gradient of NaN, in some steps.

    Args:
        steps: The steps, counted from 0.
        kind: What is NaN.
    """

    def __init__(self, steps: tuple[int, ...] = (), kind: str = "loss") -> None:
        super().__init__()
        self.steps = steps
        self.kind = kind
        self.scale = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: list[Tensor]) -> Tensor:
        loss = self.loss(batch)
        if self.trainer.global_step in self.steps:
            # The square root of 0 has an infinite slope, times 0.
            loss = loss * torch.nan if self.kind == "loss" else loss + (0 * self.scale).sqrt() * 0
        return loss


class Numbered(LightningModule):
    """Has no parameter but one number, whose gradient is a list's."""

    def __init__(self, gradients: list[float]) -> None:
        super().__init__()
        self.gradients = gradients
        self.number = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return (self.number - self.number.detach()) * self.gradients[self.trainer.global_step]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def checkpoint(name: str = "last") -> Path:
    return next(Path("runs").rglob(f"{name}.ckpt"))


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_run_that_diverges_stops_with_one_line_and_keeps_its_checkpoints(kind: str, capfd: Any) -> None:
    # An epoch has 3 steps: the second one ends well, the third does not.
    status = main([*FIT, "--model=Poisoned", "--model.steps=[7,8,9,10,11]", f"--model.kind={kind}"])
    assert status == 4
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"error: the training has diverged: the {kind} is nan since step 8; ")
    assert f"the last good checkpoint is {checkpoint()}" in line
    saved = torch.load(checkpoint(), weights_only=True)
    assert saved["global_step"] == 9
    assert all(value.isfinite().all() for value in saved["state_dict"].values())


def test_single_bad_steps_are_left_out_and_said() -> None:
    with pytest.warns(UserWarning, match="step 3: the gradient is nan, so the step is left out"):
        assert main([*FIT, "--model=Poisoned", "--model.steps=[2,5,8]"]) == 0
    assert torch.load(checkpoint(), weights_only=True)["global_step"] == 12


def test_a_training_whose_steps_are_all_skipped_has_diverged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its end, or earlier where very many are skipped in a row."""
    flags = [*FIT, "--model=Poisoned", "--guard.action=skip"]
    assert main([*flags, f"--model.steps={list(range(100))}"]) == 4
    assert "the gradient was not finite in the last 12 steps" in capsys.readouterr().err
    monkeypatch.setattr("tabattn.optim.divergence.MOST_SKIPPED", 3)
    assert main([*flags, "--model.steps=[2,3,4]"]) == 4
    assert "the gradient was not finite in the last 3 steps" in capsys.readouterr().err
    assert main([*flags, "--model.steps=[1,2,4,5]"]) == 0


def test_steps_are_skipped_where_asked_for() -> None:
    steps = str(list(range(4, 12)))
    assert main([*FIT, "--model=Poisoned", f"--model.steps={steps}", "--guard.action=skip"]) == 0
    saved = torch.load(checkpoint(), weights_only=True)
    assert saved["global_step"] == 12
    whole = main([*FIT, "--model=Poisoned", "--trainer.max_steps=4", "--run.name=short"])
    assert whole == 0
    short = torch.load(next(Path("runs/short").rglob("last.ckpt")), weights_only=True)
    assert saved["state_dict"].keys() == short["state_dict"].keys()


def test_a_guard_in_python_stops_after_patience_steps() -> None:
    def run(gradients: list[float], patience: int) -> Numbered:
        task = Numbered(gradients)
        trainer = Trainer(**QUIET, max_steps=6, callbacks=[DivergenceGuard(patience=patience)], max_epochs=-1)
        trainer.fit(task, MeanData().train_dataloader())
        return task

    inf = float("inf")
    # A step of inf is left out: -1 for each of the others.
    assert run([1, inf, inf, 1, inf, 1], 3).number.item() == -3
    with pytest.raises(DivergenceError, match="the loss is nan since step 2; no checkpoint was saved before"):
        run([1, inf, inf, 1, 1, 1], 2)


def test_gradients_too_large_to_square_are_no_divergence() -> None:
    task = Numbered([1e30] * 6)
    Trainer(**QUIET, max_steps=3, max_epochs=-1, callbacks=[DivergenceGuard(patience=1)]).fit(
        task, MeanData().train_dataloader()
    )
    assert task.number.item() == pytest.approx(-3e30)


def test_with_a_scaler_overflow_is_normal_until_the_scale_has_fallen() -> None:
    """float16 takes gradients up to 65504: those of 2^0 to 2^15 are found by halving the scale of 2^16."""

    def run(gradients: list[float], scale: float) -> Numbered:
        task = Numbered(gradients)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
        plugin = MixedPrecision("bf16-mixed", "cpu")
        plugin.scaler = scaler
        guard = DivergenceGuard()
        Trainer(**QUIET, max_steps=len(gradients), max_epochs=-1, callbacks=[guard], plugins=[plugin]).fit(
            task, MeanData().train_dataloader()
        )
        return task

    inf = float("inf")
    assert run([inf] * 8 + [1.0], 2.0**10).number.item() == -1
    with pytest.raises(DivergenceError, match="the training has diverged"):
        run([inf] * 8, 2.0**3)


@pytest.mark.parametrize(
    "make",
    [
        partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        partial(torch.optim.AdamW, lr=0.1),
        partial(MuonAdamW, lr=0.1),
        partial(LookaheadLamb, lr=0.1, k=1),
        partial(LookaheadLamb, lr=0.1, k=2),
        "AdamWScheduleFree",
    ],
)
def test_a_step_left_out_changes_neither_parameters_nor_the_optimizer(make: Any) -> None:
    if isinstance(make, str):
        make = getattr(pytest.importorskip("schedulefree"), make)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 3))
    optimizer = make(model.parameters())
    getattr(optimizer, "train", lambda: None)()

    def step(out: bool) -> None:
        optimizer.zero_grad()
        (model(torch.ones(2, 3)).square().sum() * (torch.nan if out else 1)).backward()
        if out:
            leave_step_out(optimizer)
        optimizer.step()

    step(out=False)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    step(out=True)
    torch.testing.assert_close((model.state_dict(), optimizer.state_dict()), before, rtol=0, atol=0)
    step(out=False)
    assert not torch.equal(model[0].weight, before[0]["0.weight"])


def test_largest_gradient_sees_nan_and_sparse_gradients() -> None:
    table = torch.nn.Embedding(3, 2, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), lr=1.0)
    assert largest_gradient(optimizer) is None
    (table(torch.tensor([1])) * torch.tensor([3.0, -7.0])).sum().backward()
    assert largest_gradient(optimizer) == 7
    table(torch.tensor([1])).sum().mul(torch.nan).backward()
    assert largest_gradient(optimizer).isnan()


def diverged(where: str = "decoder.0.bias") -> PriorClassification:
    task = PriorClassification(partial(PriorNetwork, **TINY))
    with torch.no_grad():
        task.network.get_parameter(where)[0] = torch.nan
    return task


def write(task: PriorClassification, path: Path, *, good: bool) -> Path:
    """Save a checkpoint as a program without the guard would have."""
    healthy = PriorClassification(partial(PriorNetwork, **TINY))
    trainer = Trainer(**QUIET)
    trainer.strategy.connect(healthy)
    trainer.save_checkpoint(path)
    if not good:
        content = torch.load(path, weights_only=True)
        content["state_dict"] = task.state_dict()
        torch.save(content, path)
    return path


def test_no_writer_saves_weights_that_are_not_finite(tmp_path: Path) -> None:
    path = write(diverged(), tmp_path / "task.ckpt", good=True)
    before = path.read_bytes()
    for weights_only in (False, True):
        trainer = Trainer(**QUIET)
        trainer.strategy.connect(diverged())
        with pytest.raises(DivergenceError, match=r"not finite, in network\.decoder\.0\.bias, and are not saved"):
            trainer.save_checkpoint(path, weights_only=weights_only)
    assert path.read_bytes() == before


def test_no_reader_takes_weights_that_are_not_finite(tmp_path: Path) -> None:
    path = write(diverged(), tmp_path / "task.ckpt", good=False)
    said = "weights that are not finite, in"
    with pytest.raises(DataError, match=said):
        PriorClassification.load_from_checkpoint(path)
    with pytest.raises(DataError, match=said):
        load_matching(PriorNetwork(**TINY), str(path))
    with pytest.raises(ValueError, match=said):
        load_network(path)
    for stage in ("test", "validate", "predict"):
        with pytest.raises(DataError, match=said):
            getattr(Trainer(**QUIET), stage)(PriorClassification(partial(PriorNetwork, **TINY)), [], ckpt_path=path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_the_estimator_takes_no_network_whose_weights_are_not_finite(value: float) -> None:
    network = PriorNetwork(**TINY)
    with torch.no_grad():
        network.get_parameter("decoder.0.bias")[0] = value
    classifier = TabularClassifier(model=network)
    with pytest.raises(
        ValueError, match=r"^model holds weights that are not finite, in decoder\.0\.bias: its training"
    ):
        classifier.fit([[1.0], [2.0], [3.0], [4.0]], [0, 1, 0, 1])


def test_buffers_may_be_infinite(tmp_path: Path) -> None:
    task = PriorClassification(partial(PriorNetwork, **TINY))
    task.network.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    trainer = Trainer(**QUIET)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "task.ckpt")
    assert (tmp_path / "task.ckpt").exists()


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        DivergenceGuard(patience=0)
    with pytest.raises(ValueError, match="action must be stop, skip or off, got 'no'"):
        DivergenceGuard("no")  # type: ignore[arg-type]
