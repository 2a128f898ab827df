"""Training time and memory: what the steps of a run take, whatever else the run does between them."""

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
    """Adds up the seconds of training steps, each from the end of the one before, so with the loading of its batch.

    Args:
        timing: Which seconds.
        seconds: Seconds of steps that came before.
    """

    def __init__(self, timing: Timing = "wall", seconds: float = 0.0) -> None:
        if timing not in ("wall", "cpu"):
            raise ValueError(f"timing must be wall or cpu, got {timing!r}")
        self.timing = timing
        self.seconds = seconds
        self.mark = self._now()

    def resume(self) -> None:
        """Begin a step now: the time since the last one counts for nothing."""
        self.mark = self._now()

    def lap(self, device: torch.device) -> float:
        """End a step and begin the next; return its seconds, all work of the device included."""
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
    """Memory beyond what was held when this was made, in MB of a million bytes.

    On CUDA it is that of tensors on the device. On the CPU it is the resident memory of the process, which counts what
    the allocator keeps for later too; outside Linux it is not known, and NaN.

    Args:
        device: Whose memory.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.baseline = 0.0
        self.baseline = self.current()
        self.restart()

    def current(self) -> float:
        """Memory held now."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device) / 1e6 - self.baseline
        return _of_process("VmRSS") - self.baseline

    def peak(self) -> float:
        """Most memory held at one time since the start or ``restart``; in all its life where the system cannot tell."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6 - self.baseline
        return _of_process("VmHWM") - self.baseline

    def restart(self) -> None:
        """Begin a new peak."""
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
