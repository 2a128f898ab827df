"""Look: the callbacks that fit a task, and a training that is as without them, resumed and on two processes."""

import re
from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import AttentionMaps, Look
from callbacks.look import LAYOUT
from datamodules import QueriesKeys
from tabattn.cli import main
from tabattn.sparsity.options import ClusterOptions
from tabattn.sparsity.task import SparsefinderProjections
from tests.callbacks.test_calibration import Predicting
from tests.callbacks.test_divergence import NETWORK, QUIET, ROOT, TASKS
from tests.callbacks.tiny import TinyTask, board, fit, loader, trainer
from tests.sparsity.recorded import file
from tests.training import test_ddp

COMMON = {"AttentionMaps", "HeadSimilarity", "Embeddings", "Weights", "Throughput", "HParams", "Provenance"}
ALL = COMMON | {"Calibration", "PrecisionRecall", "PredictionPlots", "OutputCurves", "Trajectories", "TaskExamples"}
FITTING = {
    "prior": COMMON | {"Calibration", "PrecisionRecall"},
    "pairs": COMMON | {"Calibration", "Trajectories", "TaskExamples"},
    "reconstruction": COMMON | {"Calibration", "PrecisionRecall", "PredictionPlots"},
    "zoo": COMMON | {"OutputCurves"},
}
STEPS = ["--trainer.max_steps=4", "--data.steps_per_epoch=2", "--trainer.check_val_every_n_epoch=1"]


def names(run: object) -> set[str]:
    return {type(each).__name__ for each in run.callbacks} & ALL  # type: ignore[attr-defined]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_gets_the_callbacks_that_fit_it(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")
    config = f"--config={ROOT / 'configs' / f'{task}.yaml'}"
    small = ["--run.version=a", "--run.name=x", "--trainer.log_every_n_steps=1", *QUIET, *STEPS, *NETWORK, *TASKS[task]]
    assert main(["fit", config, *small, "--trainer.callbacks+=Look"]) == 0
    said = [line for line in caplog.messages if "Look: left out" in line]
    assert len(said) == 1
    left = set(said[0].rpartition(": ")[2].split(", "))
    assert left == ALL - FITTING[task]
    events = EventAccumulator(str(tmp_path / "runs" / "x" / "a")).Reload()
    tags = events.Tags()
    assert {"best/val/loss", "heads"} - set(tags["scalars"]) == {"heads"} or any(
        "best/" in tag for tag in tags["scalars"]
    )
    assert any(tag.startswith("heads/") for tag in tags["images"])
    assert ("calibration/calibration" in tags["images"]) == ("Calibration" in FITTING[task])
    assert any(tag.startswith("precision_recall/") for tag in tags["images"]) == ("PrecisionRecall" in FITTING[task])
    assert "run/data/text_summary" in tags["tensors"]


def test_training_is_bit_identical_and_options_given_by_themselves_stay(tmp_path: Path) -> None:
    plain, looking = TinyTask(), Predicting()
    looking.load_state_dict(plain.state_dict())
    torch.manual_seed(1)
    fit(tmp_path / "plain", plain)
    torch.manual_seed(1)
    own = AttentionMaps(items=1, layers=r"blocks\.0")
    run = fit(tmp_path, looking, Look(weights_every=2), own)
    assert looking.losses == plain.losses
    assert names(run) == COMMON | {"Calibration", "PrecisionRecall"}
    assert sum(type(each) is AttentionMaps for each in run.callbacks) == 1  # type: ignore[attr-defined]
    tags = board(tmp_path).Tags()
    assert "attention/blocks.1.mechanism" not in tags["images"]
    assert "custom_scalars__config__" in tags["tensors"]


def test_a_second_run_of_a_trainer_has_each_callback_once(tmp_path: Path) -> None:
    run = trainer(tmp_path, [Look()])
    task = Predicting()
    run.test(task, loader(2), verbose=False)
    run.fit(task, loader(3), loader(2))
    kinds = [type(each).__name__ for each in run.callbacks]  # type: ignore[attr-defined]
    assert len(kinds) == len(set(kinds))
    assert names(run) == COMMON | {"Calibration", "PrecisionRecall"}


