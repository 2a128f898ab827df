"""Seconds, memory and share of attention of predictions, taken in turns, and their agreement."""

import contextlib
import gc
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from tabattn.compare.clocks import Clock, Spans, peak_bytes
from tabattn.contract.errors import one_line

FAILURES = (ValueError, RuntimeError, MemoryError, NotImplementedError)
"""What a mechanism raises that cannot serve a network, or not at this size."""


class ProcessClock(Clock):
    """Clock of the CPU time of this process, which other load of the machine does not prolong."""

    def mark(self) -> Any:
        return time.process_time()


def clock_of(device: torch.device) -> Clock:
    """Clock of a device: CPU time where one thread computes, else the time."""
    single = device.type == "cpu" and torch.get_num_threads() == 1
    return ProcessClock(device) if single else Clock(device)


class Timing(NamedTuple):
    """Measurements of a prediction.

    Attributes:
        seconds: Median.
        low: Lower quartile.
        high: Upper quartile.
        rounds: Number of measurements.
        share: Share of attention in the time.
        memory: Peak memory beyond that in use before, in 2**20 bytes; None = not measured.
    """

    seconds: float
    low: float
    high: float
    rounds: int
    share: float
    memory: float | None


class Meter:
    """Times one prediction, again and again.

    Args:
        network: Module whose mechanisms are watched.
        run: The prediction.
        device: Its device.
    """

    def __init__(self, network: nn.Module, run: Callable[[], Any], device: torch.device) -> None:
        self.network, self.run, self.device = network, run, device
        self.seconds: list[float] = []
        self.attention: list[float] = []
        self.memory: float | None = None

    def time(self) -> Any:
        """Time the prediction once more, and return it."""
        clock = clock_of(self.device)
        spans, answers = Spans(clock), []
        with spans.watching(self.network):
            self.seconds.append(clock.time(lambda: answers.append(self.run())))
        self.attention.append(spans.seconds())
        return answers[0]

    def remember(self, limit: float | None = None) -> None:
        """Measure the peak memory.

        It stays unknown where the records of all operations take more than the limit, in 2**20 bytes: a prediction of
        very many small ones. Timings come before it, as memory that is freed late slows what follows.
        """
        with contextlib.suppress(*FAILURES), memory_limit(limit):
            self.memory = peak_bytes(self.run, self.device) / 2**20
        gc.collect()

    def timing(self) -> Timing:
        """Sum up."""
        middle = statistics.median(self.seconds)
        low, _, high = (
            statistics.quantiles(self.seconds, n=4, method="inclusive") if len(self.seconds) > 1 else [middle] * 3
        )
        share = statistics.median(self.attention) / middle if middle else 0.0
        return Timing(middle, low, high, len(self.seconds), share, self.memory)


def in_turns(meters: Mapping[str, Meter], rounds: int, budget: float) -> None:
    """Time predictions in turns, so that other load of the machine affects all alike.

    The measurements so far are the warm-up, and are dropped; where one of them exceeds the budget, it counts and is the
    only one.

    Args:
        meters: Meters that have run at least once, by name.
        rounds: Rounds over all.
        budget: Seconds after which a prediction is not repeated.
    """
    active = {name: meter for name, meter in meters.items() if meter.seconds[-1] <= budget}
    for meter in active.values():
        meter.seconds.clear()
        meter.attention.clear()
    for _ in range(rounds):
        for meter in active.values():
            if not meter.seconds or sum(meter.seconds) <= budget:
                meter.time()


@contextmanager
def memory_limit(megabytes: float | None) -> Iterator[None]:
    """Context in which this process may take so much more memory: beyond it, an allocation fails with an error.

    Without it, a mechanism that is quadratic in memory could make the system end the process.
    """
    if megabytes is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    used = _data_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (used + int(megabytes * 2**20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _data_bytes() -> int:
    """Size of the data segment of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def failure(ex: BaseException, megabytes: float | None) -> str:
    """Reason of a failed prediction in one line."""
    text = one_line(str(ex)) or type(ex).__name__
    if isinstance(ex, MemoryError) or ("allocate" in text and "memory" in text):
        return f"takes more than {megabytes:g} MB of memory" if megabytes else "takes more memory than there is"
    return text


class Agreement(NamedTuple):
    """Agreement of two answers.

    Attributes:
        largest: Largest absolute difference.
        mean: Mean absolute difference.
        decisions: Share of equal decisions; None = the task does not decide between classes.
    """

    largest: float
    mean: float
    decisions: float | None


def agreement(own: Any, other: Any, classes: bool) -> Agreement:
    """Compare two answers of the same form.

    Args:
        own: Tensors in any nesting.
        other: The same of another network.
        classes: Whether they are probabilities of classes, on the last axis.
    """
    pairs = list(zip(_numbers(own), _numbers(other), strict=True))
    differences = torch.cat([(a - b).abs().flatten() for a, b in pairs]) if pairs else torch.zeros(1)
    # Both answers are NaN or infinite where nothing is asked.
    differences = differences[differences.isfinite()]
    same = torch.cat([(a.argmax(-1) == b.argmax(-1)).flatten() for a, b in pairs]) if classes else None
    if not differences.numel():
        return Agreement(0.0, 0.0, None)
    return Agreement(
        differences.max().item(), differences.mean().item(), None if same is None else same.double().mean().item()
    )


def _numbers(answer: Any) -> list[Tensor]:
    found: list[Tensor] = []
    apply_to_collection(answer, Tensor, lambda each: found.append(each.detach().double().cpu()))
    return [each for each in found if each.numel()]
