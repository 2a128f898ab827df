"""Work of a cluster: the process of a cell, on a machine that an executor chose."""

import importlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from tabattn.compare import machine
from tabattn.compare.executors import PATIENCE

WORKER = ("-m", "tabattn.compare.worker")
"""Python's arguments for what runs a cell."""

POLL = 0.5
"""Interval in seconds at which a cluster's worker looks after the process of its cell."""

LOST = -signal.SIGKILL
"""Exit status that stands for a process of which nothing is known but that it is gone: the cell is run again."""


class Ended(NamedTuple):
    """How the process of a cell ended on a machine of the cluster.

    Attributes:
        returncode: Its exit status.
        reason: What is known besides; may be empty.
    """

    returncode: int
    reason: str


class Work:
    """Call that runs a cell in a process of its own; it is sent to a machine of the cluster.

    Args:
        folder: Folder of the comparison, which that machine must share.
        key: The cell.
        executor: Name of the executor, for the lease.
        threads: Threads of the cell.
        stop: File that asks for the end, once it is there; the training is saved.
    """

    def __init__(self, folder: Path, key: str, executor: str, threads: int, stop: Path | None = None) -> None:
        self.folder = folder
        self.key = key
        self.executor = executor
        self.threads = threads
        self.stop = stop
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> Ended:
        """Run the cell to its end."""
        if not (self.folder / "comparison.json").is_file():
            return Ended(2, f"{socket.gethostname()} does not see {self.folder}: the folder must be shared")
        command = [sys.executable, *WORKER, str(self.folder), self.key]
        self._process = subprocess.Popen(
            [*command, "--executor", self.executor],
            env=environment(self.threads),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=_deaf,
        )
        while self._process.poll() is None:
            if self.stop is not None and self.stop.exists():
                self.end()
            time.sleep(POLL)
        return Ended(self._process.returncode, "")

    def end(self) -> None:
        """Ask the process to save its training and to end; it is killed if it does not."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def checkpoint(self, *_: Any) -> Any:
        """Save the training before Slurm preempts the job, or its time is over; submitit then queues it again."""
        self.end()
        submitted = importlib.import_module("submitit.helpers").DelayedSubmission
        return submitted(Work(self.folder, self.key, self.executor, self.threads))

    def __getstate__(self) -> dict[str, Any]:
        """State without the process, which stays where it runs."""
        return {**self.__dict__, "_process": None}


def environment(threads: int) -> dict[str, str]:
    """Environment of the process of a cell, which is a run of its own and no task of a Slurm job."""
    made = machine.environment(threads)
    return {name: value for name, value in made.items() if not name.startswith(("SLURM_", "SUBMITIT_"))}


def _deaf() -> None:
    """Ignore the signals by which Slurm announces the end of a job: submitit answers them, and ends the process."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
