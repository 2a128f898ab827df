"""Machine of a measurement: models of CPU and GPU, cores, threads and host; processes with pinned threads."""

import os
import platform
import socket
from pathlib import Path

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Environment variables by which numerical libraries take their number of threads."""

ROOT = Path(__file__).resolve().parents[2]
"""Folder that holds the packages of this project."""

CPU_FACTS = Path("/proc/cpuinfo")


def cores() -> int:
    """Number of cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def gpus() -> list[str]:
    """Models of the visible CUDA devices."""
    import torch

    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def cpu() -> str:
    """Model of the CPU."""
    if CPU_FACTS.exists():
        for line in CPU_FACTS.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def described(threads: int, gpu: bool) -> dict[str, object]:
    """Describe this machine.

    Args:
        threads: Threads of a process.
        gpu: Whether the work runs on the GPU.

    Returns:
        ``cpu``, ``gpu`` (None = not used), ``cores``, ``threads`` and ``host``.
    """
    model = gpus()[0] if gpu else None
    return {"cpu": cpu(), "gpu": model, "cores": cores(), "threads": threads, "host": socket.gethostname()}


def environment(threads: int) -> dict[str, str]:
    """Environment of a worker: this one, with pinned threads, and with the packages of this process."""
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    pinned = dict.fromkeys(THREADS, str(threads))
    return {**os.environ, **pinned, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
