"""Scores of predicted attention graphs as a table, and as curves against sparsity."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.graph_looks import DENSE, called, kept, look, own, sparsity_axis
from callbacks.pictures import folder_of, show
from tabattn.storage.files import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCORES = {
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
    "exact": "share of queries with all keys",
    "dropped_mass": "dropped mass",
    "output_error": "relative error of the output",
}
"""Scores that are drawn against sparsity, and their titles."""

FACTS = ("graph", "grouping", "knob", "top", "window", "ends")
"""What says which graph a row is of."""


class GraphScoreTable(Callback):
    """Writes the scores of predicted attention graphs as CSV, and draws them against sparsity, after a test.

    ``graphs.csv`` in the run folder has a row for each graph, and the means of its scores over heads, then layers;
    ``graphs_by_head.csv`` one for each graph, layer and head. Where several graphs were scored, each score is drawn
    against sparsity, its points for each pattern with a line through those that no other of it is better than at that
    sparsity or above (Pareto front), on TensorBoard and as PNG in ``figures`` in the run folder.

    The task must define ``graph_rows()``.
    """

    def __init__(self) -> None:
        self.folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the task scores graphs, and find the run folder; raise before any work."""
        self.check_task(pl_module, stage)
        self.folder = folder_of(trainer)

    def check_task(self, task: LightningModule, stage: str) -> None:
        """Check that the task scores graphs; the command line calls this before any data."""
        if not hasattr(task, "graph_rows"):
            raise MisconfigurationException(
                f"{type(task).__name__} scores no graphs: the callback GraphScoreTable is for tasks like "
                "SparsefinderProjections"
            )

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the tables and draw the curves."""
        if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return
        rows = pl_module.graph_rows()
        averages = averaged(rows)
        home = self.folder.parent
        home.mkdir(parents=True, exist_ok=True)
        for name, table in (("graphs", averages), ("graphs_by_head", rows)):
            write_file(home / f"{name}.csv", as_csv(table))
        rank_zero_info(f"scores of {len(averages)} graphs are in {home / 'graphs.csv'}")
        if len(averages) < 2:
            return
        for name, title in SCORES.items():
            if any(name in row for row in averages):
                figure = curves(averages, name, title)
                show(trainer, self.folder, "test", "graphs", name, figure)


def averaged(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means of scores over heads, then layers: a row for each graph; of one that a layer lacks, over the others."""
    graphs: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        graphs.setdefault(row["graph"], []).append(row)
    found = []
    for own_rows in graphs.values():
        names = [name for name in own_rows[0] if name not in (*FACTS, "layer", "head")]
        layers: dict[str, list[dict[str, Any]]] = {}
        for row in own_rows:
            layers.setdefault(row["layer"], []).append(row)
        scores = {
            name: _mean([_mean([row.get(name, math.nan) for row in heads]) for heads in layers.values()])
            for name in names
        }
        found.append({name: own_rows[0][name] for name in FACTS} | scores)
    return found


def _mean(values: Sequence[float]) -> float:
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept) if kept else math.nan


def as_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows as CSV; numbers have six digits, what is not defined is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([[_shown(row.get(name)) for name in names] for row in rows])
    return text.getvalue().encode()


def _shown(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def front(points: Sequence[tuple[float, float]], least: bool) -> list[tuple[float, float]]:
    """Pareto front of points (sparsity, score): those than which none is both sparser and better.

    Args:
        points: The points.
        least: Whether a smaller score is the better.
    """
    kept: list[tuple[float, float]] = []
    for sparsity, score in sorted(points, key=lambda point: (-point[0], point[1] if least else -point[1])):
        if not kept or (score < kept[-1][1] if least else score > kept[-1][1]):
            kept.append((sparsity, score))
    return kept[::-1]


def curves(rows: Sequence[dict[str, Any]], name: str, title: str) -> "Figure":
    """Draw a score of graphs against their sparsity, a line for each pattern."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.add_subplot()
    drawn = [row for row in rows if not math.isnan(row.get(name, math.nan) + row["sparsity"])]
    # Sparsefinder's graphs come first in the legend, then those that it is compared with.
    found = dict.fromkeys(row["grouping"] for row in drawn)
    for pattern in sorted(found, key=lambda each: not own(each)):
        points = [(row["sparsity"], row[name]) for row in drawn if row["grouping"] == pattern]
        _draw(axes, pattern, points, least=name in ("dropped_mass", "output_error"))
    axes.set_ylabel(title)
    sparsities = [row["sparsity"] for row in drawn]
    gold = _mean([row.get("gold_sparsity", math.nan) for row in rows])
    if not math.isnan(gold):
        axes.axvline(kept(gold), color=DENSE, linestyle=":", label="sparsity of the attention itself")
        sparsities.append(gold)
    sparsity_axis(axes, sparsities)
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def _draw(axes: "Axes", pattern: str, points: Sequence[tuple[float, float]], *, least: bool) -> None:
    """Draw the points of a pattern, and a line through those of its Pareto front."""
    style = {"markersize": 6, **look(pattern)}
    x, y = zip(*points, strict=True)
    axes.plot([kept(each) for each in x], y, **{**style, "linestyle": "", "alpha": 0.5})
    x, y = zip(*front(points, least), strict=True)
    axes.plot([kept(each) for each in x], y, label=called(pattern), **style)
