"""Runner of a comparison: submits its cells to an executor until each has a result or has failed."""

import collections
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from tabattn.compare.executors import Executor, Finished
from tabattn.compare.store import SIGNALLED, State, Store, fail
from tabattn.compare.worker import BUSY, DISK_FULL

PAUSE = 0.2
"""Seconds between two looks at the folder."""

MOST_DEATHS = 20
"""Kills of the workers of a cell, during one call, after which it is left to the next call."""

CRASHES = {
    -getattr(signal, name) for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL") if hasattr(signal, name)
}
"""Exit statuses of programs that end by a fault of their own; others were killed."""

WRONG_USE = 2


class Stopped(BaseException):
    """Exception that ends the runner: a signal, or a disk that cannot be written.

    Args:
        status: Exit status.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"stopped with status {status}")
        self.status = status


class Signals:
    """Handler of SIGINT, SIGTERM and SIGHUP, which records the first and ends the process at the second."""

    def __init__(self) -> None:
        self.number: int | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Context in which the handler is installed."""
        names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
        try:
            for number, handler in before.items():
                if number == signal.SIGINT or handler != signal.SIG_IGN:
                    signal.signal(number, self._handle)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raise ``Stopped`` if a signal has come."""
        if self.number is not None:
            raise Stopped(SIGNALLED + self.number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise Stopped(SIGNALLED + number)
        self.number = number


class Runner:
    """Runs the cells of a comparison.

    Args:
        store: Folder of the comparison.
        keys: Cells, in order.
        executor: Starts the workers.
        signals: Handler of signals.
        say: Prints a line; None = above the progress bar.
    """

    def __init__(
        self,
        store: Store,
        keys: Sequence[str],
        executor: Executor,
        signals: Signals,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.store = store
        self.keys = list(keys)
        self.executor = executor
        self.signals = signals
        self.say = say or (lambda text: tqdm.write(text, file=sys.stderr))
        # Attempts that each cell had when its worker was started.
        self.submitted: dict[str, int] = {}
        self.left: set[str] = set()
        self.deaths: collections.Counter[str] = collections.Counter()

    def run(self) -> None:
        """Run all cells that have neither a result nor failed; those that another process holds are waited for.

        Raises:
            Stopped: A signal came, or the disk cannot be written; the workers have saved their trainings.
        """
        with tqdm(total=len(self.keys), unit="cell", dynamic_ncols=True, file=sys.stderr) as bar:
            try:
                while self._step(bar):
                    time.sleep(PAUSE)
                    self.signals.check()
            finally:
                self.executor.stop()

    def _step(self, bar: "tqdm[Any]") -> bool:
        """Look at what has ended, and submit what is free; False when all is done."""
        for finished in self.executor.poll():
            self._ended(finished, self.submitted.pop(finished.key, 0))
        states = {key: self.store.state(key) for key in self.keys}
        counts = collections.Counter(states.values())
        again = [key for key in self.keys if states[key] == "again"]
        waiting = [key for key in self.keys if states[key] == "waiting"]
        free = [key for key in (*again, *waiting) if key not in self.submitted and key not in self.left]
        for key in free[: max(0, self.executor.slots - len(self.submitted))]:
            self.executor.submit(key)
            self.submitted[key] = len(self.store.attempts(key))
        self._show(bar, counts)
        return bool(free or self.submitted or counts["running"])

    def _show(self, bar: "tqdm[Any]", counts: Mapping[State, int]) -> None:
        """Draw the progress bar anew, if it has changed."""
        failed = counts["failed"] + len(self.left)
        text = f"{max(counts['running'], len(self.submitted))} running, {failed} failed"
        if (counts["done"] + failed, text) != (bar.n, bar.postfix):
            bar.n = counts["done"] + failed
            bar.set_postfix_str(text)

    def _ended(self, finished: Finished, before: int) -> None:
        """Take note of how a worker has ended; ``before`` is the number of attempts before it."""
        key, code, reason = finished
        if code in (0, BUSY):
            return
        if code == DISK_FULL:
            raise Stopped(DISK_FULL)
        attempts = self.store.attempts(key)
        attempt = attempts[-1] if len(attempts) > before else self.store.cell(key) / "attempts" / "0"
        known = attempt.name != "0" and (attempt / "failure.json").exists()
        if not known and (code in CRASHES or 0 < code < SIGNALLED):
            attempt.mkdir(parents=True, exist_ok=True)
            fail(attempt, reason or f"the worker ended with status {code} and did not say why", code)
            known = True
        if known:
            self._failed(key, attempt, final=code == WRONG_USE or attempt.name == "0")
        else:
            number = abs(code) % SIGNALLED
            self._killed(key, attempt, number, reason or f"ended by {signal.Signals(number).name}")

    def _failed(self, key: str, attempt: Path, final: bool) -> None:
        """Report a failure; a final one, which another attempt would repeat, is left to the next start."""
        failure = self.store.failures(key)[0 if attempt.name == "0" else -1]
        if final and self.store.state(key) == "again":
            self.left.add(key)
        if self.store.state(key) == "again" and key not in self.left:
            self.say(f"{self._name(key)} failed, and is run once more: {failure['reason']}")
        else:
            self.say(f"{self._name(key)} failed: {failure['reason']} (log: {attempt / 'log.txt'})")

    def _killed(self, key: str, attempt: Path, number: int, how: str) -> None:
        self.deaths[key] += 1
        if self.deaths[key] < MOST_DEATHS:
            last = self.store.last_line(attempt)
            self.say(f"{self._name(key)} {how}, and goes on from its last checkpoint{f' ({last})' if last else ''}")
            return
        told = f"{how}, {MOST_DEATHS} times: often memory ran out, fewer slots (--executor local=1) need less"
        fail(attempt, told, SIGNALLED + number)
        self.left.add(key)
        self.say(f"{self._name(key)} {told}; the next call goes on")

    def _name(self, key: str) -> str:
        told = self.store.description(key)
        return f"{told['label']}, seed {told['seed']}:"
