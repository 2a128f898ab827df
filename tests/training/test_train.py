"""Every mechanism: fit and test from the command line."""

import shutil
from pathlib import Path

import pytest

import callbacks  # noqa: F401  (makes the names of the commands known)
import datamodules  # noqa: F401
import tabattn.tasks  # noqa: F401
from tabattn.attention import MECHANISMS
from tabattn.training.cli import main

CONFIG = str(Path(__file__).parents[2] / "configs" / "prior.yaml")
SMALL = [
    "--model.network.dim=16",
    "--model.network.hidden=16",
    "--data.batch_size=2",
    "--data.rows=[20,30]",
    "--data.tables=[sklearn:iris]",
    "--data.evaluation.folds=2",
    "--data.num_workers=0",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.num_sanity_val_steps=0",
]


FAST = {"Softmax", "Nystrom", "Pooling", "TopK"}
"""Mechanisms whose run through the command line is no slow test."""


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[pytest.mark.slow] * (each not in FAST)) for each in MECHANISMS]
)
def test_fit_then_test_by_one_flag(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [f"--model.attention={name}", "--data.steps_per_epoch=3", "--trainer.max_steps=3"]
    assert main(["fit", "--config", CONFIG, *SMALL, *flags, "--trainer.check_val_every_n_epoch=1"]) == 0
    run = tmp_path / "runs" / "prior" / name / "version_0"
    assert {"config.yaml", "metrics.csv", "checkpoints"} <= {p.name for p in run.iterdir()}
    assert "class_path: tabattn.tasks.PriorClassification\n" in (run / "config.yaml").read_text()
    checkpoint = run / "checkpoints" / "last.ckpt"
    assert main(["test", "--config", str(run / "config.yaml"), "--ckpt_path", str(checkpoint)]) == 0
    assert "test/iris/auroc" in (run / "test_0" / "metrics.csv").read_text()


def test_a_trained_network_takes_another_mechanism(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--ckpt_path`` refuses another mechanism; ``--model.init_from`` really swaps it."""
    monkeypatch.chdir(tmp_path)
    every = ["--data.steps_per_epoch=2", "--trainer.max_steps=2", "--trainer.check_val_every_n_epoch=1"]
    looks = ["--trainer.callbacks+=AttentionMaps", "--trainer.callbacks+=Embeddings"]
    assert main(["fit", "--config", CONFIG, *SMALL, *every, *looks]) == 0
    assert Path("runs/prior/Softmax/version_0/projector_config.pbtxt").exists()
    checkpoint = "runs/prior/Softmax/version_0/checkpoints/last.ckpt"
    swapped = ["test", "--config", CONFIG, *SMALL, "--model.attention=Entmax"]
    with pytest.raises(SystemExit) as refused:
        main([*swapped, f"--ckpt_path={checkpoint}"])
    assert refused.value.code == 2
    assert main([*swapped, f"--model.init_from={checkpoint}"]) == 0
    assert (tmp_path / "runs/prior/Entmax/test_0/metrics.csv").exists()


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a training of two steps."""
    folder = tmp_path_factory.mktemp("once")
    every = ["--data.steps_per_epoch=2", "--trainer.max_steps=2", "--trainer.check_val_every_n_epoch=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "--config", CONFIG, *SMALL, *every]) == 0
    return folder / "runs"


@pytest.fixture
def trained(once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The checkpoint of a training of two steps, in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(once, tmp_path / "runs")
    return "runs/prior/Softmax/version_0/checkpoints/last.ckpt"


@pytest.mark.parametrize("subcommand", ["fit", "test"])
def test_weights_come_from_one_place(subcommand: str, trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    both = [f"--ckpt_path={trained}", "--model.init_from", trained]
    with pytest.raises(SystemExit) as refused:
        main([subcommand, "--config", CONFIG, *SMALL, *both])
    assert refused.value.code == 2
    assert "none would be left of --model.init_from: give only one of the two" in capsys.readouterr().err


def test_a_checkpoint_goes_before_what_its_run_began_with(trained: str, caplog: pytest.LogCaptureFixture) -> None:
    """Also where that is gone by now."""
    config = Path("again.yaml")
    config.write_text("model: {init_args: {init_from: gone.ckpt}}\n")
    assert main(["test", "--config", CONFIG, "--config", str(config), *SMALL, f"--ckpt_path={trained}"]) == 0
    assert "init_from of the configuration is left aside for the weights of ckpt_path: gone.ckpt" in caplog.text
