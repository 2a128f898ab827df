"""Monitoring of the ranks on one machine: if one fails, the others end soon and one reports the cause."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from tabattn.contract.errors import DivergenceError, chained

LOST = 75
"""Exit status of a rank that ends because another one failed (EX_TEMPFAIL)."""

POLL = 0.5
"""Interval in seconds at which the other processes are checked."""

GRACE = 10.0
"""Seconds that a process has to notice by itself that another one has ended, before it is killed."""

PATIENCE = 30.0
"""Most seconds to wait for the status of a process that has closed its connection."""

TURN = 1.0
"""Seconds that ranks above 0 wait after an error: if rank 0 has the same one, it ends them."""

CONNECTION = re.compile(
    r"Connection (closed|reset) by peer|[Cc]onnection was .*closed|gloo/transport|Broken pipe|NCCL|Timed out waiting"
)
"""Parts of the error messages of collective calls after the loss of another rank."""


class ProcessLost(Exception):
    """Error of a rank that waited for another one that has ended.

    Args:
        text: Message for the user; None if the failed process has reported it.
        status: Exit status of the run.
    """

    def __init__(self, text: str | None, status: int) -> None:
        super().__init__(text or "another process of the run has failed")
        self.text = text
        self.status = status


class Siblings:
    """Health check of the processes started by Lightning's launcher, in place of Lightning's own.

    Lightning's check kills all processes including rank 0, which loses message and exit status, and leaves the others
    running when rank 0 is killed. Here rank 0 monitors the others, and they monitor rank 0.
    """

    def __init__(self) -> None:
        self.children: list[subprocess.Popen[Any]] = []
        self._done = threading.Event()
        self._parent = os.getppid()

    def watch(self, trainer: Trainer) -> None:
        """Start monitoring; again, once all processes run.

        From the start on, as a process whose first one is gone would wait half an hour for its connection.
        """
        self._done.set()
        self.take(trainer)
        self._done = threading.Event()
        self._parent = os.getppid()
        if self.children:
            threading.Thread(target=self._watch_children, args=(self._done,), daemon=True).start()
        elif trainer.world_size > 1 and trainer.local_rank > 0 and hasattr(trainer.strategy.launcher, "procs"):
            threading.Thread(target=self._watch_parent, args=(self._done,), daemon=True).start()

    def stop(self) -> None:
        """Stop monitoring at the end of the run."""
        self._done.set()

    def take(self, trainer: Trainer) -> None:
        """Take over the processes from Lightning's own health check."""
        watched: list[Any] = getattr(trainer.strategy.launcher, "procs", [])
        if watched and all(isinstance(child, subprocess.Popen) for child in watched):
            self.children = list(watched)
            watched.clear()

    def conclude(self, trainer: Trainer, ex: BaseException, together: bool) -> ProcessLost | None:
        """End the other processes after an exception in this one.

        Args:
            trainer: Trainer of the run.
            ex: The exception.
            together: Whether the others stop by themselves for the same reason.

        Returns:
            ``ProcessLost`` if the exception was caused by the loss of another process; otherwise None.
        """
        self._done.set()
        self.take(trainer)
        if trainer.world_size == 1 and not self.children:
            return None
        lost = lost_connection(ex)
        if not self.children:
            return self._concluded_below(trainer, lost, ex)
        if lost:
            self._wait(lambda code: code not in (None, 0, LOST))
        elif together:
            self._wait(lambda code: False)
        codes = [child.poll() for child in self.children]
        self._kill()
        return described(codes) if lost else None

    def _concluded_below(self, trainer: Trainer, lost: bool, ex: BaseException) -> ProcessLost | None:
        """``conclude`` in ranks above 0, or if another program (such as ``torchrun``) started all ranks."""
        if not lost:
            if trainer.global_rank > 0 and not isinstance(ex, DivergenceError):
                time.sleep(TURN)
            return None
        if trainer.local_rank == 0 or not hasattr(trainer.strategy.launcher, "procs"):
            return ProcessLost("another process of the run has ended", 3)
        end = time.monotonic() + 4 * POLL
        while time.monotonic() < end:
            if os.getppid() != self._parent:
                return ProcessLost(GONE, 3)
            time.sleep(POLL / 10)
        return ProcessLost(None, LOST)

    def _wait(self, enough: Any) -> None:
        """Wait until a process has ended with a status that ``enough`` accepts, all have ended, or the time is up."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            codes = [child.poll() for child in self.children]
            if any(map(enough, codes)) or None not in codes:
                return
            time.sleep(POLL / 10)

    def _kill(self) -> None:
        for child in self.children:
            child.kill()
            child.wait()

    def _watch_children(self, done: threading.Event) -> None:
        while not done.wait(POLL):
            codes = [child.poll() for child in self.children]
            if any(codes) and not done.wait(GRACE):
                lost = described([child.poll() for child in self.children])
                self._kill()
                _leave(lost or ProcessLost("another process of the run has ended", 3))

    def _watch_parent(self, done: threading.Event) -> None:
        while not done.wait(POLL):
            if os.getppid() != self._parent and not done.wait(GRACE):
                _leave(ProcessLost(GONE, 3))


GONE = "the first process of the run was killed, or ended without a word: often memory ran out"


def lost_connection(ex: BaseException | None) -> bool:
    """Whether an exception reports a lost connection to another rank."""
    return isinstance(ex, torch.distributed.DistError) or (
        isinstance(ex, RuntimeError) and CONNECTION.search(str(ex)) is not None
    )


def described(codes: list[int | None]) -> ProcessLost | None:
    """Describe from the exit statuses of the other processes which one failed and how.

    Args:
        codes: Exit statuses of ranks 1, 2, ...; negative = minus the number of a signal, None = still running.
    """
    for number, code in enumerate(codes, 1):
        if code is None or code in (0, LOST):
            continue
        if code < 0:
            name = signal.Signals(-code).name
            return ProcessLost(f"process {number} of the run was killed by {name}: often memory ran out", 3)
        if code > 128:
            return ProcessLost(f"process {number} of the run was stopped by {signal.Signals(code - 128).name}", code)
        return ProcessLost(None, code)
    return None


def process_lost(ex: BaseException | None) -> ProcessLost | None:
    """``ProcessLost`` that ``conclude`` found as the cause of an exception; None if there is none."""
    return next((link for link in chained(ex) if isinstance(link, ProcessLost)), None)


def is_first() -> bool:
    """Whether this is rank 0, or the only process."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _leave(lost: ProcessLost) -> None:
    """Exit the process from another thread: its main thread may wait forever in a collective call."""
    if lost.text:
        sys.stderr.write(f"error: {lost.text}\n")
        sys.stderr.flush()
    os._exit(lost.status)
