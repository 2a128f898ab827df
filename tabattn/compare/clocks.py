"""Clocks of a device, the time that attention takes within a step, and the peak memory of a step."""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from tabattn.attention import Mechanism


class Clock:
    """Clock of a device: CUDA events on a GPU, which do not hold up its work, and the time elsewhere.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait(self) -> None:
        """Wait until all work is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def mark(self) -> Any:
        """Mark this moment of the device's work."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, begin: Any, end: Any) -> float:
        """Return the seconds between two marks, after ``wait``."""
        if self.device.type != "cuda":
            return float(end - begin)
        return float(begin.elapsed_time(end)) / 1e3

    def time(self, work: Callable[[], object]) -> float:
        """Return the seconds of some work."""
        self.wait()
        begin = self.mark()
        work()
        end = self.mark()
        self.wait()
        return self.seconds(begin, end)


class Spans:
    """Time that attention takes within a step: spans of the forward and backward passes of its mechanisms.

    The backward pass of a mechanism begins when the gradient of its output is there, and ends when the last gradient of
    its inputs and parameters is: autograd computes the latest operations first, so nothing else lies in between.

    Args:
        clock: Clock of the device.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.spans: list[list[Any]] = []

    def seconds(self) -> float:
        """Return the sum of all spans."""
        self.clock.wait()
        return sum(self.clock.seconds(*span) for span in self.spans)

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Watch the outermost mechanisms of a model inside this context."""
        handles = []
        for mechanism in mechanisms(model):
            handles.append(mechanism.register_forward_pre_hook(self._begin, with_kwargs=True))
            handles.append(mechanism.register_forward_hook(self._end, with_kwargs=True))
            handles += [part.register_hook(self._last) for part in mechanism.parameters() if part.requires_grad]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for given in (*args, *kwargs.values()):
            if isinstance(given, Tensor) and given.requires_grad:
                given.register_hook(self._last)
        now = self.clock.mark()
        self.spans.append([now, now])

    def _end(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
        self._last(out)
        if out.requires_grad:
            out.register_hook(self._again)

    def _again(self, gradient: Tensor) -> None:
        now = self.clock.mark()
        self.spans.append([now, now])

    def _last(self, gradient: Tensor) -> None:
        self.spans[-1][1] = self.clock.mark()


def mechanisms(model: nn.Module) -> list[Mechanism]:
    """Return the mechanisms of a model that are in no other mechanism."""
    found: list[Mechanism] = []
    inner: set[nn.Module] = set()
    for module in model.modules():
        if isinstance(module, Mechanism) and module not in inner:
            found.append(module)
            inner.update(module.modules())
    return found


def peak_bytes(step: Callable[[], object], device: torch.device) -> int:
    """Return the peak memory of a step in bytes, beyond that in use before; includes workspaces of kernels."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # Silence the profiler's messages at each start and stop.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        watched.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    changes.sort(key=lambda event: event["ts"])
    held = peak = 0
    for change in changes:
        held += change["args"]["Bytes"]
        peak = max(peak, held)
    return peak
