"""Executors: what starts the workers of a comparison, and says which have ended."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, Protocol

from tabattn.compare import machine
from tabattn.contract.extras import missing

PATIENCE = 60.0
"""Seconds that a worker has to save its training after it was asked to stop."""


class Finished(NamedTuple):
    """Worker that has ended.

    Attributes:
        key: Its cell.
        returncode: Exit status; negative: the signal that ended it.
        reason: What the executor knows about the end; may be empty.
    """

    key: str
    returncode: int
    reason: str


class Executor(Protocol):
    """What starts workers: ``python -m tabattn.compare.worker DIR KEY`` for each cell that is submitted."""

    @property
    def slots(self) -> int:
        """Cells that may be submitted at a time."""

    def submit(self, key: str) -> None:
        """Start the worker of a cell, or queue it."""

    def poll(self) -> list[Finished]:
        """Workers that have ended since the last call."""

    def stop(self) -> None:
        """Ask all workers to save their trainings and to end, and wait for them."""


class Local:
    """Executor of this machine: a process for each cell, with pinned threads.

    The processes are groups of their own, so that Ctrl-C reaches only the one that asks them to save and to end.

    Args:
        folder: Folder of the comparison.
        slots: Cells at a time.
        threads: Threads of a cell.
        gpus: CUDA devices that the cells share, each on one; 0 = as the environment has it.
    """

    def __init__(self, folder: Path, slots: int, threads: int, gpus: int = 0) -> None:
        if slots < 1:
            raise ValueError(f"slots must be at least 1, got {slots}")
        self.folder = folder
        self.slots = slots
        self.threads = threads
        self.gpus = gpus
        self._running: dict[str, tuple[subprocess.Popen[bytes], int]] = {}

    def submit(self, key: str) -> None:
        """Start the worker of a cell."""
        environment = machine.environment(self.threads)
        taken = {number for _, number in self._running.values()}
        place = next(number for number in range(len(taken) + 1) if number not in taken)
        if self.gpus > 1:
            given = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
            environment["CUDA_VISIBLE_DEVICES"] = (
                given[place % len(given)] if len(given) > 1 else str(place % self.gpus)
            )
        command = [sys.executable, "-m", "tabattn.compare.worker", str(self.folder), key]
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0
        )
        self._running[key] = (process, place)

    def poll(self) -> list[Finished]:
        """Workers that have ended since the last call."""
        ended = [(key, process.returncode) for key, (process, _) in self._running.items() if process.poll() is not None]
        for key, _ in ended:
            del self._running[key]
        return [Finished(key, code, _reason(code)) for key, code in ended]

    def stop(self) -> None:
        """Ask all workers to save their trainings and to end; those that do not within a minute are killed."""
        for process, _ in self._running.values():
            process.terminate()
        end = time.monotonic() + PATIENCE
        for process, _ in self._running.values():
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


def _reason(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else ""


def executor_of(text: str, folder: Path, threads: int, gpu: bool) -> Executor:
    """Executor by its name on the command line.

    Args:
        text: ``local``, ``local=SLOTS``, ``slurm``, ``slurm:partition=gpu:minutes=60`` or ``dask=ADDRESS``.
        folder: Folder of the comparison.
        threads: Threads of a cell.
        gpu: Whether the cells run on CUDA devices.

    Raises:
        ValueError: There is no such executor, its value is wrong, or an extra is missing.
    """
    name, value = named(text)
    if name == "local":
        gpus = len(machine.gpus()) if gpu else 0
        return Local(folder, slots_of(value, gpus), threads, gpus)
    # Not above, as they need the names of this module.
    from tabattn.compare.dask import Dask
    from tabattn.compare.slurm import Slurm, slurm_options

    try:
        return (
            Slurm(folder, {"cores": threads, **slurm_options(value)})
            if name == "slurm"
            else Dask(folder, value, threads)
        )
    except ImportError as ex:
        raise ValueError(f"--executor {name}: {missing(ex) or ex}") from ex


def named(text: str) -> tuple[str, str]:
    """Split ``--executor`` into its name and its value.

    Raises:
        ValueError: There is no such executor.
    """
    name = re.split("[=:]", text, maxsplit=1)[0]
    if name not in ("local", "slurm", "dask"):
        raise ValueError(f"--executor must be local, local=SLOTS, slurm, slurm:OPTIONS or dask=ADDRESS, got {text!r}")
    return name, text[len(name) + 1 :]


def threads_for(text: str, gpu: bool) -> int:
    """Threads of a cell: cores divided by slots here, the cores of a job with Slurm, 1 on a thread of a Dask worker.

    Args:
        text: Value of ``--executor``.
        gpu: Whether the cells run on CUDA devices.

    Raises:
        ValueError: It is wrong.
    """
    name, value = named(text)
    if name == "local":
        return threads_of(slots_of(value, len(machine.gpus()) if gpu else 0))
    from tabattn.compare.slurm import JOB, slurm_options

    return int({**JOB, **slurm_options(value)}["cores"]) if name == "slurm" else 1


def slots_of(value: str, gpus: int) -> int:
    """Number of cells at a time: as given, by default one for each GPU, or else for each core.

    Raises:
        ValueError: It is no number of at least 1.
    """
    if not value:
        return gpus or machine.cores()
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"--executor local=SLOTS: SLOTS must be at least 1, got {value!r}")
    return int(value)


def threads_of(slots: int) -> int:
    """Threads of a cell, where as many cells run at a time."""
    return max(1, machine.cores() // slots)
