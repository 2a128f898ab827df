"""Worker: runs one cell of a comparison in this process, ``python -m tabattn.compare.worker DIR KEY``.

It takes the lease of the cell, writes into the folder of its attempt, goes on from the last checkpoint of an earlier
attempt, and publishes the result if the lease is still its own. Exit status: 0 done; 75 another process has the cell;
74 the disk fails; 143 and the like after a signal, when the training is saved; any other a failure, which is recorded.
"""

import argparse
import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from tabattn.compare.leases import FencedError, Lease
from tabattn.compare.store import SIGNALLED, Store, fail
from tabattn.compare.training import run
from tabattn.contract.library_warnings import without_advertisements
from tabattn.storage.files import disk_problem, write_file
from tabattn.training.cli import WATCH
from tabattn.training.signals import Interrupted
from tabattn.training.status import status_of, thread_fault

BUSY, DISK_FULL = 75, 74
"""Exit statuses: another process has the cell, or its result is there; the disk cannot be written."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a cell, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tabattn.compare.worker", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="folder of the comparison")
    parser.add_argument("key", help="name of the cell")
    parser.add_argument("--executor", default="local", help="what started this process (default: local)")
    options = parser.parse_args(argv)
    store = Store(options.folder.resolve())
    try:
        lease = Lease.take(store.cell(options.key), options.executor)
    except OSError as ex:
        sys.stderr.write(f"error: {ex}\n")
        return DISK_FULL
    if lease is None:
        return BUSY
    lease.beating()
    try:
        return attempt(store, options.key, lease)
    finally:
        lease.release()


def attempt(store: Store, key: str, lease: Lease) -> int:
    """Run a cell whose lease is held; everything that is printed goes to ``log.txt`` of the attempt."""
    without_advertisements()
    threading.excepthook = thread_fault
    try:
        with logged(lease.attempt / "log.txt"), WATCH.watching():
            try:
                lease.publish(run(store, key, lease))
                return 0
            except (SystemExit, Exception, Interrupted, KeyboardInterrupt) as ex:
                return ended(ex, lease)
    except OSError as ex:
        sys.stderr.write(f"error: {ex}\n")
        return DISK_FULL


def ended(ex: BaseException, lease: Lease) -> int:
    """Exit status after an exception, which is printed; a failure is recorded.

    Raises:
        OSError: The disk cannot be written.
    """
    if isinstance(ex, FencedError):
        sys.stderr.write(f"refused: {ex}\n")
        return BUSY
    if problem := disk_problem(ex):
        raise OSError(problem) from ex
    try:
        status = status_of(ex, WATCH.number)
    except Exception as fault:
        traceback.print_exc()
        status, reason = 1, f"{type(fault).__name__}: {str(fault).strip().partition(chr(10))[0]}"
    else:
        reason = _last_error(lease.attempt / "log.txt") or f"exit status {status}"
    if status > SIGNALLED:
        return status
    fail(lease.attempt, reason, status)
    return status


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Context that appends what this process and its children print to a file."""
    write_file(path, b"")
    kept = [os.dup(number) for number in (1, 2)]
    try:
        with path.open("a", buffering=1) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield
    finally:
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)


def _last_error(log: Path) -> str | None:
    sys.stderr.flush()
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("error: ")]
    return lines[-1].removeprefix("error: ") if lines else None


if __name__ == "__main__":
    sys.exit(main())
