"""Results of a comparison, as they are read from its folder."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


class Machine(NamedTuple):
    """Machine of a measurement: only rows of equal machines are compared."""

    cpu: str
    gpu: str | None
    threads: int | None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Machine":
        """Machine of a row, with unknown parts left empty."""
        return cls(str(told.get("cpu") or "unknown CPU"), told.get("gpu"), told.get("threads"))

    def __str__(self) -> str:
        threads = "" if self.threads is None else f", {self.threads} thread{'s' if self.threads != 1 else ''}"
        return f"{f'{self.gpu}, ' if self.gpu else ''}{self.cpu}{threads}"


@dataclass(frozen=True)
class Cell:
    """One training: an attention and a seed, with its result, the reason of its failure, or neither (waiting).

    Attributes:
        key: Name of its folder.
        label: Attention with its options.
        seed: Seed of the training.
        result: Contents of ``result.json``; None = there is none.
        reason: Reason of the last failure; None = no failure, or a result.
        folder: Folder of the cell.
        metric: Name of the metric.
    """

    key: str
    label: str
    seed: int
    result: Mapping[str, Any] | None
    reason: str | None
    folder: Path
    metric: str

    @property
    def machine(self) -> Machine:
        """Machine that the cell ran on."""
        return Machine.of((self.result or {}).get("machine") or {})

    @property
    def score(self) -> float:
        """Value of the metric; NaN where there is none."""
        return number(self.scores.get(self.metric))

    @property
    def scores(self) -> Mapping[str, Any]:
        """All final metrics by name."""
        return (self.result or {}).get("scores") or {}

    @property
    def finite(self) -> dict[str, float]:
        """All final metrics that are finite numbers, by name."""
        found = {name: number(value) for name, value in self.scores.items()}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    @property
    def sets(self) -> dict[str, float]:
        """Value of the metric on each data set or part of the data."""
        return parts_of(self.scores, self.metric)

    def path(self, name: str) -> Path | None:
        """Path of a file that the result names, where it exists."""
        told = (self.result or {}).get(name)
        found = None if told is None else self.folder / str(told)
        return found if found is not None and found.is_file() else None

    def figure(self, name: str) -> float:
        """A number of the result by its name; NaN where there is none."""
        return number((self.result or {}).get(name))


class Timing(NamedTuple):
    """Measured step of an attention: time with its range over rounds, share of attention, memory, parameters."""

    step_ms: float
    low: float
    high: float
    share: float
    memory_mb: float
    parameters: float


class Baseline(NamedTuple):
    """Score of a method that has no attention, on the same evaluation data.

    Attributes:
        name: Name of the method.
        kind: ``baseline``, or ``oracle`` for what the process that made the data would predict.
        score: Value of the metric; NaN where it failed.
        sets: Value on each data set.
        reason: Reason of a failure; None = it did not fail.
    """

    name: str
    kind: str
    score: float
    sets: Mapping[str, float]
    reason: str | None


@dataclass(frozen=True)
class Comparison:
    """Everything that the folder of a comparison holds.

    Attributes:
        folder: The folder.
        settings: Contents of ``comparison.json``.
        cells: The cells, in the order of the comparison.
        metric: Name of the metric.
        mode: ``max`` where more of the metric is better, ``min`` otherwise.
        task: Name of the task.
        timings: Measured steps by attention.
        timed_on: Machine of the measured steps; None = not measured.
        untimed: Why a step could not be measured, by attention.
        baselines: Simple baselines and oracles.
    """

    folder: Path
    settings: Mapping[str, Any]
    cells: Sequence[Cell]
    metric: str
    mode: str
    task: str
    timings: Mapping[str, Timing] = field(default_factory=dict)
    timed_on: Machine | None = None
    untimed: Mapping[str, str] = field(default_factory=dict)
    baselines: Sequence[Baseline] = ()

    @property
    def labels(self) -> list[str]:
        """Attentions in the order of the comparison."""
        return list(dict.fromkeys(cell.label for cell in self.cells))

    @property
    def reference(self) -> str:
        """Attention that the others are compared to: Softmax, or else the first one."""
        return "Softmax" if "Softmax" in self.labels else self.labels[0]

    @property
    def compared(self) -> str:
        """What is compared: ``attention``, or the last word of another argument (``--vary``)."""
        given = self.settings.get("settings") or {}
        return str(given.get("vary") or "attention").rpartition(".")[2]

    @property
    def sign(self) -> int:
        """1 where more of the metric is better, -1 otherwise."""
        return 1 if self.mode == "max" else -1


def parts_of(scores: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Values of a metric ``<stage>/<name>`` on parts of the data: those called ``<stage>/<part>/<name>``."""
    stage, _, name = metric.partition("/")
    found = {full.removeprefix(f"{stage}/").removesuffix(f"/{name}"): full for full in scores if name}
    return {part: number(scores[full]) for part, full in found.items() if full == f"{stage}/{part}/{name}"}


