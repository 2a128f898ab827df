"""Distributed runs in which one rank fails: the others end too, and one line tells why."""

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tabattn.contract.errors import DataError, DivergenceError
from tabattn.optim.divergence import INTERVAL, DivergenceGuard
from tabattn.training import processes
from tabattn.training.cli import CLI
from tabattn.training.processes import LOST, ProcessLost, Siblings, described, lost_connection, process_lost
from tabattn.training.status import status_of

ROOT = Path(__file__).parents[2]
CLOSED = RuntimeError("[.../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:31862")


def run_of(*commands: str, rank: int = 0) -> Any:
    """A stand-in for the trainer of a process that has started others, or was started."""
    children = [subprocess.Popen(["sh", "-c", command]) for command in commands]
    strategy = SimpleNamespace(launcher=SimpleNamespace(procs=children))
    return SimpleNamespace(strategy=strategy, world_size=2, global_rank=rank, local_rank=rank)


def told(lost: ProcessLost | None) -> int:
    """Status of a run whose process lost another one."""
    ex = RuntimeError(str(CLOSED))
    ex.__cause__ = lost
    return status_of(ex, None)


def test_the_status_of_the_process_that_failed_is_that_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Not that of one that lost it, nor of one that was ended for it."""
    trainer = run_of(f"exit {LOST}", "sleep 0.3; exit 3", "sleep 60")
    siblings = Siblings()
    lost = siblings.conclude(trainer, CLOSED, together=False)
    assert trainer.strategy.launcher.procs == [], "Lightning's observer would kill this process"
    assert [child.returncode for child in siblings.children] == [LOST, 3, -signal.SIGKILL]
    assert lost is not None
    assert told(lost) == 3
    assert capsys.readouterr().err == "", "the process that failed has told it"


def test_a_killed_process_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    lost = Siblings().conclude(run_of("kill -9 $$"), CLOSED, together=False)
    assert told(lost) == 3
    assert capsys.readouterr().err == ("error: process 1 of the run was killed by SIGKILL: often memory ran out\n")


def test_an_error_of_ones_own_ends_the_others_at_once() -> None:
    siblings = Siblings()
    assert siblings.conclude(run_of("sleep 60", "sleep 60"), DataError("the table is empty"), together=False) is None
    assert [child.returncode for child in siblings.children] == [-signal.SIGKILL] * 2


def test_processes_that_stop_together_are_waited_for() -> None:
    siblings = Siblings()
    assert siblings.conclude(run_of("sleep 0.3; exit 143"), KeyboardInterrupt(), together=True) is None
    assert siblings.children[0].returncode == 143


def test_monitoring_that_starts_again_ends_the_former() -> None:
    siblings = Siblings()
    siblings.watch(run_of(rank=1))
    former = siblings._done
    siblings.watch(run_of(rank=1))
    assert former.is_set()
    assert not siblings._done.is_set()
    siblings.stop()


def test_a_process_is_monitored_before_it_has_a_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the first one is killed in between, it would wait for it."""
    monkeypatch.chdir(tmp_path)
    watched: list[Any] = []
    monkeypatch.setattr(Siblings, "watch", lambda self, trainer: watched.append(trainer))
    flags = ["--model=tests.helpers.MeanTask", "--data=tests.helpers.MeanData", "--trainer.accelerator=cpu"]
    cli = CLI([*flags, "--trainer.logger=false"], run=False)
    assert watched == [cli.trainer]


@pytest.mark.parametrize(
    ("codes", "text", "status"),
    [
        ([None, 3], None, 3),
        ([LOST, 4], None, 4),
        ([0, -11], "process 2 of the run was killed by SIGSEGV: often memory ran out", 3),
        ([143], "process 1 of the run was stopped by SIGTERM", 143),
    ],
)
def test_statuses_of_other_ranks_are_described(codes: list[int | None], text: str | None, status: int) -> None:
    lost = described(codes)
    assert lost is not None
    assert (lost.text, lost.status) == (text, status)


def test_nothing_has_failed() -> None:
    assert described([None, 0, LOST]) is None
    assert process_lost(ValueError("x")) is None
    assert Siblings().conclude(
        SimpleNamespace(strategy=SimpleNamespace(launcher=None), world_size=1), CLOSED, False
    ) is (  # type: ignore[arg-type]
        None
    )


@pytest.mark.parametrize(
    ("ex", "lost"),
    [
        (CLOSED, True),
        (RuntimeError("Connection reset by peer"), True),
        (torch.distributed.DistNetworkError("x"), True),
        (torch.distributed.DistBackendError("NCCL error"), True),
        (RuntimeError("a fault of the program"), False),
        (DataError("Connection closed by peer"), False),
    ],
)
def test_a_lost_connection_is_known(ex: Exception, lost: bool) -> None:
    assert lost_connection(ex) is lost


def test_ranks_above_0_leave_the_message_to_rank_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "POLL", 0.01)
    lost = Siblings().conclude(run_of(rank=1), CLOSED, together=False)
    assert lost is not None
    assert (lost.text, lost.status) == (None, LOST)


