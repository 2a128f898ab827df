"""Folder of a comparison: states of its cells."""

from pathlib import Path

from tabattn.compare.leases import Lease, write_json
from tabattn.compare.store import Store, fail, tail

CELL = {"key": "k", "attention": "Local", "label": "Local:window=4", "seed": 1, "arguments": ["--a"], "refusal": None}


def test_an_empty_folder_holds_no_comparison(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert (store.exists, store.comparison(), store.cells(), store.timing()) == (False, {}, [], None)
    store.write_comparison({"cells": ["k"]})
    assert store.exists
    assert store.cells()[0].state == "waiting"


def test_states_of_a_cell(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_comparison({"cells": ["k"]})
    store.add("k", CELL)
    folder = store.cell("k")
    entry = store.cells()[0]
    assert (entry.state, entry.label, entry.seed, entry.arguments) == ("waiting", "Local:window=4", 1, ("--a",))
    lease = Lease.take(folder)
    assert lease is not None
    assert store.state("k") == "running"
    (lease.attempt / "log.txt").write_text("one\nerror: two\n")
    fail(lease.attempt, "two", 3)
    lease.release()
    assert store.state("k") == "again"
    assert store.entry("k").failure == {"reason": "two", "status": 3, "tail": "one\nerror: two"}
    again = Lease.take(folder)
    assert again is not None
    fail(again.attempt, "three", 3)
    again.release()
    assert store.state("k") == "failed"
    assert (store.entry("k").failure or {})["reason"] == "three"
    write_json(folder / "result.json", {"seed": 1})
    assert (store.state("k"), store.entry("k").result) == ("done", {"seed": 1})


def test_a_refused_cell_has_failed_until_it_is_refused_no_more(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add("k", {**CELL, "refusal": "no such window"})
    assert (store.state("k"), store.entry("k").failure) == ("failed", {"reason": "no such window", "tail": ""})
    store.add("k", CELL)
    assert (store.state("k"), store.entry("k").failure) == ("waiting", None)


def test_attempts_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("10", "9", "1", "x"):
        (store.cell("k") / "attempts" / name).mkdir(parents=True)
    assert [path.name for path in store.attempts("k")] == ["1", "9", "10"]


def test_the_tail_of_a_log_shows_the_last_state_of_a_progress_bar(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("first\n 0%\r 50%\r 100%\nlast\n")
    assert tail(log, 2) == " 100%\nlast"
    assert tail(tmp_path / "none") == ""
