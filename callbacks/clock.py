"""Training time and memory of the steps of a run."""

import contextlib
import time
from pathlib import Path
from typing import Literal

import torch

STATUS = Path("/proc/self/status")
PEAK_SWITCH = Path("/proc/self/clear_refs")
"""Where Linux lets a process start the peak of its memory anew."""


Timing = Literal["wall", "cpu"]
"""Seconds that pass, or seconds that the process computes: all its threads added up, whatever else the machine does."""


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

    On CUDA it is that of tensors on the device. On the CPU it is the resident memory of the process, which counts what
    the allocator keeps for later too; outside Linux it is not known, and NaN.

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
        """Reset the peak."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        with contextlib.suppress(OSError):
            PEAK_SWITCH.write_text("5")


def _of_process(entry: str) -> float:
    if not STATUS.exists():
        return float("nan")
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{entry}:"))
    return int(line.split()[1]) * 1024 / 1e6
