"""Signals: the state is saved at once, and the resumed run equals an uninterrupted one."""

import contextlib
import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from tabattn.training.cli import main
from tabattn.training.signals import SIGNALS, Interrupted, Watch, lost_worker
from tests.training.test_cli import FIT, TEST, MeanTask  # noqa: F401

ROOT = Path(__file__).parents[2]
STEPS = [*FIT, "--trainer.max_epochs=3", "--lr_scheduler=null", "--trainer.num_sanity_val_steps=1"]
LAST = "runs/tiny/Softmax/version_0/checkpoints/last.ckpt"
LOST = (
    r"^error: (loader worker \d+ (was killed by signal Killed|ended unexpectedly)|a loader worker ended unexpectedly)"
)
"""The line about a lost worker: how much is known of it depends on who notices first."""


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


class Kill(Callback):
    """Sends this process a signal.

    Args:
        hook: Where.
        after: Steps before.
        number: The signal.
        batch: Batch of an evaluation in which to send it.
    """

    def __init__(self, hook: str, after: int = 0, number: int = 15, batch: int | None = None) -> None:
        self.after = after
        self.batch = batch
        self.number = number
        setattr(self, hook, self._send)

    def _send(self, trainer: Any, module: Any, *rest: Any, **_: Any) -> None:
        if trainer.global_step == self.after if self.batch is None else rest[1] == self.batch:
            os.kill(os.getpid(), self.number)


def killed(hook: str, after: int, number: int = signal.SIGTERM) -> list[str]:
    name = "--trainer.callbacks"
    return [*STEPS, f"{name}+=Kill", f"{name}.hook={hook}", f"{name}.after={after}", f"{name}.number={int(number)}"]


def saved(version: int) -> dict[str, Any]:
    path = f"runs/tiny/Softmax/version_{version}/checkpoints/last.ckpt"
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


@pytest.mark.parametrize(
    ("hook", "after", "step"),
    [
        ("on_train_batch_start", 0, 1),
        ("on_before_optimizer_step", 1, 2),
        ("on_train_batch_start", 2, 3),
        ("on_validation_batch_start", 3, 3),
        ("on_validation_end", 3, 3),
        ("on_train_epoch_start", 3, 4),
        ("on_train_batch_end", 4, 4),
    ],
)
def test_saved_at_once_and_resumed_as_if_never_stopped(
    capsys: pytest.CaptureFixture[str], hook: str, after: int, step: int
) -> None:
    """Also in the first epoch, in validation, and at the end of an epoch."""
    assert main(killed(hook, after)) == 143
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("SIGTERM")]
    assert re.fullmatch(rf"SIGTERM: saved \S*{LAST} at step {step}; to go on: python \S.* fit .* --ckpt_path=\S+", line)
    assert saved(0)["global_step"] == step
    if step % 3:
        return  # This task's loader cannot go on within an epoch; those that can are tested as resumed runs.
    assert main([*STEPS, f"--ckpt_path={LAST}"]) == 0
    assert main(STEPS) == 0
    for name, weight in saved(2)["state_dict"].items():
        assert torch.equal(saved(1)["state_dict"][name], weight)
    tables = []
    for version in (1, 2):
        with Path(f"runs/tiny/Softmax/version_{version}/metrics.csv").open() as file:
            tables.append([row for row in csv.DictReader(file) if int(row["step"]) >= step - (hook[3:6] == "val")])
    assert [(row["step"], row["train/loss"]) for row in tables[0] if row["train/loss"]] == [
        (row["step"], row["train/loss"]) for row in tables[1] if row["train/loss"] and int(row["step"]) >= step
    ]
    if hook == "on_validation_batch_start":
        assert [row["val/loss"] for row in tables[0] if row["val/loss"]] == [
            row["val/loss"] for row in tables[1] if row["val/loss"]
        ]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGTERM, 143)])
def test_each_signal_has_its_status(number: int, status: int) -> None:
    # Whoever started the tests may have it ignored, as nohup does with SIGHUP: a run would keep to that.
    was = signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    try:
        found = main(killed("on_train_batch_start", 1, number))
    finally:
        signal.signal(number, was)
    assert found == status
    assert saved(0)["global_step"] == 2


