"""Lines of the table of a comparison: an attention each, in a group for each machine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tabattn.compare.report.frame import Cell, Comparison, Machine, Timing
from tabattn.compare.report.statistics import Estimate, distinguishable, estimate, p_value, paired

UNTIMED = Timing(*(math.nan,) * len(Timing._fields))


@dataclass(frozen=True)
class Line:
    """An attention in the table.

    Attributes:
        label: The attention with its options.
        quality: Metric over seeds.
        difference: Metric minus that of the reference, paired by seed; of no seeds for the reference itself.
        seeds: Cells of the attention that ran on the machine or are not done.
        steps: Training steps of each seed; NaN where nothing is done.
        timing: Its measured step; NaN where it was not timed on this machine.
        speed_up: Step time of the reference over its own.
        memory_mb: Peak memory of the measured step, or else of the trainings.
        parameters: Trained parameters.
        failures: Reasons of failures, with their seeds.
        waiting: Cells without result or failure.
    """

    label: str
    quality: Estimate
    difference: Estimate
    seeds: int
    steps: float
    timing: Timing
    speed_up: float
    memory_mb: float
    parameters: float
    failures: Sequence[str] = ()
    waiting: int = 0

    @property
    def complete(self) -> bool:
        """Whether all seeds have a finite score."""
        return self.quality.seeds == self.seeds


@dataclass(frozen=True)
class Group:
    """Attentions on one machine, the only rows that are compared.

    Attributes:
        machine: The machine; None = no cell is done.
        lines: The attentions.
        cells: Cells of the group.
        reference: Attention that the others are compared to.
        timed: Threads of the timing, where it is of this machine; None = no timing.
        best: Attention of the highest quality among those whose seeds are all finite; None = none has a score.
        alike: Attentions that are not distinguishable from the best with these seeds.
        worse: Attentions that are.
        fastest: Fastest of the best and those alike; None where it cannot be told.
    """

    machine: Machine | None
    lines: Sequence[Line]
    cells: Sequence[Cell]
    reference: str
    timed: Machine | None
    best: str | None
    alike: Sequence[str]
    worse: Sequence[str]
    fastest: str | None

    def line(self, label: str) -> Line:
        """Line of an attention."""
        return next(line for line in self.lines if line.label == label)


def groups(comparison: Comparison) -> list[Group]:
    """Group the attentions by machine; failed and waiting cells are in the first group."""
    machines = list(dict.fromkeys(cell.machine for cell in comparison.cells if cell.result is not None))
    if not machines:
        return [_group(comparison, None, comparison.cells)]
    return [
        _group(
            comparison,
            machine,
            [
                cell
                for cell in comparison.cells
                if (machine == machines[0] if cell.result is None else cell.machine == machine)
            ],
        )
        for machine in machines
    ]


def _group(comparison: Comparison, machine: Machine | None, cells: Sequence[Cell]) -> Group:
    labels = [label for label in comparison.labels if any(cell.label == label for cell in cells)]
    reference = comparison.reference if comparison.reference in labels else labels[0]
    timed = comparison.timed_on
    if timed is not None and machine is not None and timed[:2] != machine[:2]:
        timed = None
    lines = [_line(comparison, label, cells, reference, timed is not None) for label in labels]
    best, alike, worse = _compared(lines, cells, comparison.sign)
    near = [line for line in lines if line.label in (best, *alike) and math.isfinite(line.timing.step_ms)]
    told = len(near) == 1 + len(alike) and best is not None and near
    fastest = min(near, key=lambda line: line.timing.step_ms).label if told else None
    return Group(machine, lines, cells, reference, timed, best, alike, worse, fastest)


def _line(comparison: Comparison, label: str, cells: Sequence[Cell], reference: str, timed: bool) -> Line:
    own = [cell for cell in cells if cell.label == label]
    timing = comparison.timings.get(label, UNTIMED) if timed else UNTIMED
    base = comparison.timings.get(reference, UNTIMED) if timed else UNTIMED
    memory, parameters = _mean(own, "peak_memory_mb"), _mean(own, "parameters")
    return Line(
        label=label,
        quality=estimate([cell.score for cell in own]),
        difference=Estimate(math.nan, math.nan, 0)
        if label == reference
        else paired(scores_of(cells, label), scores_of(cells, reference)),
        seeds=len(own),
        steps=_mean(own, "steps"),
        timing=timing,
        speed_up=base.step_ms / timing.step_ms if timing.step_ms else math.nan,
        memory_mb=timing.memory_mb if math.isfinite(timing.memory_mb) else memory,
        parameters=parameters if math.isfinite(parameters) else timing.parameters,
        failures=_failures(own, comparison.metric),
        waiting=sum(cell.result is None and cell.reason is None for cell in own),
    )


def scores_of(cells: Sequence[Cell], label: str) -> dict[int, float]:
    """Score of each seed of an attention that is done."""
    return {cell.seed: cell.score for cell in cells if cell.label == label and cell.result is not None}


def _mean(cells: Sequence[Cell], name: str) -> float:
    return estimate([cell.figure(name) for cell in cells]).mean


def _failures(cells: Sequence[Cell], metric: str) -> list[str]:
    failures = [f"seed {cell.seed}: {cell.reason}" for cell in cells if cell.reason is not None]
    return failures + [
        f"seed {cell.seed}: {metric} is {cell.score:g}"
        for cell in cells
        if cell.result is not None and not math.isfinite(cell.score)
    ]


def _compared(lines: Sequence[Line], cells: Sequence[Cell], sign: int) -> tuple[str | None, list[str], list[str]]:
    """Best attention, those that are not distinguishable from it, and those that are.

    An attention with a failed seed is not called best where another has none: its mean leaves the failure out.
    """
    scored = [line for line in lines if line.quality.seeds]
    sound = [line for line in scored if not line.failures] or scored
    if not sound:
        return None, [], []
    best = max(sound, key=lambda line: sign * line.quality.mean).label
    others = [line.label for line in scored if line.label != best]
    own = scores_of(cells, best)
    apart = distinguishable({label: p_value(paired(scores_of(cells, label), own)) for label in others})
    return best, [label for label in others if label not in apart], [label for label in others if label in apart]
