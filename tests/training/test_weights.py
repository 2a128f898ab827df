"""Weights of a run: random ones cause a warning, those of other tasks are refused, partial matches are reported."""

import logging
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser, Namespace
from torch.optim import SGD

from tabattn.contract.errors import DataError
from tabattn.pairs import TNPD
from tabattn.prior.estimator import TabularClassifier
from tabattn.storage.loading import saved_hyperparameters
from tabattn.storage.matching import load_matching
from tabattn.tasks import PairInference, Task
from tabattn.training.checkpoint_arguments import leave_init_from_aside
from tabattn.training.cli import main
from tests.training.test_from_python import CONFIGS, each_task, pairs, prior, sequences, tables, trainer

RANDOM = (
    r"the weights of (PriorClassification|PairInference) are random, so its answers are those of an untrained network"
)
SMALL = [f"--model.network.{name}" for name in ("dim=16", "heads=2", "hidden=16", "layers=1")]
SMALL += ["--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.enable_progress_bar=false"]
PAIRS = ["--data=SyntheticPairs", "--data.points=[8,8]", "--data.context=3", "--data.batch_size=2"]
PAIRS += ["--data.evaluation.val_batches=1", "--data.evaluation.test_batches=1"]


def checkpoint(task: Task, data: Any, path: Path) -> str:
    run = trainer(path.parent, max_steps=1, limit_val_batches=0)
    run.fit(task, data)
    run.save_checkpoint(path)
    return str(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A checkpoint of each task, in networks of equal sizes."""
    folder = tmp_path_factory.mktemp("saved")
    return {
        "prior": checkpoint(prior(), tables(), folder / "prior.ckpt"),
        "pairs": checkpoint(pairs(), sequences(), folder / "pairs.ckpt"),
    }


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
@each_task
def test_a_network_as_initialised_is_said(task: Any, data: Any, command: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=RANDOM) as said:
        getattr(trainer(tmp_path), command)(task(), data())
    assert sum("are random" in str(warning.message) for warning in said) == 1


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_the_command_line_says_so_too(command: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match=RANDOM):
        assert main([command, "--model=PairInference", *SMALL, *PAIRS]) == 0


def test_weights_that_come_from_somewhere_are_not(saved: dict[str, str], tmp_path: Path) -> None:
    """From a checkpoint, a training by a trainer or by hand, or any state dictionary."""
    by_hand, by_state = pairs(), pairs()
    optimizer = SGD(by_hand.parameters(), 0.1)
    next(by_hand.network.parameters()).sum().backward()
    optimizer.step()
    by_state.network.load_state_dict(pairs().network.state_dict())
    trained = pairs()
    trainer(tmp_path, max_steps=1).fit(trained, sequences())
    models = [by_hand, by_state, trained, PairInference.load_from_checkpoint(saved["pairs"])]
    models += [pairs(init_from=saved["pairs"])]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the weights of")
        for model in models:
            trainer(tmp_path).test(model, sequences(), verbose=False)
        trainer(tmp_path).test(pairs(), sequences(), ckpt_path=saved["pairs"], weights_only=True, verbose=False)


@pytest.mark.parametrize(("mine", "other"), [("prior", "pairs"), ("pairs", "prior")])
def test_a_checkpoint_of_another_task_is_one_line(
    mine: str, other: str, saved: dict[str, str], tmp_path: Path, monkeypatch: Any, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    build, data = {"prior": (prior, tables), "pairs": (pairs, sequences)}[mine]
    name = type(build()).__name__
    theirs = {"prior": "PriorClassification", "pairs": "PairInference"}[other]
    with pytest.raises(DataError, match=rf"init_from: .* is a checkpoint of .*\.{theirs}, the model is {name}$"):
        trainer(tmp_path).fit(build(init_from=saved[other]), data())
    with pytest.raises(ValueError, match=rf"the checkpoint is one of tabattn.tasks.{theirs}, the model is {name}$"):
        trainer(tmp_path).test(build(), data(), ckpt_path=saved[other], weights_only=True)
    with pytest.raises(ValueError, match=rf"holds no such task: its task is tabattn.tasks.{theirs}, not {name}$"):
        type(build()).load_from_checkpoint(saved[other])
    flags = ["test", f"--config={CONFIGS / f'{mine}.yaml'}", *SMALL, f"--ckpt_path={saved[other]}"]
    with pytest.raises(SystemExit) as left:
        main(flags)
    assert left.value.code == 2
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"error: ckpt_path: the checkpoint is one of tabattn.tasks.{theirs}, the model is ")


def test_the_estimator_refuses_them_too(saved: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="PairInference"):
        TabularClassifier(model=saved["pairs"]).fit([[0.0], [1.0]], [0, 1])


def test_packaged_weights_are_of_one_task(tmp_path: Path) -> None:
    import tabattn

    packaged = Path(tabattn.__file__).parent / "pretrained" / "prior.safetensors"
    with pytest.raises(DataError, match="holds weights of the task prior, the model is PairInference"):
        trainer(tmp_path).test(pairs(init_from=str(packaged)), sequences())


def test_another_network_of_the_task_is_one_line(saved: dict[str, str], tmp_path: Path) -> None:
    wider = partial(TNPD, dim=32, heads=2, hidden=16, layers=1)
    with pytest.raises(ValueError, match=r"network is another, with network .*16.* \(here .*32.*builds it"):
        trainer(tmp_path).test(pairs(network=wider), sequences(), ckpt_path=saved["pairs"], weights_only=True)


def test_a_small_part_that_fits_is_a_warning(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    wide = torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(20)])
    state = {f"network.{name}": weight for name, weight in wide.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "all.ckpt")
    few = {name: state[name] for name in list(state)[:5]} | {"network.other": torch.zeros(1)}
    torch.save({"state_dict": few}, tmp_path / "few.ckpt")
    with pytest.warns(UserWarning, match="5 of 40 tensors fit") as said:
        load_matching(wide, str(tmp_path / "few.ckpt"))
    (text,) = [str(warning.message) for warning in said]
    assert "left as initialised: 2.bias, 3.weight, 3.bias, 4.weight and 31 more" in text
    assert "of another shape, or not of this network: other" in text
    assert "\n" not in text
    with caplog.at_level(logging.INFO):
        load_matching(wide, str(tmp_path / "all.ckpt"))
        assert "tensors fit" not in caplog.text
        load_matching(torch.nn.Sequential(*wide, torch.nn.Linear(8, 2)), str(tmp_path / "all.ckpt"))
    assert "40 of 42 tensors fit; left as initialised: 20.weight, 20.bias" in caplog.text


@pytest.mark.parametrize(("first", "second"), [("prior", "pairs"), ("pairs", "prior")])
def test_configurations_of_two_tasks_are_refused(first: str, second: str, capfd: Any) -> None:
    files = [str(CONFIGS / f"{name}.yaml") for name in (first, second)]
    for words in (["--config", files[0], "--config", files[1]], [f"--config={file}" for file in files]):
        with pytest.raises(SystemExit) as left:
            main(["fit", *words])
        assert left.value.code == 2
        names = {"prior": "PriorClassification", "pairs": "PairInference"}
        said = capfd.readouterr().err.strip()
        assert said.startswith(f"error: config: {files[0]} describes {names[first]}, {files[1]} {names[second]}: ")
        assert "\n" not in said


def test_siblings_of_a_task_share_weights(saved: dict[str, str], tmp_path: Path) -> None:
    class Mine(PairInference):
        pass

    small = dict(pairs().hparams)
    task = Mine(**small, init_from=saved["pairs"])
    trainer(tmp_path).test(task, sequences(), verbose=False)
    given = torch.load(saved["pairs"], weights_only=True)["state_dict"]
    assert all(torch.equal(weight, given[name]) for name, weight in task.state_dict().items() if "network" in name)


@pytest.mark.parametrize("maker", [{}, {"_instantiator": "of the command line", "_class_path": "tabattn.tasks.X"}])
def test_hyperparameters_are_saved_without_init_from(maker: dict[str, str]) -> None:
    given = {"attention": "Softmax", "init_from": "gone.ckpt", **maker}
    saved = saved_hyperparameters(PairInference, given)
    assert saved.keys() == {"attention", "_instantiator", "_class_path"}
    assert saved["_class_path"] == maker.get("_class_path", "tabattn.tasks.PairInference")


def test_a_checkpoint_leaves_no_init_from(capsys: pytest.CaptureFixture[str]) -> None:
    """That of a configuration is dropped, as its file may be gone by now; a flag is refused."""
    model = Namespace(init_args=Namespace(init_from="gone.ckpt"))
    with pytest.raises(SystemExit, match="2"):
        leave_init_from_aside(ArgumentParser(), model, {"model.init_from"})
    assert "none would be left of --model.init_from" in capsys.readouterr().err
    leave_init_from_aside(ArgumentParser(), model, set())
    assert model.init_args.init_from is None