@pytest.mark.parametrize("hook", ["on_sanity_check_start", "on_fit_start"])
def test_before_the_first_step_there_is_nothing_to_save(capsys: pytest.CaptureFixture[str], hook: str) -> None:
    assert main(killed(hook, 0)) == 143
    assert "SIGTERM: stopped outside of training, there is nothing to save\n" in capsys.readouterr().err
    assert not Path(LAST).exists()


def test_an_exception_never_overwrites_the_best() -> None:
    """The best has been validated, the step of an exception has not."""
    flags = ["--checkpoint.save_on_exception=true", "--trainer.callbacks+=Trouble", "--trainer.callbacks.kind=fault"]
    with pytest.raises(RuntimeError, match="a fault of the program"):
        main([*STEPS, *flags])
    assert not list(Path("runs").rglob("best.ckpt"))
    main(STEPS)
    best = Path("runs/tiny/Softmax/version_1/checkpoints/best.ckpt")
    with pytest.raises(RuntimeError, match="a fault of the program"):
        main([*STEPS, *flags, f"--ckpt_path={best}", "--trainer.max_epochs=4"])
    folder = Path("runs/tiny/Softmax/version_2/checkpoints")
    assert [path.name for path in folder.iterdir()] == ["exception.ckpt"]


def test_a_second_signal_exits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    watch = Watch()
    watch.waits = True
    watch._handle(signal.SIGINT, None)
    watch._handle(signal.SIGTERM, None)
    assert (watch.number, left) == (signal.SIGINT, [])
    watch._since -= 1
    watch._handle(signal.SIGTERM, None)
    assert left == [143]
    with pytest.raises(Interrupted):
        Watch()._handle(signal.SIGINT, None)


def test_a_run_takes_the_signals_and_gives_them_back() -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    watch = Watch()
    watch.number = signal.SIGINT
    with watch.watching():
        assert watch.number is None
        with pytest.raises(Interrupted, match="SIGTERM received"):
            os.kill(os.getpid(), signal.SIGTERM)
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