def test_the_charts_are_of_tags_that_there_are(tmp_path: Path) -> None:
    fit(tmp_path, Predicting(), Look())
    tags = board(tmp_path).Tags()["scalars"]
    for chart, title in (("speed", "items per second"), ("attention", "entropy, nats"), ("quality", "validation")):
        (expression,) = LAYOUT[chart][title][1]
        assert any(re.match(str(expression), tag) for tag in tags), title


def test_names_of_callbacks_can_be_left_out(tmp_path: Path) -> None:
    run = fit(tmp_path, TinyTask(), Look(without=["Embeddings", "Weights"]))
    assert names(run) == COMMON - {"Embeddings", "Weights"}
    with pytest.raises(ValueError, match=r"without must name some of AttentionMaps, .*, got 'Nothing'"):
        Look(without=["Nothing"])
    with pytest.raises(MisconfigurationException, match="Look draws on TensorBoard"):
        trainer(tmp_path, [Look()], logger=False).fit(TinyTask(), loader(1), loader(1))


def test_a_resumed_run_is_that_without_a_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = f"--config={ROOT / 'configs' / 'prior.yaml'}"
    common = ["fit", config, "--run.name=x", *QUIET, *NETWORK, *TASKS["prior"], "--data.steps_per_epoch=2"]
    common += ["--trainer.check_val_every_n_epoch=1", "--trainer.log_every_n_steps=1"]
    look = "--trainer.callbacks+=Look"
    # The schedule reaches over 4 steps in each run.
    schedule = "--lr_scheduler=null"
    assert main([*common, schedule, "--trainer.max_steps=4", "--run.version=plain"]) == 0
    assert main([*common, schedule, "--trainer.max_steps=2", "--run.version=broken", look]) == 0
    last = f"--ckpt_path={tmp_path / 'runs/x/broken/checkpoints/last.ckpt'}"
    assert main([*common, schedule, "--trainer.max_steps=4", "--run.version=broken", look, last]) == 0
    one, other = (
        torch.load(tmp_path / "runs/x" / version / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for version in ("plain", "broken")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_two_processes_train_as_without_and_the_first_draws(tmp_path: Path) -> None:
    folders = []
    steps = ["--trainer.max_steps=4", "--trainer.check_val_every_n_epoch=1", "--trainer.log_every_n_steps=1"]
    for name, flags in (("plain", []), ("looking", ["--trainer.callbacks+=Look", "--trainer.callbacks.every=2"])):
        (tmp_path / name).mkdir()
        folders.append(test_ddp.run(tmp_path / name, "fit", *steps, *flags, *test_ddp.TWO))
    plain, looking = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in folders
    )
    assert all(torch.equal(plain[name], looking[name]) for name in plain)
    assert len(list(folders[1].glob("events.out.*"))) == 1
    assert (folders[1] / "provenance.json").exists()
    (pictures,) = (folders[1] / "figures").iterdir()
    assert {path.name for path in pictures.iterdir()} >= {"calibration.png", "head_similarity.png", "curves_iris.png"}


def test_a_task_without_attention_gets_the_rest(tmp_path: Path) -> None:
    task = TinyTask()
    task.blocks = torch.nn.ModuleList()
    assert names(fit(tmp_path, task, Look())) == {"Weights", "Throughput", "HParams", "Provenance"}


def test_projections_of_sparse_graphs_get_what_fits_them(tmp_path: Path) -> None:
    task = SparsefinderProjections(3, clusters=ClusterOptions(clusters=3))
    run = trainer(tmp_path, [Look()], max_epochs=1)
    run.fit(task, QueriesKeys(file(tmp_path), 3))
    assert names(run) == {"Weights", "Throughput", "HParams", "Provenance"}
