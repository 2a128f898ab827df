"""Optimizer settings of a resumed run: flags win, are printed and are saved."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

import datamodules  # noqa: F401
import tabattn.tasks  # noqa: F401
from tabattn.optim import MuonAdamW, WarmupCosine
from tabattn.optim.settings import KEY
from tabattn.training.cli import CLI, main
from tests.training.test_from_python import pairs, sequences, trainer

FIT = ["fit", "--model=MeanTask", "--data=MeanData", "--trainer.enable_progress_bar=false"]
FIT += ["--trainer.enable_model_summary=false", "--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1"]
FIRST = [*FIT, "--trainer.max_epochs=2"]
GO_ON = [*FIT, "--trainer.max_epochs=4", "--ckpt_path=runs/tiny/Softmax/version_0/checkpoints/last.ckpt"]
CONSTANT = ["--optimizer=AdamW", "--optimizer.lr=0.01", "--optimizer.weight_decay=0.1", "--lr_scheduler=null"]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)


def group_of(cli: CLI) -> dict[str, Any]:
    (optimizer,) = cli.trainer.optimizers
    return optimizer.param_groups[0]


def written(cli: CLI) -> Any:
    assert cli.trainer.log_dir is not None
    return yaml.safe_load(Path(cli.trainer.log_dir, "config.yaml").read_text())


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was printed of the optimizer and the schedule."""
    texts = [record.getMessage() for record in caplog.records]
    return [text for text in texts if "checkpoint:" in text or "of the checkpoint" in text]


def test_flags_win_over_the_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    main([*FIRST, *CONSTANT])
    flags = ["--optimizer.lr=0.001", "--optimizer.betas=[0.8,0.9]"]
    cli = CLI([*GO_ON, *CONSTANT, *flags])
    assert cli.trainer.global_step == 12
    group = group_of(cli)
    assert (group["lr"], tuple(group["betas"]), group["weight_decay"]) == (0.001, (0.8, 0.9), 0.1)
    assert said(caplog) == [
        "optimizer.lr: 0.001 (checkpoint: 0.01)",
        "optimizer.betas: (0.8, 0.9) (checkpoint: (0.9, 0.999))",
    ]
    arguments = written(cli)["optimizer"]["init_args"]
    assert (arguments["lr"], arguments["betas"], arguments["weight_decay"]) == (0.001, [0.8, 0.9], 0.1)
    path = Path(str(cli.trainer.log_dir), "checkpoints", "last.ckpt")
    (state,) = torch.load(path, weights_only=True)["optimizer_states"]
    assert {int(entry["step"]) for entry in state["state"].values()} == {12}, "the optimizer went on"


def test_settings_without_flags_are_those_of_the_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    """Also where the configuration, or nobody, says otherwise; and this is what is written down."""
    main([*FIRST, *CONSTANT])
    Path("other.yaml").write_text("optimizer: {class_path: AdamW, init_args: {lr: 0.5, weight_decay: 0.1}}\n")
    cli = CLI([*GO_ON, "--config=other.yaml"])
    assert group_of(cli)["lr"] == 0.01
    assert cli.trainer.lr_scheduler_configs == []
    assert said(caplog) == ["optimizer.lr of the checkpoint: 0.01 (configuration: 0.5)"]
    config = written(cli)
    assert (config["optimizer"]["init_args"]["lr"], config["lr_scheduler"]) == (0.01, None)


def test_nothing_is_printed_where_nothing_changes(caplog: pytest.LogCaptureFixture) -> None:
    main([*FIRST, "--optimizer.lr=0.01"])
    main([*GO_ON, "--optimizer.lr=0.01"])
    main([*GO_ON, "--optimizer=AdamW", "--lr_scheduler=tabattn.optim.WarmupCosine", "--optimizer.lr=1e-2"])
    main([*GO_ON, "--config=runs/tiny/Softmax/version_0/config.yaml"])
    assert said(caplog) == []


@pytest.mark.parametrize(
    ("flags", "there"), [(["--optimizer=SGD"], ""), (["--config=other.yaml"], "optimizer: {class_path: SGD}")]
)
def test_another_class_of_optimizer_is_refused(flags: list[str], there: str, capfd: Any) -> None:
    main(FIRST)
    Path("other.yaml").write_text(there)
    with pytest.raises(SystemExit) as left:
        main([*GO_ON, *flags])
    assert left.value.code == 2
    text = capfd.readouterr().err.strip().splitlines()[-1]
    assert text.startswith(
        "error: ckpt_path: the checkpoint's optimizer is AdamW, the command line's SGD: a training goes"
    )
    assert not Path("runs/tiny/Softmax/version_1").exists()


