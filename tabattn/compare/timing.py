"""Timing of training steps of several attentions, in turn in one process: ``python -m tabattn.compare.timing DIR``.

Reads the cells of a comparison, the first seed of each label, and writes ``timing.json`` beside them. Every attention
takes the same batches, spread over its training; steps of all alternate, so that other load of the machine affects all
alike; warm-up is not counted. A step consists of loss, gradients, clipping and optimizer.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tabattn.compare.clocks import Clock, Spans, mechanisms, peak_bytes
from tabattn.compare.leases import write_json
from tabattn.compare.machine import described
from tabattn.compare.store import Store
from tabattn.compare.trainings import MeasuredError, Training, reason, together
from tabattn.contract.library_warnings import without_advertisements

BATCHES = 8
"""Different batches that the steps take in turn."""

LEAST_ROUNDS = 3
"""Rounds of every attention, however long they take."""

LOOP = 20
"""Most steps in the Trainer's own loop."""


def measure(
    cells: Sequence[tuple[str, Sequence[str]]],
    seconds: float = 60.0,
    rounds: int = 200,
    clock: Callable[[torch.device], Clock] = Clock,
) -> list[dict[str, Any]]:
    """Measure training steps, in turn.

    Args:
        cells: Label, and arguments of ``train.py fit``, of each attention.
        seconds: Time for all, beyond that of building and warm-up; each attention takes at least 3 steps.
        rounds: Most steps of each attention.
        clock: Makes the clock of a device.

    Returns:
        A row for each cell, in order; times in milliseconds, memory in 2**20 bytes, and None for what was not measured.
    """
    meters = [Meter(Training(label, arguments, BATCHES), seconds / len(cells), clock) for label, arguments in cells]
    known = {meter.training: meter for meter in meters}

    def use(started: list[Training]) -> None:
        for meter in meters:
            meter.start()
        alive = [known[training] for training in started]
        _in_turn(alive, rounds)

    together([meter.training for meter in meters], use)
    return [meter.row() for meter in meters]


def _in_turn(meters: Sequence["Meter"], rounds: int) -> None:
    """Warm up, then take plain and watched steps in turn, and one whose memory is recorded."""
    for number in range(BATCHES):
        for meter in meters:
            meter.guarded(meter.warm_up, number)
    for turn in range(rounds):
        for meter in meters:
            if turn < LEAST_ROUNDS or meter.has_time():
                meter.guarded(meter.plain, turn)
    for turn in range(math.ceil(rounds / 4)):
        for meter in meters:
            if meter.spans is not None and (turn < LEAST_ROUNDS or meter.has_time(share=1.0)):
                meter.guarded(meter.watched, turn)
    for meter in meters:
        meter.guarded(meter.remember, 0)
        meter.begin_loop()


