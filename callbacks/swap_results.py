"""Results of a comparison of attention graphs: as text, as CSV and as a picture."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from callbacks.graph_looks import COLOURS, DENSE, kept, look, sparsity_axis
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

    figure = Figure(figsize=(14, 5), layout="constrained")
    axes = figure.subplots(1, 2)
    for result in results:
        style = {"markersize": 9, **_look(result.variant), "linestyle": ""}
        for axis, value in zip(axes, (result.metric, result.agreement.recall), strict=True):
            axis.plot(kept(result.agreement.sparsity), value, label=result.variant, **style)
    for axis, name in zip(axes, (metric, "recall of positive weights"), strict=True):
        axis.set_ylabel(name)
        sparsity_axis(axis, [result.agreement.sparsity for result in results])
    # What a baseline loses or gains is seen from the line of the network itself.
    axes[0].axhline(results[0].metric, color=DENSE, linestyle=":", linewidth=1)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=9)
    return figure


def _look(variant: str) -> dict[str, Any]:
    """Look of a variant: a star for the attention itself and for mode ``exact``, else that of its pattern."""
    if variant == "entmax":
        return {"color": DENSE, "marker": "*", "markersize": 14, "zorder": 5}
    pattern = variant.removeprefix("sparsefinder ").split()[0]
    if pattern == "exact":
        return {"color": COLOURS["groups"], "marker": "*", "markersize": 14, "zorder": 5}
    return look(pattern)


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
