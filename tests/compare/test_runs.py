"""Comparisons as processes: two runners on one folder, signals, and a worker that is taken for dead."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tabattn.compare import leases, machine, worker
from tabattn.compare.leases import read, write_json
from tabattn.compare.store import Store
from tests.compare.tiny import FLAGS, comparison

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

STEPS = 400


def start(folder: Path, *words: str, log: str = "log") -> "subprocess.Popen[bytes]":
    """Start a comparison, whose messages go to a file beside its folder."""
    command = [sys.executable, "-m", "tabattn.compare", "--out", str(folder), "--no-timing", *words]
    with folder.with_suffix(f".{log}").open("wb") as file:
        return subprocess.Popen(command, env=machine.environment(1), stdout=file, stderr=file)


def wait_until(found: Callable[[], Any]) -> None:
    end = time.monotonic() + 900
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


def trains(store: Store) -> bool:
    return store.exists and any(store.folder.glob("cells/*/attempts/*/*/*/checkpoints/last.ckpt"))


def scores(store: Store) -> dict[str, Any]:
    return {entry.key: (entry.result or {})["scores"] for entry in store.cells()}


def test_two_runners_share_the_cells_and_ctrl_c_saves_them(tmp_path: Path) -> None:
    words = ["--config=pairs", "--attention=Softmax,Linear,TopK", "--seeds=1", f"--budget={STEPS}steps", *FLAGS]
    folder = tmp_path / "a folder"
    first = start(folder, *words)
    store = Store(folder)
    wait_until(lambda: trains(store))
    first.send_signal(signal.SIGINT)
    assert first.wait() == 130
    assert "to go on: python -m tabattn.compare --out" in folder.with_suffix(".log").read_text()
    assert not any(leases.held(store.cell(entry.key)) for entry in store.cells())
    assert any("SIGTERM: saved" in path.read_text() for path in folder.glob("cells/*/attempts/1/log.txt"))
    both = [start(folder, log=log) for log in ("first", "second")]
    assert [each.wait() for each in both] == [0, 0]
    entries = store.cells()
    assert [entry.state for entry in entries] == ["done"] * 3
    assert all(Path((entry.result or {})["curve"]).parts[1] == store.attempts(entry.key)[-1].name for entry in entries)
    calm = tmp_path / "calm"
    assert start(calm, *words).wait() == 0
    assert scores(Store(calm)) == scores(store)


def test_a_stopped_worker_is_fenced(tmp_path: Path) -> None:
    store, (key,) = comparison(tmp_path, steps=STEPS)
    command = [sys.executable, "-m", "tabattn.compare.worker", str(tmp_path), key]
    stopped = subprocess.Popen(command, env=machine.environment(1))
    wait_until(lambda: trains(store))
    os.kill(stopped.pid, signal.SIGSTOP)
    write_json(store.cell(key) / "lease.json", {**read(store.cell(key)), "heartbeat": 0.0})
    assert subprocess.run(command, env=machine.environment(1), check=False).returncode == 0
    before = (store.cell(key) / "result.json").read_bytes()
    os.kill(stopped.pid, signal.SIGCONT)
    assert stopped.wait() == worker.BUSY
    assert (store.cell(key) / "result.json").read_bytes() == before
    assert (store.entry(key).result or {})["curve"].startswith("attempts/2/")
    assert store.failures(key) == []