def test_the_class_of_the_checkpoint_is_taken_where_none_is_asked_for() -> None:
    main([*FIRST, "--optimizer=SGD", "--optimizer.lr=0.5"])
    cli = CLI(GO_ON)
    assert type(cli.trainer.optimizers[0]) is SGD
    assert group_of(cli)["initial_lr"] == 0.5
    assert written(cli)["optimizer"]["class_path"] == "torch.optim.SGD"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (["--lr_scheduler=StepLR", "--lr_scheduler.step_size=5"], ["--lr_scheduler.step_size=2"]),
        (["--lr_scheduler=StepLR", "--lr_scheduler.step_size=5"], ["--optimizer.lr=0.5"]),
        (["--lr_scheduler=null"], ["--lr_scheduler=StepLR", "--lr_scheduler.step_size=5"]),
        (["--lr_scheduler.total_steps=12"], ["--lr_scheduler.total_steps=12", "--optimizer.lr=0.5"]),
        (["--lr_scheduler.total_steps=12"], ["--lr_scheduler=StepLR", "--lr_scheduler.step_size=5"]),
        (["--lr_scheduler=StepLR", "--lr_scheduler.step_size=5"], ["--lr_scheduler=null"]),
        (["--lr_scheduler=CosineAnnealingLR", "--lr_scheduler.T_max=30"], ["--lr_scheduler.T_max=12"]),
    ],
)
def test_a_changed_schedule_is_as_if_it_had_always_held(first: list[str], then: list[str]) -> None:
    def rates(flags: list[str]) -> list[float]:
        cli = CLI([*flags, "--trainer.callbacks+=LearningRateMonitor", "--trainer.callbacks.logging_interval=step"])
        import csv

        with Path(str(cli.trainer.log_dir), "metrics.csv").open() as file:
            return [float(v) for row in csv.DictReader(file) for k, v in row.items() if k.startswith("lr-") and v]

    sgd = ["--optimizer=SGD", "--optimizer.lr=0.1"]
    main([*FIRST, *sgd, *first])
    always = rates([*FIT, *sgd, "--trainer.max_epochs=4", *first, *then])
    assert len(always) == 12
    assert rates([*GO_ON, *sgd, *first, *then]) == pytest.approx(always[6:])


def test_a_plateau_schedule_keeps_its_record() -> None:
    plateau = ["--lr_scheduler=ReduceLROnPlateau", "--lr_scheduler.monitor=val/loss", "--lr_scheduler.patience=0"]
    plateau += ["--lr_scheduler.threshold=0.99", "--lr_scheduler.factor=0.5"]
    sgd = ["--optimizer=SGD", "--optimizer.lr=0.1"]
    main([*FIRST, *sgd, *plateau])
    same = group_of(CLI([*GO_ON, *sgd, *plateau]))["lr"]
    assert same == pytest.approx(0.025)
    assert group_of(CLI([*GO_ON, *sgd, *plateau, "--optimizer.lr=0.2"]))["lr"] == pytest.approx(2 * same)
    assert group_of(CLI([*GO_ON, *sgd, *plateau, "--lr_scheduler.factor=0.1"]))["lr"] == pytest.approx(0.001)


