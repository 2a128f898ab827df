"""Runner: every cell is run until it has a result or has failed, whatever happens to the workers."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tabattn.compare import executors, runner
from tabattn.compare.executors import Finished, Local, executor_of, threads_for
from tabattn.compare.leases import Lease, read, write_json
from tabattn.compare.runner import MOST_DEATHS, Runner, Signals, Stopped
from tabattn.compare.store import Store, fail
from tabattn.compare.worker import BUSY, DISK_FULL

Work = Callable[[Lease], int]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PAUSE", 0.0)


def succeed(lease: Lease) -> int:
    lease.publish({"token": lease.token})
    return 0


def wrong(lease: Lease) -> int:
    fail(lease.attempt, "wrong use", 2)
    return 2


def broken(lease: Lease) -> int:
    fail(lease.attempt, "a fault", 1)
    return 1


def killed(lease: Lease) -> int:
    return -9


def crashed(lease: Lease) -> int:
    return -11


class InProcess:
    """Executor whose workers do their work when they are polled, the last one first.

    Args:
        store: Folder of the comparison.
        work: What each cell's worker does, one after another; the last one for ever.
        slots: Cells at a time.
    """

    def __init__(self, store: Store, work: dict[str, list[Work]], slots: int = 2) -> None:
        self.store, self.work, self.slots = store, work, slots
        self.order: list[str] = []
        self.queue: list[str] = []
        self.stopped = False

    def submit(self, key: str) -> None:
        self.queue.append(key)
        self.order.append(key)
        assert len(self.queue) <= self.slots

    def poll(self) -> list[Finished]:
        return [Finished(key, self._run(key), "") for key in (self.queue.pop(),)] if self.queue else []

    def _run(self, key: str) -> int:
        lease = Lease.take(self.store.cell(key))
        if lease is None:
            return BUSY
        works = self.work[key]
        try:
            return (works.pop(0) if len(works) > 1 else works[0])(lease)
        finally:
            lease.release()

    def stop(self) -> None:
        self.stopped = True


def comparison(folder: Path, **work: list[Work]) -> tuple[Store, InProcess]:
    store = Store(folder)
    store.write_comparison({"cells": list(work)})
    for key in work:
        store.add(key, {"key": key, "label": f"Mechanism {key}", "seed": 0, "refusal": None})
    return store, InProcess(store, work)


def run(store: Store, executor: InProcess) -> list[str]:
    said: list[str] = []
    Runner(store, store.comparison()["cells"], executor, Signals(), said.append).run()
    return said


def states(store: Store) -> dict[str, str]:
    return {entry.key: entry.state for entry in store.cells()}


def test_all_cells_are_run_in_order_and_never_twice(tmp_path: Path) -> None:
    store, executor = comparison(tmp_path, a=[succeed], b=[succeed], c=[succeed])
    assert run(store, executor) == []
    assert states(store) == dict.fromkeys("abc", "done")
    assert executor.order[:2] == ["a", "b"]
    assert sorted(executor.order) == ["a", "b", "c"]
    again = InProcess(store, {})
    assert run(store, again) == []
    assert again.order == []


def test_a_fault_is_run_once_more_at_once(tmp_path: Path) -> None:
    store, executor = comparison(tmp_path, a=[broken, succeed], b=[broken])
    said = run(store, executor)
    assert states(store) == {"a": "done", "b": "failed"}
    assert executor.order.count("b") == 2
    assert "Mechanism a, seed 0: failed, and is run once more: a fault" in said
    assert any(line.startswith("Mechanism b, seed 0: failed: a fault (log: ") for line in said)
    assert run(store, again := InProcess(store, {})) == []
    assert again.order == []


def test_wrong_use_is_run_again_at_the_next_start_and_first(tmp_path: Path) -> None:
    store, executor = comparison(tmp_path, a=[killed, succeed], b=[wrong])
    run(store, executor)
    assert executor.order.count("b") == 1
    assert states(store)["b"] == "again"
    store.write_comparison({"cells": ["c", "b"]})
    store.add("c", {"key": "c", "label": "c", "seed": 0})
    later = InProcess(store, {"b": [wrong], "c": [succeed]}, slots=1)
    run(store, later)
    assert later.order == ["b", "c"]
    assert states(store) == {"b": "failed", "c": "done"}


def test_a_killed_worker_is_started_again_and_that_is_no_failure(tmp_path: Path) -> None:
    store, executor = comparison(tmp_path, a=[killed, killed, killed, succeed])
    said = run(store, executor)
    assert states(store) == {"a": "done"}
    assert store.failures("a") == []
    assert len(said) == 3
    assert store.entry("a").result == {"token": 4}


def test_a_worker_that_is_killed_again_and_again_is_left_to_the_next_call(tmp_path: Path) -> None:
    store, executor = comparison(tmp_path, a=[killed])
    for call in (1, 2, 3):
        said = run(store, executor)
        assert len(executor.order) == call * MOST_DEATHS
        assert f"ended by SIGKILL, {MOST_DEATHS} times: often memory ran out" in store.failures("a")[-1]["reason"]
        assert said[-1].endswith("the next call goes on")
        assert states(store) == {"a": "again"}
    executor.work["a"] = [succeed]
    run(store, executor)
    assert states(store) == {"a": "done"}


def test_a_crash_is_a_failure(tmp_path: Path) -> None:
    store, executor = comparison(tmp_path, a=[crashed])
    run(store, executor)
    assert states(store) == {"a": "failed"}
    assert len(executor.order) == 2


def test_a_worker_that_ends_before_it_takes_its_lease_is_a_failure(tmp_path: Path) -> None:
    store, executor = comparison(tmp_path, a=[succeed])
    executor._run = lambda key: 1  # type: ignore[method-assign]
    run(store, executor)
    assert "ended with status 1" in store.failures("a")[0]["reason"]


def test_cells_of_another_runner_are_waited_for_and_taken_over(tmp_path: Path) -> None:
    store, executor = comparison(tmp_path, a=[succeed], b=[succeed])
    other = Lease.take(store.cell("a"))
    assert other is not None
    looks = 0
    state = store.state

    def look(key: str) -> str:
        nonlocal looks
        looks += 1
        if looks == 20:
            write_json(store.cell("a") / "lease.json", {**read(store.cell("a")), "heartbeat": 0.0})
        return state(key)

    store.state = look  # type: ignore[method-assign, assignment]
    run(store, executor)
    assert executor.order == ["b", "a"]
    assert store.entry("a").result == {"token": 2}


def test_a_full_disk_ends_the_runner(tmp_path: Path) -> None:
    store, executor = comparison(tmp_path, a=[lambda lease: DISK_FULL], b=[succeed])
    with pytest.raises(Stopped) as caught:
        run(store, executor)
    assert caught.value.status == DISK_FULL
    assert executor.stopped


def test_a_signal_stops_the_workers(tmp_path: Path) -> None:
    signals = Signals()

    def stop(lease: Lease) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 143

    store, executor = comparison(tmp_path, a=[stop], b=[succeed])
    with pytest.raises(Stopped) as caught, signals.watching():
        Runner(store, ["a", "b"], executor, signals, lambda text: None).run()
    assert caught.value.status == 143
    assert executor.stopped
    assert signal.getsignal(signal.SIGTERM) != signals._handle


def test_slots_and_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors.machine, "cores", lambda: 6)
    for text, slots, threads in (("local", 6, 1), ("local=2", 2, 3), ("local=8", 8, 1)):
        found = executor_of(text, tmp_path, threads_for(text, gpu=False), gpu=False)
        assert isinstance(found, Local)
        assert (found.slots, found.threads) == (slots, threads)
    monkeypatch.setattr(executors.machine, "gpus", lambda: ["H100"] * 2)
    for text, slots, threads in (("local", 2, 3), ("local=6", 6, 1)):
        found = executor_of(text, tmp_path, threads_for(text, gpu=True), gpu=True)
        assert isinstance(found, Local)
        assert (found.slots, found.threads) == (slots, threads)
    with pytest.raises(ValueError, match="SLOTS must be at least 1, got '0'"):
        executor_of("local=0", tmp_path, 1, gpu=False)
    with pytest.raises(ValueError, match="--executor must be"):
        executor_of("nowhere", tmp_path, 1, gpu=False)


def test_the_local_executor_runs_workers_with_pinned_threads_and_stops_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = tmp_path / "shown"
    script = f"import os, sys, time; open({str(shown)!r}, 'w').write(os.environ['OMP_NUM_THREADS']); time.sleep(600)"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {executors.sys.executable} -c "{script}"\n')
    python.chmod(0o755)
    monkeypatch.setattr(executors.sys, "executable", str(python))
    local = Local(tmp_path, 1, 3)
    local.submit("a")
    assert local.poll() == []
    while not shown.exists() or not shown.read_text():
        assert local.poll() == []
    assert shown.read_text() == "3"
    (process, _), *_ = local._running.values()
    local.stop()
    assert process.returncode == -signal.SIGTERM
    local.submit("b")
    process, _ = local._running["b"]
    process.kill()
    process.wait()
    assert local.poll() == [Finished("b", -9, "ended by SIGKILL")]
