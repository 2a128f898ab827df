"""Training time and memory of the steps of a run."""

import contextlib
import time
from pathlib import Path
from typing import Literal

import torch

STATUS = Path("/proc/self/status")
PEAK_SWITCH = Path("/proc/self/clear_refs")
"""Linux file by which a process resets its peak resident memory."""


Timing = Literal["wall", "cpu"]
"""Elapsed (wall) time, or CPU time of the process, summed over its threads."""


class Clock:
    """Stopwatch of training steps: a step lasts from the end of the one before, loading included.

    Args:
        timing: ``wall`` (elapsed time) or ``cpu`` (CPU time of the process).
        seconds: Seconds of earlier steps, in a resumed run.
    """

    def __init__(self, timing: Timing = "wall", seconds: float = 0.0) -> None:
        if timing not in ("wall", "cpu"):
            raise ValueError(f"timing must be wall or cpu, got {timing!r}")
        self.timing = timing
        self.seconds = seconds
        self.mark = self._now()

    def resume(self) -> None:
        """Start a step now; the time since the last one does not count."""
        self.mark = self._now()

    def lap(self, device: torch.device) -> float:
        """End a step, after synchronising with the device, and start the next; return its seconds."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = self._now()
        taken = now - self.mark
        self.seconds += taken
        self.mark = now
        return taken

    def _now(self) -> float:
        return time.process_time() if self.timing == "cpu" else time.perf_counter()


class Memory:
    """Memory in MB (10^6 bytes) beyond what was in use when this object was made.

    On CUDA it is the memory of tensors on the device. On the CPU it is the resident memory of the process, which
    includes free blocks that the allocator keeps; outside Linux it is NaN.

    Args:
        device: Device of the training.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.baseline = 0.0
        self.baseline = self.current()
        self.restart()

    def current(self) -> float:
        """Memory in use, in MB."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device) / 1e6 - self.baseline
        return _of_process("VmRSS") - self.baseline

    def peak(self) -> float:
        """Peak memory since ``restart``, in MB; of the whole process where the system cannot reset it."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6 - self.baseline
        return _of_process("VmHWM") - self.baseline

    def restart(self) -> None:
        """Measure the peak anew, from the memory in use now; does nothing on a system that cannot reset it."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        with contextlib.suppress(OSError):
            PEAK_SWITCH.write_text("5")


def _of_process(entry: str) -> float:
    """Memory of this process in MB by an entry of Linux's status file; NaN on other systems."""
    if not STATUS.exists():
        return float("nan")
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{entry}:"))
    return int(line.split()[1]) * 1024 / 1e6