def without_record() -> None:
    path = Path("runs/tiny/Softmax/version_0/checkpoints/last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint[KEY]
    torch.save(checkpoint, path)


def test_a_checkpoint_that_does_not_tell_keeps_its_settings(caplog: pytest.LogCaptureFixture) -> None:
    """As those of earlier versions."""
    main([*FIRST, *CONSTANT])
    without_record()
    cli = CLI([*GO_ON, "--lr_scheduler=null", "--optimizer.weight_decay=0.1"])
    assert group_of(cli)["lr"] == 0.01
    assert written(cli)["optimizer"]["init_args"]["lr"] == 0.01
    assert said(caplog) == ["optimizer.lr of the checkpoint: 0.01 (configuration: 0.001)"]
    cli = CLI([*GO_ON, "--lr_scheduler=null", "--optimizer.lr=0.5"])
    assert group_of(cli)["lr"] == 0.5
    assert main([*GO_ON, "--optimizer=SGD"]) == 2


def test_damaged_settings_are_one_line(capfd: Any) -> None:
    main(FIRST)
    path = Path("runs/tiny/Softmax/version_0/checkpoints/last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    whole = checkpoint[KEY]
    for bad in (
        [],
        {"described": 3},
        {**whole, "described": {"optimizer": {"class_path": "os.system"}}},
        {**whole, "described": {"optimizer": {"class_path": "torch.nn.Linear", "init_args": {}}}},
        {**whole, "built": 5},
        {**whole, "built": [{"class": 3}]},
        {**whole, "built": []},
    ):
        torch.save({**checkpoint, KEY: bad}, path)
        assert main(GO_ON) == 3, bad
        assert capfd.readouterr().err.strip().splitlines()[-1].startswith("error: ")


def test_every_group_of_muon_takes_its_rate() -> None:
    flags = [
        "--optimizer=tabattn.optim.MuonAdamW",
        "--optimizer.lr=0.1",
        "--optimizer.smallest=4",
        "--lr_scheduler=null",
    ]
    main([*FIRST, *flags])
    (optimizer,) = CLI([*GO_ON, *flags, "--optimizer.adamw_lr=0.5"]).trainer.optimizers
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5]


def test_from_python_what_is_asked_for_wins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begun = trainer(tmp_path, max_steps=2, limit_val_batches=0)
    begun.fit(pairs().use_optimizer(partial(AdamW, lr=0.01), lr_scheduler=None), sequences())
    begun.save_checkpoint(tmp_path / "kept.ckpt")

    def resumed(task: Any) -> Any:
        run = trainer(tmp_path, max_steps=4, limit_val_batches=0)
        run.fit(task, sequences(), ckpt_path=tmp_path / "kept.ckpt", weights_only=True)
        return run.optimizers[0]

    optimizer = resumed(pairs().use_optimizer(partial(AdamW, lr=0.5, weight_decay=0.3), lr_scheduler=None))
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (0.5, 0.3)
    assert said(caplog) == ["AdamW goes on with lr 0.5 (checkpoint: 0.01), weight_decay 0.3 (checkpoint: 0.01)"]
    with pytest.raises(Exception, match="the checkpoint's optimizer is one of AdamW, this run's MuonAdamW"):
        resumed(pairs())
    schedule = partial(StepLR, step_size=1, gamma=0.5)
    optimizer = resumed(pairs().use_optimizer(partial(AdamW, lr=0.01), schedule))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 / 16)


def test_defaults_from_python_yield_to_the_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begun = trainer(tmp_path, max_steps=2, limit_val_batches=0)
    begun.fit(pairs().use_optimizer(partial(MuonAdamW, lr=0.5), partial(WarmupCosine, total_steps=9)), sequences())
    begun.save_checkpoint(tmp_path / "kept.ckpt")
    run = trainer(tmp_path, max_steps=4, limit_val_batches=0)
    run.fit(pairs(), sequences(), ckpt_path=tmp_path / "kept.ckpt", weights_only=True)
    assert run.optimizers[0].param_groups[0]["initial_lr"] == 0.5
    assert said(caplog) == [
        "MuonAdamW goes on with lr 0.5 of the checkpoint (default: 0.005), lr of group 1 0.003 of the checkpoint "
        "(default: 0.002), schedule WarmupCosine of the checkpoint (default: WarmupCosine)"
    ]


def test_a_training_from_python_goes_on_by_the_command_line(tmp_path: Path) -> None:
    begun = trainer(tmp_path, max_steps=2, limit_val_batches=0)
    task = pairs().use_optimizer(partial(AdamW, lr=0.01), partial(CosineAnnealingLR, T_max=7))
    begun.fit(task, sequences())
    begun.save_checkpoint(tmp_path / "kept.ckpt")
    flags = ["fit", "--model=PairInference", "--data=SyntheticPairs", "--data.points=[8,8]", "--data.context=3"]
    flags += [
        "--data.batch_size=2",
        "--trainer.max_steps=3",
        "--trainer.accelerator=cpu",
        f"--ckpt_path={tmp_path}/kept.ckpt",
    ]
    cli = CLI([*flags, "--trainer.limit_val_batches=0"])
    config = written(cli)
    assert config["optimizer"]["init_args"]["lr"] == 0.01
    assert config["lr_scheduler"]["init_args"]["T_max"] == 7
    assert cli.trainer.lr_scheduler_configs[0].scheduler.last_epoch == 3
