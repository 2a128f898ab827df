"""Configurations of the sparsity task: they build, agree with one another, and their commands are accepted."""

from pathlib import Path

import pytest
import yaml

import tabattn.tasks  # noqa: F401
from callbacks import GraphScoreTable, Projections, QueryKeyRecorder
from tabattn.sparsity.task import SparsefinderProjections
from tabattn.training.cli import CLI
from tests.sparsity.recorded import file

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "sparsity"
QUIET = ["--trainer.accelerator=cpu", "--trainer.logger=false"]
OWN = ("projections", "sweep")


@pytest.mark.parametrize("name", OWN)
def test_a_task_is_built(name: str, tmp_path: Path) -> None:
    cli = CLI([f"--config={FOLDER / name}.yaml", f"--data.path={file(tmp_path)}", *QUIET], run=False)
    assert isinstance(cli.model, SparsefinderProjections)
    assert (cli.model.variants is None) == (name == "projections")
    assert any(isinstance(each, GraphScoreTable) for each in cli.trainer.callbacks)  # type: ignore[attr-defined]


def test_the_sweep_is_of_the_projections_that_are_trained() -> None:
    first, second = (yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) for name in OWN)
    for config in (first, second):
        config["model"]["init_args"].pop("graph", None)
        config["model"]["init_args"].pop("sweep", None)
    assert first == second


def test_checkpoints_are_selected_by_the_graph_and_not_by_the_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss may fall while the graph gets worse; recall alone is highest where all pairs are in the graph."""
    flags = [f"--config={FOLDER / 'projections.yaml'}", f"--data.path={file(tmp_path)}"]
    monkeypatch.chdir(tmp_path)
    cli = CLI([*flags, "--trainer.max_epochs=1", *QUIET], run=False)
    kept = cli.trainer.checkpoint_callback  # type: ignore[attr-defined]
    assert (kept.monitor, kept.mode) == ("val/f1", "max")
    cli.trainer.fit(cli.model, cli.datamodule)  # type: ignore[attr-defined]
    assert float(kept.best_model_score) == pytest.approx(float(cli.trainer.callback_metrics["val/f1"]))  # type: ignore[attr-defined]


def test_the_optimizer_is_that_of_a_training_from_python() -> None:
    default = SparsefinderProjections.optimizer
    config = yaml.safe_load((FOLDER / "projections.yaml").read_text())["optimizer"]
    assert config["class_path"].rpartition(".")[2] == default.func.__name__  # type: ignore[attr-defined]
    assert config["init_args"] == default.keywords  # type: ignore[attr-defined]


@pytest.mark.parametrize("task", ["prior", "pairs", "zoo"])
def test_any_task_takes_the_recorder_beside_its_own_callbacks(task: str) -> None:
    cli = CLI([f"--config={ROOT / 'configs' / task}.yaml", f"--config={FOLDER / 'extract.yaml'}", *QUIET], run=False)
    kinds = [type(each) for each in cli.trainer.callbacks]  # type: ignore[attr-defined]
    assert QueryKeyRecorder in kinds
    assert (task == "zoo") == any(kind.__name__ == "EMAWeightAveraging" for kind in kinds)


def test_learned_projections_are_asked_for_by_flags() -> None:
    """Those of the head of the configuration."""
    flags = ["--model.attention=Sparsefinder", "--model.attention.mode=gather", "--model.attention.grouping=kmeans"]
    flags += ["--model.attention.shared=true", "--trainer.callbacks+=Projections", "--trainer.callbacks.path=a.ckpt"]
    cli = CLI([f"--config={ROOT / 'configs/prior.yaml'}", *flags, *QUIET], run=False)
    assert any(isinstance(each, Projections) for each in cli.trainer.callbacks)  # type: ignore[attr-defined]
