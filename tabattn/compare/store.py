"""Folder of a comparison: its settings, and cells, attempts, results and failures."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tabattn.compare import leases
from tabattn.compare.leases import write_json

State = Literal["done", "failed", "running", "again", "waiting"]
"""A cell has a result; has failed for good; is held by a process; has failed and is run again; has not been run."""

MOST_FAILURES = 2
"""Failures after which a cell is not run again."""

SIGNALLED = 128
"""Exit statuses above it, 128 + N: ended by signal N from outside."""

TAIL = 15
"""Lines of a log that a failure keeps."""


@dataclass(frozen=True)
class Entry:
    """Cell as the folder shows it.

    Args:
        key: Name of its folder.
        attention: What is compared, such as the name of a mechanism.
        label: The same with options, as given.
        seed: Seed of the training.
        arguments: Arguments of ``train.py fit`` that made it.
        state: Whether it has a result.
        result: Content of ``result.json``.
        failure: The last failure: ``reason`` and ``tail`` of its log.
    """

    key: str
    attention: str
    label: str
    seed: int
    arguments: tuple[str, ...]
    state: State
    result: dict[str, Any] | None
    failure: dict[str, Any] | None


class Store:
    """Folder of a comparison.

    Args:
        folder: The folder, which need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def exists(self) -> bool:
        """Whether the folder holds a comparison."""
        return (self.folder / "comparison.json").is_file()

    def cell(self, key: str) -> Path:
        """Folder of a cell."""
        return self.folder / "cells" / key

    def comparison(self) -> dict[str, Any]:
        """Content of ``comparison.json``; empty if there is none."""
        return _read(self.folder / "comparison.json") or {}

    def write_comparison(self, content: dict[str, Any]) -> None:
        """Write ``comparison.json``, and the folder if it is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "comparison.json", content)

    def timing(self) -> dict[str, Any] | None:
        """Content of ``timing.json``; None if nothing was timed."""
        return _read(self.folder / "timing.json")

    def add(self, key: str, content: dict[str, Any]) -> None:
        """Make the folder of a cell, and write its ``cell.json`` if that is missing or has changed."""
        self.cell(key).mkdir(parents=True, exist_ok=True)
        if _read(self.cell(key) / "cell.json") != content:
            write_json(self.cell(key) / "cell.json", content)

    def description(self, key: str) -> dict[str, Any]:
        """Content of ``cell.json``; empty if there is none."""
        return _read(self.cell(key) / "cell.json") or {}

    def cells(self) -> list[Entry]:
        """Cells of the comparison, in order."""
        return [self.entry(key) for key in self.comparison().get("cells", [])]

    def entry(self, key: str) -> Entry:
        """Read what the folder holds of a cell."""
        told = self.description(key)
        failures = self.failures(key)
        if told.get("refusal"):
            failures.append({"reason": told["refusal"], "tail": ""})
        return Entry(
            key,
            told.get("attention", ""),
            told.get("label", ""),
            told.get("seed", 0),
            tuple(told.get("arguments", ())),
            self.state(key),
            _read(self.cell(key) / "result.json"),
            failures[-1] if failures else None,
        )

    def state(self, key: str) -> State:
        """State of a cell."""
        if (self.cell(key) / "result.json").is_file():
            return "done"
        if leases.held(self.cell(key)):
            return "running"
        failures = self.failures(key)
        # Kills are faults of the surroundings, which may be others at the next start.
        own = [failure for failure in failures if failure["status"] <= SIGNALLED]
        if len(own) >= MOST_FAILURES or self.description(key).get("refusal"):
            return "failed"
        return "again" if failures else "waiting"

    def attempts(self, key: str) -> list[Path]:
        """Folders of a cell's attempts, the earliest first."""
        found = (self.cell(key) / "attempts").glob("*")
        return sorted((path for path in found if path.name.isdigit()), key=lambda path: int(path.name))

    def failures(self, key: str) -> list[dict[str, Any]]:
        """Failures of a cell, the earliest first."""
        read = (_read(attempt / "failure.json") for attempt in self.attempts(key))
        return [failure for failure in read if failure is not None]

    def last_line(self, attempt: Path) -> str:
        """Last line of an attempt's log."""
        return tail(attempt / "log.txt", 1)


def fail(attempt: Path, reason: str, status: int) -> None:
    """Record the failure of an attempt, with the end of its log.

    Args:
        attempt: Folder of the attempt.
        reason: One line.
        status: Exit status of its process.
    """
    write_json(attempt / "failure.json", {"reason": reason, "status": status, "tail": tail(attempt / "log.txt")})


def tail(path: Path, lines: int = TAIL) -> str:
    """Last lines of a text file; empty if there is none."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    # A progress bar writes all its states into one line.
    return "\n".join(line.rpartition("\r")[2] for line in text.strip().splitlines()[-lines:])


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found
