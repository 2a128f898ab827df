"""Leases with fencing tokens: of several processes on one folder, one at a time holds it, and the last one publishes.

A lease is taken by a process and renewed by its heartbeat. Whoever takes it over raises its token; what a holder of an
earlier token then wants to publish is refused. So a process that was taken for dead, and was only stopped, cannot
overwrite the result of its successor.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tabattn.storage.files import try_lock, write_file

BEAT = 10.0
"""Seconds between two heartbeats."""

STALE = 60.0
"""Seconds after the last heartbeat at which a lease may be taken over."""

BUSY = 10.0
"""Seconds to wait for the lock of a folder, which is held for the time of a few small files."""

PROCESSES = Path("/proc")


class FencedError(Exception):
    """Error of a process whose lease was taken over, or whose folder has a result already."""


class Lease:
    """Lease of a folder, held by this process.

    Args:
        folder: The folder.
        token: Fencing token.
    """

    def __init__(self, folder: Path, token: int) -> None:
        self.folder = folder
        self.token = token
        self._ended = threading.Event()

    @classmethod
    def take(cls, folder: Path, executor: str = "local") -> Self | None:
        """Take the lease of a folder; None if it has a result, or a living process holds it.

        Args:
            folder: The folder, which must exist.
            executor: What started this process, for the reader of the file.
        """
        with locked(folder) as free:
            if not free or (folder / "result.json").exists() or held(folder):
                return None
            token = read(folder).get("token", 0) + 1
            (folder / "attempts" / str(token)).mkdir(parents=True, exist_ok=True)
            lease = cls(folder, token)
            lease._write({**here(os.getpid()), "executor": executor})
            return lease

    @property
    def attempt(self) -> Path:
        """Folder of all that this holder writes."""
        return self.folder / "attempts" / str(self.token)

    def beat(self) -> None:
        """Renew the lease.

        Raises:
            FencedError: It was taken over.
        """
        with self._own() as current:
            self._write(current["holder"])

    def beating(self) -> threading.Thread:
        """Start a thread that renews the lease until it is released or taken over."""

        def renew() -> None:
            while not self._ended.wait(BEAT):
                try:
                    # On a full disk the lease gets old, and its holder's result is still taken if nobody else came.
                    with contextlib.suppress(OSError):
                        self.beat()
                except FencedError:
                    return

        thread = threading.Thread(target=renew, name="heartbeat", daemon=True)
        thread.start()
        return thread

    def publish(self, result: dict[str, Any]) -> None:
        """Write ``result.json``, once.

        Raises:
            FencedError: The lease was taken over, or there is a result.
            OSError: The file cannot be written.
        """
        with self._own():
            if (self.folder / "result.json").exists():
                raise FencedError(f"{self.folder} has a result already")
            write_json(self.folder / "result.json", result)
            self._write(None)
        self._ended.set()

    def release(self) -> None:
        """Give the lease back, unless it was taken over."""
        self._ended.set()
        with contextlib.suppress(FencedError, OSError), self._own():
            self._write(None)

    @contextlib.contextmanager
    def _own(self) -> Iterator[dict[str, Any]]:
        with locked(self.folder) as free:
            if not free:
                raise OSError(f"{self.folder}: another process has held its lock for {BUSY:.0f} s")
            current = read(self.folder)
            if current.get("token") != self.token:
                raise FencedError(f"the lease of {self.folder} was taken over by attempt {current.get('token')}")
            yield current

    def _write(self, holder: dict[str, Any] | None) -> None:
        content = {"token": self.token, "holder": holder, "heartbeat": time.time()}
        write_json(self.folder / "lease.json", content)


def held(folder: Path) -> bool:
    """Whether a living process holds the lease of a folder.

    On the same machine it lives if there is a process of that number and start; its heartbeat must be recent.
    """
    lease = read(folder)
    holder = lease.get("holder")
    if not holder or abs(time.time() - lease["heartbeat"]) > STALE:
        return False
    own = here(holder["pid"])
    return bool(holder["space"] != own["space"] or (own["started"] and holder["started"] == own["started"]))


def read(folder: Path) -> dict[str, Any]:
    """Content of ``lease.json``; empty if there is none."""
    try:
        found: dict[str, Any] = json.loads((folder / "lease.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


def here(pid: int) -> dict[str, Any]:
    """Identify a process of this machine: ``host``, ``space`` of process numbers, ``pid``, ``started``.

    ``started`` is None if there is no such process, or it has ended and only its parent has not noticed.
    """
    host = socket.gethostname()
    space = host
    with contextlib.suppress(OSError):
        boot = (PROCESSES / "sys/kernel/random/boot_id").read_text().strip()
        space = f"{host} {boot} {os.readlink(PROCESSES / 'self/ns/pid')}"
    return {"host": host, "space": space, "pid": pid, "started": _started(pid)}


def _started(pid: int) -> str | None:
    if PROCESSES.is_dir():
        try:
            # The name of the program, in brackets, may hold anything.
            state, *fields = (PROCESSES / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if state in "ZX" else fields[18]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Context that holds the lock of a folder; yields False if another process has held it for ``BUSY`` seconds."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        end = time.monotonic() + BUSY
        while not (free := try_lock(descriptor)) and time.monotonic() < end:
            time.sleep(0.02)
        yield free
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    write_file(path, (json.dumps(content, indent=1, default=str) + "\n").encode())
