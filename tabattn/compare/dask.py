"""Executor of a Dask cluster: cells on its workers."""

import contextlib
import importlib
import secrets
import time
from pathlib import Path
from typing import Any

from tabattn.compare.executors import PATIENCE, Finished
from tabattn.compare.remote import LOST, POLL, Ended, Work

ANSWER = 20.0
"""Seconds to wait for a scheduler, and for its first worker."""


class Dask:
    """Executor that runs cells on the workers of a Dask cluster: as many at a time as these have threads.

    Workers may join and leave. Where one is lost, Dask gives its cells to another, which takes over once the lease of
    the lost process is old.

    Args:
        folder: Folder of the comparison, which the workers share.
        address: Address of the scheduler, such as ``tcp://10.0.0.1:8786``.
        threads: Threads of a cell.

    Raises:
        ValueError: No scheduler answers, it has no worker, or one does not see the folder.
    """

    def __init__(self, folder: Path, address: str, threads: int) -> None:
        self.folder = folder
        self.threads = threads
        self.client = _client(address)
        self.stop_file = folder / f".stop_{secrets.token_hex(4)}"
        self._futures: dict[str, Any] = {}
        try:
            _check_shared(self.client, folder)
        except ValueError:
            self.client.close()
            raise

    @property
    def slots(self) -> int:
        """Threads of all workers."""
        return sum(self.client.nthreads().values())

    def submit(self, key: str) -> None:
        """Queue a cell."""
        work = Work(self.folder, key, "dask", self.threads, self.stop_file)
        self._futures[key] = self.client.submit(work, key=f"{key}-{secrets.token_hex(4)}", pure=False)

    def poll(self) -> list[Finished]:
        """Workers that have ended since the last call."""
        ended = [(key, future) for key, future in self._futures.items() if future.done()]
        for key, _ in ended:
            del self._futures[key]
        return [Finished(key, *_outcome(future)) for key, future in ended]

    def stop(self) -> None:
        """Ask all workers to save their trainings and to end, and wait for them."""
        with contextlib.suppress(OSError):
            self.stop_file.touch()
        end = time.monotonic() + PATIENCE
        while not all(future.done() for future in self._futures.values()) and time.monotonic() < end:
            time.sleep(POLL)
        self.client.cancel(list(self._futures.values()))
        self._futures.clear()
        self.stop_file.unlink(missing_ok=True)
        self.client.close()


def _client(address: str) -> Any:
    """Connect to a scheduler."""
    distributed = importlib.import_module("distributed")
    if not address:
        raise ValueError("--executor dask=ADDRESS: give the address of the scheduler, as tcp://127.0.0.1:8786")
    try:
        client = distributed.Client(address, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError) as ex:
        raise ValueError(f"--executor dask: no scheduler answers at {address}") from ex
    try:
        client.wait_for_workers(1, timeout=ANSWER)
    except TimeoutError as ex:
        client.close()
        raise ValueError(f"--executor dask: the scheduler at {address} has no worker: start dask worker there") from ex
    return client


def _check_shared(client: Any, folder: Path) -> None:
    """Check that every worker sees a file that is written here.

    Raises:
        ValueError: One does not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    probe, secret = folder / f".probe_{secrets.token_hex(4)}", secrets.token_hex(8)
    probe.write_text(secret)
    try:
        seen = client.run(read, probe)
    finally:
        probe.unlink()
    if blind := sorted(worker for worker, found in seen.items() if found != secret):
        raise ValueError(
            f"--executor dask: worker {blind[0]} does not see {folder}: --out must be a folder that all workers share"
        )


def read(path: Path) -> str | None:
    """Text of a file; None if there is none."""
    try:
        return path.read_text()
    except OSError:
        return None


def _outcome(future: Any) -> Ended:
    """How a cell ended on a worker; one without a result was lost with its worker."""
    if future.status == "finished":
        found: Ended = future.result()
        return found
    told = future.exception() if future.status == "error" else None
    return Ended(LOST, f"lost with its Dask worker ({type(told).__name__ if told else future.status})")
