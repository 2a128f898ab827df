"""Workers of a sweep: each claims trials and runs every one in a process of its own."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabattn.compare.leases import Lease, write_json
from tabattn.compare.machine import environment
from tabattn.sweep.folder import Folder
from tabattn.sweep.report import short
from tabattn.sweep.space import arguments
from tabattn.sweep.study import Claims

if TYPE_CHECKING:
    from optuna.trial import Trial

DIVERGED = 4
"""Exit status of a training that diverged."""

POLL = 0.2
"""Interval in seconds at which a worker looks after its process."""

WAIT = 2.0
"""Seconds between two looks at the trials of other workers, once there is none to claim."""

GRACE = 20.0
"""Seconds that an interrupted trial has to end."""


class Worker:
    """Worker that runs trials until there is none left.

    Args:
        folder: Folder of the sweep.
        claims: Its trials.
        threads: Threads of a trial.
        said: Called with one line after each trial.
    """

    def __init__(self, folder: Folder, claims: Claims, threads: int, said: Callable[[str], None]) -> None:
        self.folder = folder
        self.claims = claims
        self.threads = threads
        self.said = said
        self.stopped = threading.Event()
        self.fault: BaseException | None = None

    def start(self) -> threading.Thread:
        """Run in a thread."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        try:
            waited = False
            while not self.stopped.is_set():
                claimed = self.claims.claim()
                if not isinstance(claimed, str):
                    self._trial(*claimed)
                elif claimed == "wait":
                    if not waited:
                        self.said("no trial is left to start: waiting for those that run")
                    waited = True
                    self.stopped.wait(WAIT)
                else:
                    if claimed == "tried":
                        self.said("every combination was tried")
                    return
        except BaseException as ex:
            # The main thread raises it.
            self.fault = ex

    def _trial(self, trial: "Trial", lease: Lease) -> None:
        """Run a claimed trial, and record how it ended."""
        own = self.folder.trial(trial.number)
        lease.beating()
        try:
            words = arguments(self.folder.settings().flags, trial.params)
            write_json(own / "trial.json", {"arguments": words, "params": trial.params})
            start = time.monotonic()
            status = 0
            if self.folder.settings().budget["kind"] == "seconds":
                status = self._process(trial.number, "pace")
            status = status or self._process(trial.number)
            if self.stopped.is_set():
                self.claims.give_back(trial.study, trial.number, "it was interrupted", attempts=sys.maxsize)
                return
            state, value, facts = ended(own, status)
            if self.claims.finish(trial, state, value, seconds=round(time.monotonic() - start, 1), **facts):
                self.said(line(trial, state, facts))
        finally:
            lease.release()

    def _process(self, number: int, *what: str) -> int:
        """Run a process of a trial; return its exit status."""
        command = [sys.executable, "-m", "tabattn.sweep.trial", str(self.folder.path), str(number), *what]
        with open(self.folder.trial(number) / "log.txt", "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                process_group=0,
            )
            try:
                while process.poll() is None and not self.stopped.wait(POLL):
                    pass
                if process.poll() is None:
                    process.terminate()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(GRACE)
            finally:
                process.kill()
            return process.wait()

    def _environment(self) -> dict[str, str]:
        return {**environment(self.threads), "PYTHONUNBUFFERED": "1"}


def ended(own: Path, status: int) -> tuple[str, float | None, dict[str, Any]]:
    """Describe how a trial ended: Optuna's state, the score where it is complete, and further facts.

    A diverged trial is pruned: then the sampler learns from it, as it does not from a failed one.

    Args:
        own: Folder of the trial.
        status: Exit status of its process.
    """
    outcome: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError):
        outcome = json.loads((own / "outcome.json").read_text())
    if status == 0 and outcome:
        state = outcome.pop("state").upper()
        return state, outcome["best"] if state == "COMPLETE" else None, outcome
    if status == DIVERGED:
        return "PRUNED", None, {"reason": reason(own, status)}
    if status == 0:
        return "FAIL", None, {"reason": "no validation gave a finite score"}
    return "FAIL", None, {"reason": reason(own, status)}


def reason(own: Path, status: int) -> str:
    """Say in one line why a process ended: its error, the last line of its log, or the signal that killed it."""
    if status < 0:
        return f"killed by signal {-status}: often memory ran out"
    said = [text.strip() for text in (own / "log.txt").read_text(errors="replace").splitlines() if text.strip()]
    errors = [text.removeprefix("error: ") for text in said if text.startswith("error: ")]
    return (errors or said or [f"exit status {status}"])[-1]


def line(trial: "Trial", state: str, facts: dict[str, Any]) -> str:
    """Describe a trial that ended in one line."""
    values = " ".join(f"{name}={short(value)}" for name, value in trial.params.items())
    score = f"{facts['best']:.5g}" if "best" in facts else "-"
    told = {"COMPLETE": "", "PRUNED": "  stopped", "FAIL": "  failed"}[state]
    return f"trial {trial.number:>3}  {score:>9}  {values}{told}{': ' + facts['reason'] if 'reason' in facts else ''}"
