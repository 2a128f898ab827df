"""Preparation of a comparison: descriptions of its cells, and steps from a budget of time."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tabattn.compare import cells, machine, plan
from tabattn.compare.cells import Cell
from tabattn.compare.plan import Settings
from tabattn.compare.runner import Signals
from tabattn.compare.store import Store


def prepare(
    store: Store, settings: Settings, planned: list[Cell], signals: Signals, command: str, timing: bool = True
) -> None:
    """Write the cells, after timing those whose budget is a time; say which were made before, by other code or data.

    Args:
        store: Folder of the comparison.
        settings: Its settings.
        planned: Its cells; those that cannot be timed are replaced by refused ones.
        signals: Handler of signals.
        command: Command line, for the report.
        timing: Whether to time the steps of a budget of steps too.
    """
    before = store.comparison()
    told_changes(store, before, planned)
    steps = dict(before.get("steps", {}))
    by_steps = settings.budget["kind"] == "steps"
    if by_steps:
        steps = {cell.label: settings.budget["value"] for cell in planned}
    known = {row["attention"] for row in (store.timing() or {}).get("rows", []) if by_steps or row.get("mean_ms")}
    untimed = list(dict.fromkeys(cell.label for cell in planned if cell.label not in known and not cell.refusal))
    if untimed and (timing or not by_steps):
        plan.write(store, settings, planned, steps, command)
        timed(store, untimed, signals)
    if not by_steps:
        labels = [cell.label for cell in planned if not steps.get(cell.label)]
        steps |= steps_of(store, labels, settings.budget["value"])
        for place, cell in enumerate(planned):
            if not steps.get(cell.label) and not cell.refusal:
                planned[place] = replace(cell, refusal=untimed_reason(store, cell.label))
    plan.write(store, settings, planned, steps, command)


def told_changes(store: Store, before: Mapping[str, object], planned: Sequence[Cell]) -> None:
    """Say in one line that earlier cells are not those of this code or data."""
    earlier = before.get("cells")
    if not isinstance(earlier, list) or not earlier or {cell.key for cell in planned} >= set(earlier):
        return
    told = store.description(earlier[0])
    same_code = (told.get("versions") or {}).get("code") == cells.code_version()
    what = "the configuration" if same_code else "the code"
    if same_code and told.get("data") != cells.data_of(planned[0].config):
        what = "the data"
    sys.stderr.write(f"{what} has changed: the cells are run anew; the earlier ones stay in {store.folder / 'cells'}\n")


def timed(store: Store, labels: Sequence[str], signals: Signals) -> None:
    """Time training steps in a process of its own, with the threads of a cell."""
    threads = store.comparison()["threads"]
    command = [sys.executable, "-m", "tabattn.compare.timing", str(store.folder), *labels]
    process = subprocess.Popen(command, env=machine.environment(threads), stdin=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            time.sleep(0.1)
            signals.check()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def steps_of(store: Store, labels: Sequence[str], seconds: float) -> dict[str, int]:
    """Steps in a time, a multiple of 5, by the measured times; labels that could not be timed are left out."""
    rows = (store.timing() or {}).get("rows", [])
    times = {row["attention"]: row["mean_ms"] for row in rows if row.get("mean_ms")}
    return {label: max(5, round(200 * seconds / times[label]) * 5) for label in labels if label in times}


def untimed_reason(store: Store, label: str) -> str:
    """Why a label has no step time."""
    rows = (store.timing() or {}).get("rows", [])
    return next((row["reason"] for row in rows if row["attention"] == label and row.get("reason")), "it was not timed")