@pytest.mark.parametrize("takes", [False, True])
def test_a_forked_process_is_ended_by_a_signal_and_can_have_a_run_of_its_own(takes: bool) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    watch = Watch()
    with watch.watching():
        child = os.fork()
        if not child:
            with contextlib.suppress(Interrupted):
                if takes:
                    watch.install()
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(1)
            os._exit(7)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (7 if takes else -signal.SIGTERM)


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGTERM, 143)])
def test_a_signal_outside_of_training(
    command: str, number: int, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is acted on at once, with one line, and files are whole."""
    main(STEPS)
    kind = {"validate": "validation"}.get(command, command)
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    name = "--trainer.callbacks"
    kill = [f"{name}+=Kill", f"{name}.hook=on_{kind}_batch_start", f"{name}.batch=1", f"{name}.number={int(number)}"]
    flags = [flag for flag in TEST[1:] if not flag.startswith("--ckpt_path")]
    capsys.readouterr()
    assert main([command, *flags, *kill, f"--ckpt_path={LAST}", "--run.version=seen"]) == status
    said = capsys.readouterr().err
    name = signal.Signals(number).name
    assert [line for line in said.splitlines() if "SIG" in line or "rror" in line or "Traceback" in line] == [
        f"{name}: stopped outside of training, there is nothing to save"
    ]
    folder = Path("runs/tiny/Softmax/seen")
    assert not list(folder.rglob("*.partial"))
    found = sorted(path.name for path in folder.rglob("*.npz"))
    assert found == (["batch00000.npz"] if command == "predict" else [])
    for path in folder.rglob("*.npz"):
        assert np.load(path)["prediction"].shape == (2, 5, 4)


@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_sanity_check_start"])
def test_a_signal_before_training(hook: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(killed(hook, 0)) == 143
    said = capsys.readouterr().err
    assert said.count("SIGTERM: stopped outside of training, there is nothing to save\n") == 1
    assert "Traceback" not in said


def test_a_signal_while_the_command_line_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tabattn.training.cli.CLI", lambda args, **_: os.kill(os.getpid(), signal.SIGTERM))
    assert main(STEPS) == 143
    assert capsys.readouterr().err == "SIGTERM: stopped outside of training, there is nothing to save\n"


def test_a_hang_up_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    watch = Watch()
    watch.install()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) == watch._handle


def test_a_lost_worker_is_one_line() -> None:
    killed = RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")
    gone = RuntimeError("DataLoader worker (pid(s) 3, 4) exited unexpectedly")
    assert "loader worker 12 was killed by signal Killed" in str(lost_worker(killed))
    assert "loader worker 3, 4 ended unexpectedly" in str(lost_worker(gone))
    assert lost_worker(RuntimeError("other")) is None


PAIRS = ["fit", "--config", str(ROOT / "configs" / "pairs.yaml"), "--model.network.dim=16", "--model.network.heads=2"]
PAIRS += [
    "--model.network.hidden=16",
    "--model.network.layers=1",
    "--data.points=[8,8]",
    "--data.context=3",
    "--data.batch_size=2",
]
PAIRS += [
    "--data.steps_per_epoch=100000",
    "--data.evaluation.val_batches=1",
    "--lr_scheduler=null",
    "--trainer.accelerator=cpu",
]
PAIRS += ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]


def started(*flags: str) -> "subprocess.Popen[str]":
    """A training in a process group of its own, some steps after its start."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    call = [sys.executable, str(ROOT / "train.py"), *PAIRS, "--run.version=one", *flags]
    # Tests that run under nohup inherit an ignored SIGHUP.
    run = subprocess.Popen(
        call,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    for _ in range(1500):
        table = next(Path("runs").rglob("metrics.csv"), None)
        if table is not None and len(table.read_text().splitlines()) > 5:
            return run
        assert run.poll() is None, run.stderr and run.stderr.read()
        time.sleep(0.1)
    raise AssertionError("the training did not start")


def ended(run: "subprocess.Popen[str]") -> str:
    _, err = run.communicate(timeout=120)
    assert "Traceback" not in err, err[-3000:]
    return err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_to_the_group_with_workers(number: int, status: int) -> None:
    run = started("--data.num_workers=2")
    os.killpg(run.pid, number)
    err = ended(run)
    assert run.returncode == status
    (path,) = Path("runs").rglob("last.ckpt")
    assert f"at step {torch.load(path, weights_only=True)['global_step']}; to go on: " in err


@pytest.mark.slow
def test_a_killed_worker_is_one_line() -> None:
    run = started("--data.num_workers=2")
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    err = ended(run)
    assert run.returncode == 3
    assert re.search(LOST, err, re.M)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_worker_of_one_process_ends_all(rank: int) -> None:
    run = started("--trainer.strategy=ddp", "--trainer.devices=2", "--data.num_workers=1")
    second = next(child for child in _children(run.pid) if _ranked(child))
    own = [child for child in _children((run.pid, second)[rank]) if child != second]
    os.kill(own[-1], signal.SIGKILL)
    err = ended(run)
    assert run.returncode == 3
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert re.match(LOST, line)


def _children(number: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def _ranked(number: int) -> bool:
    """Whether a process was started as the second rank, not forked."""
    return b"LOCAL_RANK=1" in Path(f"/proc/{number}/environ").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["first", "second", "all"])
def test_all_processes_save_one_checkpoint(whom: str) -> None:
    run = started("--trainer.strategy=ddp", "--trainer.devices=2", "--data.num_workers=0")
    if whom == "all":
        os.killpg(run.pid, signal.SIGTERM)
    else:
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        os.kill(run.pid if whom == "first" else int(children[0]), signal.SIGTERM)
    err = ended(run)
    assert run.returncode == 143
    (path,) = Path("runs").rglob("last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    assert err.count(f"at step {checkpoint['global_step']}; to go on: ") == 1
    assert len(checkpoint["random_states"]) == 2
