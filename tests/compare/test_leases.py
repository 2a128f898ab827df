"""Leases: one holder at a time, taken over from the dead, and fenced."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tabattn.compare import leases
from tabattn.compare.leases import FencedError, Lease, held, here, locked, read, write_json


def taken(folder: Path) -> Lease:
    lease = Lease.take(folder)
    assert lease is not None
    return lease


def age(folder: Path, seconds: float, **holder: object) -> None:
    """Let a lease be renewed earlier, or by another process."""
    lease = read(folder)
    changed = {**lease, "heartbeat": time.time() - seconds, "holder": {**lease["holder"], **holder}}
    write_json(folder / "lease.json", changed)


def test_a_lease_is_held_by_one_process(tmp_path: Path) -> None:
    lease = taken(tmp_path)
    assert (lease.token, held(tmp_path), lease.attempt.is_dir()) == (1, True, True)
    assert Lease.take(tmp_path) is None
    lease.release()
    assert not held(tmp_path)
    assert taken(tmp_path).token == 2


def test_a_lease_whose_process_is_gone_is_taken_over(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from tabattn.compare.leases import Lease; Lease.take(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(leases_root())})
    assert read(tmp_path)["holder"]["pid"] != os.getpid()
    assert not held(tmp_path)
    assert taken(tmp_path).token == 2


def leases_root() -> Path:
    return Path(leases.__file__).parents[2]


def test_a_process_with_a_used_number_does_not_hold_the_lease_of_its_predecessor(tmp_path: Path) -> None:
    taken(tmp_path)
    age(tmp_path, 0, started="1")
    assert not held(tmp_path)


def test_a_zombie_holds_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "60"])
    assert here(process.pid)["started"] is not None
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert here(process.pid)["started"] is None
    process.wait()
    assert here(process.pid)["started"] is None


@pytest.mark.parametrize(("seconds", "alive"), [(0, True), (55, True), (65, False), (-65, False)])
def test_elsewhere_the_heartbeat_decides(tmp_path: Path, seconds: float, alive: bool) -> None:
    taken(tmp_path)
    age(tmp_path, seconds, space="elsewhere", pid=1)
    assert held(tmp_path) is alive
    assert (Lease.take(tmp_path) is None) is alive


def test_a_holder_that_was_taken_for_dead_is_fenced(tmp_path: Path) -> None:
    first = taken(tmp_path)
    age(tmp_path, leases.STALE + 1)
    second = taken(tmp_path)
    with pytest.raises(FencedError, match="taken over by attempt 2"):
        first.publish({"score": 1})
    with pytest.raises(FencedError):
        first.beat()
    first.release()
    assert held(tmp_path), "a fenced holder does not give away the lease of its successor"
    second.publish({"score": 2})
    assert json.loads((tmp_path / "result.json").read_text()) == {"score": 2}
    assert first.attempt != second.attempt


def test_a_result_is_published_once(tmp_path: Path) -> None:
    lease = taken(tmp_path)
    lease.publish({"score": 1})
    assert Lease.take(tmp_path) is None
    with pytest.raises(FencedError, match="has a result already"):
        lease.publish({"score": 2})
    assert json.loads((tmp_path / "result.json").read_text()) == {"score": 1}


def test_the_heartbeat_renews_until_the_lease_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.01)
    lease = taken(tmp_path)
    age(tmp_path, 50)
    thread = lease.beating()
    while time.time() - read(tmp_path)["heartbeat"] > 40:
        time.sleep(0.01)
    with locked(tmp_path):
        write_json(tmp_path / "lease.json", {**read(tmp_path), "token": 5})
    thread.join(20)
    assert not thread.is_alive()
    assert read(tmp_path)["token"] == 5


def test_a_lock_that_another_holds_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BUSY", 0.05)
    lease = taken(tmp_path)
    with locked(tmp_path) as free:
        assert free
        assert Lease.take(tmp_path) is None
        with pytest.raises(OSError, match="has held its lock"):
            lease.beat()


def test_a_damaged_lease_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text("{")
    assert not held(tmp_path)
    assert taken(tmp_path).token == 1