def test_ranks_above_0_report_the_loss_of_rank_0(monkeypatch: pytest.MonkeyPatch) -> None:
    siblings = Siblings()
    siblings._parent = -1
    lost = siblings.conclude(run_of(rank=1), CLOSED, together=False)
    assert lost is not None
    assert (lost.text, lost.status) == (processes.GONE, 3)


@pytest.mark.parametrize("who", ["child", "parent"])
def test_a_call_that_never_returns_is_left(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the collective calls of a device wait for ever."""
    left: list[ProcessLost] = []
    monkeypatch.setattr(processes, "POLL", 0.01)
    monkeypatch.setattr(processes, "GRACE", 0.0)

    def leave(lost: ProcessLost) -> None:
        left.append(lost)
        siblings.stop()

    monkeypatch.setattr(processes, "_leave", leave)
    siblings = Siblings()
    if who == "child":
        siblings.take(run_of("kill -9 $$", "sleep 60"))
        siblings._watch_children(siblings._done)
        assert [child.returncode for child in siblings.children] == [-signal.SIGKILL] * 2
        assert left[0].text == "process 1 of the run was killed by SIGKILL: often memory ran out"
    else:
        siblings._parent = -1
        siblings._watch_parent(siblings._done)
        assert left[0].text == processes.GONE
    assert left[0].status == 3


def test_divergence_is_said_by_the_first_process_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, said in ((0, "error: it has\n"), (1, "")):
        monkeypatch.setattr("tabattn.training.processes.rank_zero_only.rank", rank, raising=False)
        assert status_of(DivergenceError("it has"), None) == 4
        assert capsys.readouterr().err == said


@pytest.mark.parametrize("where", ["epoch end", "interval"])
def test_one_process_that_diverges_stops_all(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an epoch is shorter than the interval of looks, which are collective."""
    guard, calls = DivergenceGuard(), []

    def gather(into: list[torch.Tensor], mine: torch.Tensor) -> None:
        calls.append(mine)
        # The gradient of both is that of the one.
        into[0].copy_(torch.tensor([5.0, 3.0, 1.0, torch.nan]))
        into[1].copy_(torch.tensor([5.0, 3.0, torch.nan, 1.0]))

    monkeypatch.setattr(torch.distributed, "all_gather", gather)
    trainer: Any = SimpleNamespace(world_size=2, global_step=1, precision_plugin=None, checkpoint_callbacks=[])
    module: Any = None
    guard.on_train_start(trainer, module)
    healthy = {"loss": torch.tensor(1.0)}
    for number in range(INTERVAL - 1 if where == "interval" else 4):
        guard.on_train_batch_end(trainer, module, healthy, None, number % 4)
    assert not calls
    last = partial(guard.on_train_epoch_end, trainer, module)
    if where == "interval":
        last = partial(guard.on_train_batch_end, trainer, module, healthy, None, 1)
    with pytest.raises(DivergenceError, match="the loss is nan since step 3 in process 1; no checkpoint was saved"):
        last()


PAIRS = ["fit", "--config", str(ROOT / "configs" / "pairs.yaml"), "--model.network.dim=16", "--model.network.heads=2"]
PAIRS += [
    "--model.network.hidden=16",
    "--model.network.layers=1",
    "--data.points=[8,8]",
    "--data.context=3",
    "--data.batch_size=2",
]
PAIRS += [
    "--data.steps_per_epoch=5",
    "--data.evaluation.val_batches=1",
    "--lr_scheduler=null",
    "--trainer.accelerator=cpu",
]
PAIRS += ["--trainer.max_epochs=4", "--trainer.enable_progress_bar=false", "--trainer.check_val_every_n_epoch=1"]
PAIRS += ["--trainer.strategy=ddp", "--trainer.devices=2", "--run.version=one", "--data.num_workers=0"]


DIVERGED = (
    r"error: the training has diverged: the (loss|gradient) is nan since step 8\b.*; the last good checkpoint is .*"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rank", "status", "line"),
    [
        ("nan", 1, 4, DIVERGED),
        ("nan", 0, 4, DIVERGED),
        ("data", 1, 3, "error: the table is empty"),
        ("data", 0, 3, "error: the table is empty"),
        ("kill", 1, 3, "error: process 1 of the run was killed by SIGKILL: often memory ran out"),
        ("kill", 0, -9, f"error: {processes.GONE}"),
    ],
)
def test_one_process_fails(
    kind: str, rank: int, status: int, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first epoch, of which the best checkpoint stays as it is."""
    alone = [f"--trainer.callbacks.{name}={value}" for name, value in {"kind": kind, "rank": rank}.items()]
    call = [sys.executable, str(ROOT / "train.py"), *PAIRS, "--trainer.callbacks+=tests.helpers.Alone", *alone]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    # Standard error is at an end when all processes are.
    done = subprocess.run(
        call, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, timeout=280, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    (said,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert re.fullmatch(line, said)
    checkpoints = {path.name: torch.load(path, weights_only=True) for path in tmp_path.rglob("*.ckpt")}
    assert sorted(checkpoints) == ["best.ckpt", "last.ckpt"]
    for checkpoint in checkpoints.values():
        assert checkpoint["global_step"] == 5
        assert all(weight.isfinite().all() for weight in checkpoint["state_dict"].values())
