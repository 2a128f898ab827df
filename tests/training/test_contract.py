"""Every task with every datamodule: batches are read, or refused in one line."""

import inspect
import re
from functools import partial
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

import datamodules
from tabattn import tasks
from tabattn.contract.batches import PairBatch, Scaling, TableBatch
from tabattn.contract.facts import REQUIRED, fact_of
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


class OwnPairs(LightningDataModule):
    """Datamodule of a user, with the facts that are required."""

    members: Any = 2
    scaling: Any = Scaling(0.0, 1.0)

    def train_dataloader(self) -> DataLoader[PairBatch]:
        x = torch.rand(2, 8)
        member = torch.arange(8).remainder(2).expand(2, -1)
        return DataLoader([PairBatch(x, x.cos(), member, 4)], batch_size=None)  # type: ignore[arg-type]

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class OwnTables(LightningDataModule):
    """Datamodule of a user, with the fact that is required."""

    classes: Any = 3

    def train_dataloader(self) -> DataLoader[TableBatch]:
        y = torch.arange(12).remainder(3).expand(2, -1)
        return DataLoader([TableBatch(torch.randn(2, 12, 3), y, 9)], batch_size=None)  # type: ignore[arg-type]

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class TabularOnly(LightningDataModule):
    """Datamodule of a user that makes batches and says nothing of them."""

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = OwnTables.train_dataloader


OWN: dict[type[Task], type[LightningDataModule]] = {PairInference: OwnPairs, PriorClassification: OwnTables}


def run(command: str, task: type[Task], data: Any) -> None:
    network = partial(TNPD if task is PairInference else PriorNetwork, **SMALL)
    trainer = Trainer(
        logger=False,
        accelerator="cpu",
        max_steps=1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    getattr(trainer, command)(task(network), data)


def lacking(data: type[LightningDataModule], name: str) -> type[LightningDataModule]:
    """The datamodule without a fact."""
    kept = {key: value for key, value in vars(data).items() if key != name}
    return type(f"Own{name.title()}Less", (LightningDataModule,), kept)


def is_required(task: type[Task], name: str) -> bool:
    return task.facts[name].default is REQUIRED


FACTS = [(task, name) for task in OWN for name in task.facts]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("task", OWN)
@pytest.mark.filterwarnings("ignore")
def test_a_datamodule_with_the_required_facts_alone_serves(command: str, task: type[Task]) -> None:
    run(command, task, OWN[task]())


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("task", "name"), [(task, name) for task, name in FACTS if task.facts[name].default is REQUIRED]
)
def test_a_lacking_fact_is_refused(command: str, task: type[Task], name: str) -> None:
    data = lacking(OWN[task], name)
    said = (
        f"{task.__name__} needs {name} of its datamodule ({task.facts[name].what}), {data.__name__} lacks it: add an "
        f"attribute or property {name}"
    )
    with pytest.raises(MisconfigurationException, match=f"^{re.escape(said)}$"):
        run(command, task, data())


@pytest.mark.parametrize(
    ("task", "name"), [(task, name) for task, name in FACTS if task.facts[name].kind is not object]
)
@pytest.mark.parametrize("given", [7.5, None])
def test_a_fact_of_a_wrong_type_is_refused(task: type[Task], name: str, given: Any) -> None:
    """None is as lacking."""
    data, fact = OWN[task](), task.facts[name]
    setattr(data, name, given)
    if given is None and not is_required(task, name):
        assert fact_of(data, name, fact, task.__name__) == fact.default
        return
    said = (
        f"{task.__name__} needs {name} of its datamodule .* as {fact.kind.__name__}, {type(data).__name__}.{name} is of"
    )
    with pytest.raises(MisconfigurationException, match=f"^{said} type {type(given).__name__}$"):
        run("predict", task, data)


@pytest.mark.parametrize(("name", "other"), [("mean", "std"), ("std", "mean")])
def test_a_mean_without_a_standard_deviation_is_refused(name: str, other: str) -> None:
    data = OwnPairs()
    setattr(data, name, (1.0, 2.0))
    with pytest.raises(MisconfigurationException, match=rf"needs {other} of .*, as it has {name}: OwnPairs lacks it$"):
        run("predict", PairInference, data)


def test_a_property_that_fails_is_not_one_that_is_lacking() -> None:
    class Broken(OwnPairs):
        @property
        def members(self) -> int:
            return self.table.columns  # type: ignore[attr-defined, no-any-return]

    with pytest.raises(AttributeError, match="'Broken' object has no attribute 'table'"):
        run("predict", PairInference, Broken())


def test_a_task_asks_for_declared_facts_alone() -> None:
    for task in OWN:
        asked = set(re.findall(r'of_data\("(\w+)"\)', inspect.getsource(inspect.getmodule(task))))  # type: ignore[arg-type]
        assert asked == task.facts.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_lacking_fact_is_one_line_on_the_command_line(
    command: str, monkeypatch: Any, tmp_path: Any, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    data = f"--data={__name__}.TabularOnly"
    words = [command, "--model=PriorClassification", data, "--trainer.accelerator=cpu", "--trainer.max_steps=1"]
    assert main([*words, "--allow", "tests"]) == 2
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: PriorClassification needs classes of its datamodule (")
    assert not list(tmp_path.glob("runs/**/*.*"))
