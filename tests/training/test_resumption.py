"""Exact resume: bit-identical to an uninterrupted run, with dropout, weight averages and step numbers."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

import datamodules  # noqa: F401  (makes the names of the commands known)
import tabattn.tasks  # noqa: F401
from tabattn.storage.resumption import KEY, get_state, set_state
from tabattn.training.cli import CLI, main
from tests.optim.test_schedule_free import MeanOfPoints  # noqa: F401

CONFIGS = Path(__file__).parents[2] / "configs"
COMMON = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
COMMON += ["--trainer.max_steps=8", "--trainer.log_every_n_steps=1", "--trainer.check_val_every_n_epoch=1"]
COMMON += ["--data.batch_size=2", "--data.steps_per_epoch=4", "--lr_scheduler=null"]
SIZES = ("dim=16", "hidden=16", "heads=2", "layers=1")
PRIOR = ["--config", str(CONFIGS / "prior.yaml"), "--data.rows=[12,16]", "--data.features=[2,3]"]
PRIOR += ["--data.tables=[sklearn:iris]", "--data.evaluation.folds=2", *(f"--model.network.{size}" for size in SIZES)]
PAIRS = ["--config", str(CONFIGS / "pairs.yaml"), "--data.points=[8,8]", "--data.context=3"]
PAIRS += [
    "--data.evaluation.val_batches=1",
    "--data.evaluation.test_batches=1",
    *(f"--model.network.{size}" for size in SIZES),
]
TASKS = {"prior": PRIOR, "pairs": PAIRS}
OPTIMIZERS = {
    "AdamW": ["--optimizer=AdamW", "--optimizer.lr=0.01"],
    "MuonAdamW": ["--optimizer=tabattn.optim.MuonAdamW"],
    "LookaheadLamb": ["--optimizer=tabattn.optim.LookaheadLamb", "--optimizer.k=3", "--lr_scheduler=FlatCosine"],
    "ScheduleFree": ["--optimizer=MeanOfPoints", "--optimizer.lr=0.1"],
    "AdamWScheduleFree": ["--optimizer=schedulefree.AdamWScheduleFree", "--optimizer.lr=0.01"],
}
DROPOUT = ["--model.attention=Softmax", "--model.attention.dropout=0.3"]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


class KeepAt(Callback):
    """Saves once, within an epoch or at its end.

    Args:
        step: After which to save.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step and self.step % 4:
            trainer.save_checkpoint("kept.ckpt")

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint("kept.ckpt")


def weights(cli: Any) -> list[Tensor]:
    for optimizer in cli.trainer.optimizers:
        if hasattr(optimizer, "train"):
            optimizer.train()
    return [p.detach().clone() for p in cli.model.parameters()]


def logged(cli: Any) -> list[tuple[int, float]]:
    with Path(cli.trainer.log_dir, "metrics.csv").open() as file:
        return [(int(row["step"]), float(row["train/loss"])) for row in csv.DictReader(file) if row["train/loss"]]


def check(task: str, optimizer: str, workers: int, step: int) -> None:
    flags = ["fit", *TASKS[task], *COMMON, *OPTIMIZERS[optimizer], *DROPOUT, f"--data.num_workers={workers}"]
    whole = CLI([*flags, "--trainer.callbacks+=KeepAt", f"--trainer.callbacks.step={step}"])
    resumed = CLI([*flags, "--ckpt_path=kept.ckpt"])
    assert resumed.trainer.global_step == 8
    for got, want in zip(weights(resumed), weights(whole), strict=True):
        assert torch.equal(got, want)
    assert logged(resumed) == [row for row in logged(whole) if row[0] >= step]


@pytest.mark.parametrize(
    ("task", "optimizer", "workers", "step"),
    [
        ("prior", "AdamW", 0, 4),
        ("prior", "ScheduleFree", 0, 3),
        ("pairs", "MuonAdamW", 0, 6),
        ("pairs", "LookaheadLamb", 0, 4),
        ("pairs", "AdamWScheduleFree", 0, 4),
    ],
)
def test_resumed_is_uninterrupted(task: str, optimizer: str, workers: int, step: int) -> None:
    check(task, optimizer, workers, step)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [3, 4])
def test_resumed_is_uninterrupted_everywhere(task: str, optimizer: str, workers: int, step: int) -> None:
    check(task, optimizer, workers, step)


def test_a_checkpoint_without_random_states_loads_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    flags = ["fit", *PAIRS, *COMMON, *OPTIMIZERS["AdamW"], *DROPOUT, "--data.num_workers=0"]
    assert main([*flags, "--trainer.max_steps=4"]) == 0
    (path,) = Path("runs").rglob("last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    assert len(checkpoint.pop(KEY)) == 1
    torch.save(checkpoint, "old.ckpt")
    assert main([*flags, "--ckpt_path=old.ckpt"]) == 0
    assert "the checkpoint holds the random states of 0 processes, this run has 1" in caplog.text


def test_random_states_round_trip() -> None:
    cpu = torch.device("cpu")
    state = get_state(cpu)

    def draw() -> list[float]:
        import random

        import numpy as np

        return [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002

    first = draw()
    assert draw() != first
    set_state(state, cpu)
    assert draw() == first


@pytest.mark.parametrize("devices", [1, 2])
def test_generators_of_all_devices_round_trip(devices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a run goes on with fewer devices; a stand-in for several GPUs."""
    states = [torch.tensor([1, 2], dtype=torch.uint8), torch.tensor([3, 4], dtype=torch.uint8)]
    put: dict[int, Tensor] = {}
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: put.update({device: state}))
    cuda = torch.device("cuda", 1)
    set_state(get_state(cuda), cuda)
    assert list(put) == list(range(devices))
    assert all(torch.equal(state, states[number]) for number, state in put.items())


def test_the_generator_of_one_device_as_it_was_kept_before(monkeypatch: pytest.MonkeyPatch) -> None:
    put: dict[torch.device, Tensor] = {}
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: put.update({device: state}))
    cuda = torch.device("cuda", 1)
    state = get_state(torch.device("cpu")) | {"cuda": torch.tensor([1, 2], dtype=torch.uint8)}
    set_state(state, cuda)
    assert list(put) == [cuda]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_random_states_round_trip_on_a_gpu() -> None:
    cuda = torch.device("cuda", 0)
    state = get_state(cuda)
    first = torch.rand(4, device=cuda)
    assert not torch.equal(torch.rand(4, device=cuda), first)
    set_state(state, cuda)
    assert torch.equal(torch.rand(4, device=cuda), first)
