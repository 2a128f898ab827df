"""Results of a comparison of attention graphs: as text, as CSV and as a picture."""

import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tabattn.attention.swap import Agreement
from tabattn.storage.files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("variant", "sparsity", "recall", "exact", "metric", "seconds")


class Result(NamedTuple):
    """Test of a network with one attention."""

    variant: str
    agreement: Agreement
    metric: float
    seconds: float
    metrics: dict[str, float]


def write(folder: Path, results: Sequence[Result], figure: "Figure") -> None:
    """Write ``attention_swap.csv`` and ``attention_swap.png`` to a folder, each atomically."""
    metrics = sorted({name for result in results for name in result.metrics})
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*COLUMNS, *metrics])
    for result in results:
        head = [result.variant, *result.agreement, result.metric, result.seconds]
        rows.writerow([*head, *(result.metrics.get(name, "") for name in metrics)])
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "attention_swap.csv", text.getvalue().encode())
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    write_file(folder / "attention_swap.png", picture.getbuffer())


def drawn(results: Sequence[Result], metric: str) -> "Figure":
    """Picture of the metric and of recall against sparsity, a point for each variant."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    axes = figure.subplots(1, 2)
    markers = itertools.cycle("v^<>sDPX*p")
    for index, result in enumerate(results):
        ours = result.variant.startswith(("sparsefinder", "entmax"))
        look: dict[str, Any] = {"marker": "o" if ours else next(markers), "color": f"C{index % 10}", "s": 60}
        for axis, value in zip(axes, (result.metric, result.agreement.recall), strict=True):
            axis.scatter(result.agreement.sparsity, value, label=result.variant, alpha=0.8, **look)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    for axis, name in zip(axes, (metric, "recall of positive weights"), strict=True):
        axis.set(xlabel="sparsity of the graph", ylabel=name)
        axis.grid(alpha=0.3)
    return figure


def table(results: Sequence[Result]) -> str:
    """Table of the comparison as text."""
    rows = [
        COLUMNS,
        *(
            (each.variant, *(f"{value:.4f}" for value in (*each.agreement, each.metric, each.seconds)))
            for each in results
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
