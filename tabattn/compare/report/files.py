"""Report of a comparison as CSV, a row for each cell, and as JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from tabattn.compare.report.frame import Comparison
from tabattn.compare.report.lines import Group, Line
from tabattn.compare.report.sets import Sets
from tabattn.compare.report.statistics import Estimate
from tabattn.compare.report.words import answers

FIGURES = ("steps", "parameters", "train_seconds", "peak_memory_mb")
"""Numbers of a result that have a column."""


def as_csv(comparison: Comparison) -> str:
    """A row for each cell: attention, seed, score, all final metrics, and what was measured."""
    scores = list(dict.fromkeys(name for cell in comparison.cells for name in (cell.result or {}).get("scores") or {}))
    columns = ["attention", "seed", "key", "status", "reason", "metric", "score", *FIGURES, "cpu", "gpu", "threads"]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, *(name for name in scores if name not in columns)], restval="")
    writer.writeheader()
    for cell in comparison.cells:
        row: dict[str, Any] = {"attention": cell.label, "seed": cell.seed, "key": cell.key, "reason": cell.reason}
        row["status"] = "waiting" if cell.reason is None else "failed"
        if cell.result is not None:
            row |= {name: cell.result.get(name) for name in FIGURES} | cell.machine._asdict()
            row |= dict(cell.result.get("scores") or {})
            row |= {"status": "done", "metric": comparison.metric, "score": cell.score}
        writer.writerow(row)
    return text.getvalue()


def as_json(comparison: Comparison, found: Sequence[Group], sets: Sequence[Sets | None]) -> str:
    """Aggregates: ``results``, which a resumed comparison repeats exactly, and ``measured``, by a clock."""
    results = {
        "task": comparison.task,
        "metric": comparison.metric,
        "mode": comparison.mode,
        "reference": comparison.reference,
        "attentions": [[_result(line) for line in group.lines] for group in found],
        "best": [group.best for group in found],
        "alike": [list(group.alike) for group in found],
        "worse": [list(group.worse) for group in found],
        "baselines": [{**one._asdict(), "sets": dict(one.sets)} for one in comparison.baselines],
        "sets": [None if own is None else own.as_dict() for own in sets],
    }
    measured = [
        {
            "machine": None if group.machine is None else group.machine._asdict(),
            "fastest": group.fastest,
            "answers": answers(comparison, group),
            "attentions": [_measured(line) for line in group.lines],
        }
        for group in found
    ]
    return json.dumps(_plain({"results": results, "measured": measured}), indent=1, allow_nan=False) + "\n"


def _result(line: Line) -> dict[str, Any]:
    return {
        "attention": line.label,
        "quality": _estimate(line.quality),
        "difference": _estimate(line.difference),
        "seeds": line.seeds,
        "steps": line.steps,
        "parameters": line.parameters,
        "failures": list(line.failures),
        "waiting": line.waiting,
    }


def _measured(line: Line) -> dict[str, Any]:
    return {
        "attention": line.label,
        **line.timing._asdict(),
        "speed_up": line.speed_up,
        "memory_mb": line.memory_mb,
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    return {"mean": one.mean, "standard_error": one.error, "seeds": one.seeds}


def _plain(value: Any) -> Any:
    """The value with null in place of NaN and infinities, which JSON lacks."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
