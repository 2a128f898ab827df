"""Runs of a tiny task from the command line: objects, files and exit statuses."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tabattn.attention import Softmax
from tabattn.training.cli import CLI, main
from tests.helpers import Far, MeanTask, Near

TINY = ["--model=MeanTask", "--data=MeanData"]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
FIT = ["fit", *TINY, *QUIET, "--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1"]
TEST = ["test", *TINY, *QUIET, "--trainer.accelerator=cpu"]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def build(*arguments: str) -> CLI:
    return CLI([*TINY, "--trainer.accelerator=cpu", *arguments], run=False)


def model_of(cli: CLI) -> MeanTask:
    assert isinstance(cli.model, MeanTask)
    return cli.model


def files(folder: str) -> set[str]:
    return {str(path.relative_to(folder)).split(".out")[0] for path in Path(folder).rglob("*") if path.is_file()}


def test_attention_by_a_flag() -> None:
    assert isinstance(model_of(build()).mix.mechanism, Softmax)
    mechanism = model_of(build("--model.attention=Near", "--model.attention.window=3")).mix.mechanism
    assert isinstance(mechanism, Near)
    assert mechanism.window == 3


def test_attention_from_a_fragment(tmp_path: Path) -> None:
    fragment = tmp_path / "near.yaml"
    fragment.write_text("class_path: Near\ninit_args: {window: 3, sharp: 2.0}\n")
    mechanism = model_of(build(f"--model.attention={fragment}")).mix.mechanism
    assert isinstance(mechanism, Near)
    assert (mechanism.window, mechanism.sharp) == (3, 2.0)


def test_changing_the_class_keeps_arguments_of_the_same_name(tmp_path: Path) -> None:
    config = tmp_path / "near.yaml"
    config.write_text("model: {init_args: {attention: {class_path: Near, init_args: {window: 2, sharp: 3.0}}}}\n")
    with pytest.warns(UserWarning, match=r"Far takes no sharp=3\.0, which was given for Near: left out"):
        mechanism = model_of(build(f"--config={config}", "--model.attention=Far")).mix.mechanism
    assert isinstance(mechanism, Far)
    assert mechanism.window == 2


def test_structured_arguments() -> None:
    arguments: dict[str, Any] = {
        "model": {"class_path": "MeanTask", "init_args": {"attention": {"class_path": "Far"}}},
        "data": {"class_path": "MeanData"},
    }
    assert isinstance(model_of(CLI(arguments, run=False)).mix.mechanism, Far)


def test_arguments_of_the_process_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "--nonsense"])
    assert isinstance(model_of(build()), MeanTask)


def test_seeded_by_default() -> None:
    first, second, other = build(), build(), build("--seed_everything=1")
    weight = model_of(first).mix.qkv.weight
    assert torch.equal(weight, model_of(second).mix.qkv.weight)
    assert not torch.equal(weight, model_of(other).mix.qkv.weight)


def test_run_folder() -> None:
    assert main(FIT) == 0
    folder = Path("runs/tiny/Softmax/version_0")
    assert files(str(folder)) == {
        "config.yaml",
        "hparams.yaml",
        "metrics.csv",
        "events",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["train/loss"]) for row in rows) == 6
    assert sum(bool(row["val/loss"]) for row in rows) == 2
    events = EventAccumulator(str(folder)).Reload()
    assert {"train/loss", "val/loss"} <= set(events.Tags()["scalars"])
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["init_args"]["attention"]["class_path"] == "tabattn.attention.Softmax"
    assert config["seed_everything"] == 0


def test_a_second_run_leaves_the_first_alone() -> None:
    main(FIT)
    first = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    main([*FIT, "--seed_everything=1"])
    main([*FIT, "--model.attention=Near"])
    assert all(path.read_bytes() == content for path, content in first.items())
    assert {str(path) for path in Path("runs").glob("*/*/*")} == {
        "runs/tiny/Softmax/version_0",
        "runs/tiny/Softmax/version_1",
        "runs/tiny/Near/version_0",
    }


def test_a_run_that_cannot_start_takes_no_folder() -> None:
    with pytest.raises(SystemExit):
        main([*FIT, "--trainer.devices=0"])
    build()
    assert not Path("runs").exists()


def test_run_folder_by_name() -> None:
    main([*FIT, "--run.root=out", "--run.name=sweep/a", "--run.version=seed_3"])
    assert (Path("out/sweep/a/seed_3") / "metrics.csv").is_file()
    assert not Path("runs").exists()


def test_no_logger_writes_no_log() -> None:
    main([*FIT, "--trainer.logger=false", "--trainer.enable_checkpointing=false"])
    assert files(".") == set()


def test_a_logger_of_the_user_is_kept() -> None:
    main([*FIT, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=mine", "--trainer.logger.name=run"])
    assert "run/version_0/metrics.csv" in files("mine")
    assert not Path("runs").exists()


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize("mode", ["fast_dev_run", "barebones"])
def test_runs_that_log_and_keep_nothing_leave_nothing(mode: str) -> None:
    flags = [
        flag for flag in FIT if mode == "fast_dev_run" or not flag.startswith(("--trainer.enable", "--trainer.log"))
    ]
    assert main([*flags, f"--trainer.{mode}=true"]) == 0
    assert files(".") == set()


def test_best_checkpoint_by_the_named_metric() -> None:
    cli = CLI([*FIT, "--checkpoint.monitor=val/loss", "--optimizer.lr=0.1", "--trainer.max_epochs=4"])
    table = next(logger for logger in cli.trainer.loggers if isinstance(logger, CSVLogger))
    with Path(table.log_dir, "metrics.csv").open() as file:
        losses = [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]
    best = torch.load(Path(table.log_dir, "checkpoints/best.ckpt"), weights_only=True)
    assert best["epoch"] == losses.index(min(losses))
    assert torch.load(Path(table.log_dir, "checkpoints/last.ckpt"), weights_only=True)["epoch"] == 3


@pytest.mark.parametrize("steps", [5, 6])
def test_the_last_checkpoint_is_the_last_though_nothing_improves(steps: int) -> None:
    """Also where the training stops within an epoch."""
    flags = ["--checkpoint.monitor=val/loss", "--checkpoint.mode=max", "--optimizer.lr=0.1"]
    cli = CLI([*FIT, *flags, f"--trainer.max_steps={steps}"])
    folder = Path(cli.trainer.loggers[0].log_dir, "checkpoints")
    assert torch.load(folder / "best.ckpt", weights_only=True)["epoch"] == 0
    last = torch.load(folder / "last.ckpt", weights_only=True)
    assert last["global_step"] == steps
    for name, weight in cli.model.state_dict().items():
        torch.testing.assert_close(last["state_dict"][name], weight, rtol=0, atol=0)


def test_resumed_equals_uninterrupted() -> None:
    flags = [*FIT, "--model.attention=Near", "--lr_scheduler.total_steps=6"]
    whole = CLI(flags).model
    main([*flags, "--trainer.max_epochs=1"])
    resumed = CLI([*flags, "--ckpt_path=runs/tiny/Near/version_1/checkpoints/last.ckpt"])
    assert resumed.trainer.current_epoch == 2
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], weight, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
def test_a_checkpoint_brings_its_model() -> None:
    main([*FIT, "--model.attention=Near", "--model.attention.window=3"])
    path = "runs/tiny/Near/version_0/checkpoints/last.ckpt"
    cli = CLI([*TEST, "--model.attention=Near", f"--ckpt_path={path}"])
    mechanism = model_of(cli).mix.mechanism
    assert isinstance(mechanism, Near)
    assert mechanism.window == 3
    assert isinstance(LightningModule.load_from_checkpoint(path, weights_only=True), MeanTask)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--model.attention=Far"], "model.attention"),
        (["--model.attention=Near", "--model.attention.window=2"], "model.attention.window"),
        (["--model.init_args.dim=8"], "model.dim"),
    ],
)
def test_a_checkpoint_never_overrules_a_flag(capsys: pytest.CaptureFixture[str], flags: list[str], names: str) -> None:
    main([*FIT, "--model.attention=Near", "--model.attention.window=3"])
    path = "runs/tiny/Near/version_0/checkpoints/last.ckpt"
    with pytest.raises(SystemExit) as leaving:
        main([*TEST, *flags, f"--ckpt_path={path}"])
    assert leaving.value.code == 2
    assert f"the checkpoint has another {names} than the command line" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 the start of one"])
def test_a_damaged_checkpoint(capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    Path("bad.ckpt").write_bytes(content)
    assert main([*TEST, "--ckpt_path=bad.ckpt"]) == 3
    assert "error: ckpt_path: bad.ckpt cannot be read as a checkpoint: " in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "status"), [("data", 3), ("interrupt", 130), ("terminate", 143)])
def test_status_of_a_run_that_ends_early(capsys: pytest.CaptureFixture[str], kind: str, status: int) -> None:
    assert main([*FIT, "--trainer.callbacks+=Trouble", f"--trainer.callbacks.kind={kind}"]) == status
    assert ("error: the table is empty\n" in capsys.readouterr().err) == (kind == "data")


def test_a_fault_while_running_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"^a fault of the program$"):
        main([*FIT, "--trainer.callbacks+=Trouble", "--trainer.callbacks.kind=fault"])
