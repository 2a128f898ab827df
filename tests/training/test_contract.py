"""Every task with every datamodule: batches are read, or refused in one line."""

from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

import datamodules
from tabattn import tasks
from tabattn.contract.batches import PairBatch, TableBatch
from tabattn.pairs import TNPD
from tabattn.prior.network import PriorNetwork
from tabattn.tasks import PairInference, PriorClassification, Task
from tabattn.training.cli import main

SMALL = {"dim": 8, "heads": 2, "hidden": 8, "layers": 1}
COMMANDS = ("fit", "validate", "test", "predict")


def package(cls: type) -> str:
    return cls.__module__.split(".")[1]


def test_every_datamodule_and_task_says_what_it_makes_or_reads() -> None:
    kinds = [getattr(datamodules, name) for name in datamodules.__all__]
    made = {(package(kind), kind.batch) for kind in kinds}
    read = {(package(task), task.batch) for name in tasks.__all__ if (task := getattr(tasks, name)) is not Task}
    assert read >= {("prior", TableBatch), ("pairs", PairBatch)}
    assert made <= read, "a package of datamodules has the name of the task's that reads its batches"
    assert {batch for _, batch in made} == {batch for _, batch in read}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("task", "data", "said"),
    [
        (
            "PriorClassification",
            "SyntheticPairs",
            "PriorClassification reads TableBatch, SyntheticPairs makes PairBatch",
        ),
        ("PairInference", "SyntheticPrior", "PairInference reads PairBatch, SyntheticPrior makes TableBatch"),
    ],
)
def test_a_task_on_foreign_data_is_one_line(
    command: str, task: str, data: str, said: str, monkeypatch: Any, tmp_path: Any, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main([command, f"--model={task}", f"--data={data}", "--trainer.accelerator=cpu"])
    assert left.value.code == 2
    assert capfd.readouterr().err.strip().splitlines()[-1] == f"error: {said}"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("task", "reads"),
    [
        (PriorClassification(partial(PriorNetwork, **SMALL)), "TableBatch"),
        (PairInference(partial(TNPD, **SMALL)), "PairBatch"),
    ],
)
def test_batches_of_a_plain_loader_are_checked_too(command: str, task: Task, reads: str) -> None:
    task.configure_optimizers = lambda: torch.optim.SGD(task.parameters(), lr=0.1)  # type: ignore[method-assign]
    loader = DataLoader(torch.zeros(2, 3))
    trainer = Trainer(
        logger=False,
        accelerator="cpu",
        max_steps=1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(Exception, match=f"reads {reads}, the data makes Tensor"):
        getattr(trainer, command)(task, *([loader, loader] if command == "fit" else [loader]))