def number(value: object) -> float:
    """A number of a JSON file; NaN for anything else, so for null."""
    return float(value) if isinstance(value, int | float) else math.nan


def read(folder: Path) -> Comparison:
    """Read the folder of a comparison.

    Raises:
        ValueError: It is no such folder, a file is damaged, or it has no cell.
    """
    settings = _load(folder / "comparison.json")
    if settings is None:
        raise ValueError(f"{folder} is not the folder of a comparison: there is no {folder / 'comparison.json'}")
    keys = [str(key) for key in settings.get("cells") or ()]
    if not keys:
        raise ValueError(f"{folder / 'comparison.json'} names no cells")
    results = [_load(folder / "cells" / key / "result.json") for key in keys]
    metric, mode, task = _metric(settings, [result for result in results if result is not None])
    cells = [_cell(folder / "cells" / key, result, metric) for key, result in zip(keys, results, strict=True)]
    timing = _load(folder / "timing.json") or {}
    return Comparison(
        folder=folder,
        settings=settings,
        cells=cells,
        metric=metric,
        mode=mode,
        task=task,
        timings={str(row["attention"]): _timing(row) for row in timing.get("rows") or ()},
        timed_on=Machine.of(timing["machine"]) if timing.get("machine") else None,
        untimed={str(row["attention"]): str(row["reason"]) for row in timing.get("rows") or () if row.get("reason")},
        baselines=[
            found
            for row in (_load(folder / "baselines.json") or {}).get("rows") or ()
            if (found := _baseline(row, metric)) is not None
        ],
    )


def _load(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
    except ValueError as ex:
        raise ValueError(f"{path} is damaged: {ex}") from ex
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: it holds a {type(found).__name__} in place of an object")
    return found


def _metric(settings: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> tuple[str, str, str]:
    """Metric, its mode and the task; what the comparison says wins over its results."""
    metrics = sorted({str(result["metric"]) for result in results})
    if settings.get("metric"):
        metrics = [str(settings["metric"])]
    if len(metrics) > 1:
        raise ValueError(f"results of one comparison have one metric, got {', '.join(metrics)}")
    first = results[0] if results else {}
    mode = str(settings.get("mode") or first.get("mode") or "max")
    if mode not in ("max", "min"):
        raise ValueError(f"mode of the metric must be max or min, got {mode}")
    return metrics[0] if metrics else "score", mode, str(settings.get("task") or first.get("task") or "")


def _cell(folder: Path, result: Mapping[str, Any] | None, metric: str) -> Cell:
    told: Mapping[str, Any] | None = _load(folder / "cell.json")
    if told is None and result is None:
        raise ValueError(f"cell {folder.name} of the comparison has neither cell.json nor result.json in {folder}")
    told = told or result
    assert told is not None
    label = str(told.get("label") or told["attention"])
    reason = None if result else _failure(folder) or told.get("refusal")
    return Cell(folder.name, label, int(told["seed"]), result, reason, folder, metric)


def _failure(folder: Path) -> str | None:
    """Reason of the last failed attempt."""
    numbered = [path for path in folder.glob("attempts/*/failure.json") if path.parent.name.isdecimal()]
    if not numbered:
        return None
    told = _load(max(numbered, key=lambda path: int(path.parent.name)))
    return str((told or {}).get("reason") or "unknown reason")


def _timing(row: Mapping[str, Any]) -> Timing:
    names = ("step_ms", "step_ms_low", "step_ms_high", "attention_share", "memory_mb", "parameters")
    return Timing(*(number(row.get(name)) for name in names))


def _baseline(row: Mapping[str, Any], metric: str) -> Baseline | None:
    """Baseline of a row; None where it has no score of the metric, and no reason."""
    scores, reason = row.get("scores") or {}, row.get("reason")
    if reason is None and metric not in scores:
        return None
    kind, score = str(row.get("kind", "baseline")), number(scores.get(metric))
    return Baseline(str(row["name"]), kind, score, parts_of(scores, metric), None if reason is None else str(reason))