class Meter:
    """What is measured of one training.

    Args:
        training: The training.
        seconds: Time for its steps; two thirds of it for the plain ones.
        clock: Makes the clock of a device.
    """

    def __init__(self, training: Training, seconds: float, clock: Callable[[torch.device], Clock]) -> None:
        self.training = training
        self.seconds = seconds
        self.make_clock = clock
        self.spans: bool | None = None
        self.steps: list[float] = []
        self.shares: list[float] = []
        self.loops: list[tuple[float, float]] = []
        self.memory: int | None = None
        self.used = 0.0
        self.warm = 0
        self._last: Any = None

    def start(self) -> None:
        """Prepare the clock of the training's device."""
        if self.training.entered:
            self.clock = self.make_clock(self.training.task.device)
            self.spans = True if mechanisms(self.training.task) else None
            self.training.after = self.loop

    def has_time(self, share: float = 2 / 3) -> bool:
        """Whether a further step fits into a share of the time."""
        return self.used < share * self.seconds

    def guarded(self, work: Callable[[int], None], number: int) -> None:
        """Do some work unless the training has failed; an error of it is its reason."""
        if self.training.reason:
            return
        begin = time.monotonic()
        try:
            work(number)
        except Exception as ex:  # An error of a mechanism is a result.
            self.training.reason = reason(ex)
        self.used += time.monotonic() - begin

    def warm_up(self, number: int) -> None:
        """Take a step that does not count; slow ones warm up on fewer batches, and then take these alone."""
        if number == 0 or self.used < self.seconds / 3:
            self.clock.time(lambda: self.training.step(number))
            self.warm = number + 1
        if number == BATCHES - 1:
            self.used = 0.0

    def plain(self, turn: int) -> None:
        """Time a step."""
        self.steps.append(self.clock.time(lambda: self.training.step(turn % self.warm)))

    def watched(self, turn: int) -> None:
        """Take the share of attention in a step."""
        spans = Spans(self.clock)
        with spans.watching(self.training.task):
            taken = self.clock.time(lambda: self.training.step(turn % self.warm))
        if spans.spans:  # Hooks do not run in what is compiled.
            self.shares.append(spans.seconds() / taken)

    def remember(self, turn: int) -> None:
        """Record the memory of a step on the largest batch."""
        peaks = []
        for number in range(self.warm):
            self.training.optimizer.zero_grad()
            peaks.append(peak_bytes(partial(self.training.step, number), self.training.task.device))
        self.memory = max(peaks)

    def begin_loop(self) -> None:
        """Begin with the steps in the Trainer's loop."""
        self.used = 0.0

    def loop(self, training: Training, number: int) -> None:
        """Time the step in the Trainer's loop that ends here, then a plain one on the next batch."""
        self.clock.wait()
        now = self.clock.mark()
        if self._last is not None:
            self.clock.wait()
            begin, plain = self._last
            self.loops.append((self.clock.seconds(begin, now), plain))
            self.used += sum(self.loops[-1])
        # The first one is a warm-up.
        if len(self.loops) > LOOP or (len(self.loops) > LEAST_ROUNDS and not self.has_time(1 / 3)):
            raise MeasuredError
        plain = self.clock.time(lambda: training.step(number))
        self._last = self.clock.mark(), plain

    def row(self) -> dict[str, Any]:
        """Return the row of the results."""
        row: dict[str, Any] = {"attention": self.training.label, "rounds": len(self.steps), "reason": None}
        low, middle, high = _quartiles(self.steps)
        row |= {"step_ms": middle, "step_ms_low": low, "step_ms_high": high}
        row["mean_ms"] = 1e3 * statistics.fmean(self.steps) if self.steps else None
        row["attention_share"] = statistics.median(self.shares) if self.shares else None
        loops = self.loops[1:]
        row["loop_ms"] = 1e3 * statistics.median(taken for taken, _ in loops) if loops else None
        row["loop_overhead"] = statistics.median(taken / plain for taken, plain in loops) - 1 if loops else None
        row["memory_mb"] = None if self.memory is None else self.memory / 2**20
        row["parameters"] = None
        if self.training.entered:
            row["parameters"] = sum(part.numel() for part in self.training.task.parameters() if part.requires_grad)
        if self.training.reason:
            row |= dict.fromkeys(("step_ms", "step_ms_low", "step_ms_high", "mean_ms", "attention_share"))
            row["reason"] = self.training.reason
        return row


def _quartiles(seconds: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Return lower quartile, median and upper quartile in milliseconds."""
    if len(seconds) < 2:
        return (None, None, None) if not seconds else (1e3 * seconds[0],) * 3
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return 1e3 * low, 1e3 * middle, 1e3 * high


def first_seeds(store: Store, labels: Sequence[str] = ()) -> list[tuple[str, Sequence[str]]]:
    """Return the label and arguments of the first cell of each label.

    Args:
        store: Folder of the comparison.
        labels: The labels to return; none = all.

    Raises:
        ValueError: A label has no cell.
    """
    found: dict[str, Sequence[str]] = {}
    for cell in store.cells():
        found.setdefault(cell.label, cell.arguments)
    if missing := [label for label in labels if label not in found]:
        raise ValueError(f"{store.folder} has no cell of {missing[0]}, but of {', '.join(found) or 'none'}")
    return [(label, found[label]) for label in labels or found]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tabattn.compare.timing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="folder of the comparison")
    parser.add_argument("labels", nargs="*", help="labels to time (default: all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for the steps of all (default: 60)")
    parser.add_argument("--rounds", type=int, default=200, help="most steps of each (default: 200)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: OMP_NUM_THREADS, or all cores)")
    options = parser.parse_args(argv)
    for name, least in (("seconds", 0.0), ("rounds", LEAST_ROUNDS), ("threads", 1)):
        value = getattr(options, name)
        if value is not None and not value >= least:
            parser.error(f"{name} must be at least {least:g}, got {value}")
    if not Store(options.folder).exists:
        parser.error(f"{options.folder} holds no comparison")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the rows into ``timing.json``; rows of other labels on the same machine stay."""
    options = arguments(argv)
    without_advertisements()
    if options.threads:
        torch.set_num_threads(options.threads)
    store = Store(options.folder)
    try:
        cells = first_seeds(store, options.labels)
    except ValueError as ex:
        raise SystemExit(f"error: {ex}") from ex
    rows = measure(cells, options.seconds, options.rounds)
    on_gpu = torch.cuda.is_available() and torch.cuda.memory_allocated() > 0
    machine = described(torch.get_num_threads(), on_gpu)
    earlier = store.timing()
    timed = {label for label, _ in cells}
    if earlier is not None and earlier["machine"] == machine:
        rows = [row for row in earlier["rows"] if row["attention"] not in timed] + rows
    write_json(options.folder / "timing.json", {"machine": machine, "rows": rows})
    for row in rows:
        told = row["reason"] or f"{row['step_ms']:.1f} ms a step"
        sys.stdout.write(f"{row['attention']}: {told}\n")


if __name__ == "__main__":
    main()
