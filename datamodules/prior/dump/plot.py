"""What is in a prior dump, as a table of text and as a picture."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.prior.dump.contents import EDGES, FEW, Cells, Classes, cells_of, classes_of
from datamodules.prior.dump.read import Dump
from tabattn.contract.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 30
"""Most bars of a histogram of sizes."""

ABOVE: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 2, "frameon": False}
"""Place of a legend."""


def show(dump: Dump, picture: Path) -> str:
    """Draw the contents of a dump.

    Args:
        dump: The file.
        picture: PNG file to write.

    Returns:
        The contents as a table.

    Raises:
        DataError: The file is damaged, or the picture cannot be written.
    """
    classes, cells = classes_of(dump), cells_of(dump)
    draw(dump, classes, cells, picture)
    return table(dump, classes, cells)


def table(dump: Dump, classes: Classes, cells: Cells) -> str:
    """Table of the sizes and classes of all tasks, and of the cells of a sample."""
    sizes = dump.sizes
    told = {"rows": sizes.rows, "context rows": sizes.context, "features": sizes.features, "classes": classes.distinct}
    shares = {"share of the largest class": classes.largest, "share of the smallest class": classes.smallest}
    lines = [_line("in each task", "least", "median", "mean", "most")]
    for form, values in (("{:.4g}", told), ("{:.3f}", shares)):
        for name, each in values.items():
            lines.append(_line(name, *(form.format(f(each)) for f in (np.min, np.median, np.mean, np.max))))
    targets = int((sizes.rows - sizes.context).sum())
    unseen, number = int(classes.unseen.sum()), int((classes.unseen > 0).sum())
    lines.append(
        f"targets whose class is absent in the context: {unseen} of {targets}, in {number} of {len(dump)} tasks"
    )
    sample = "all tasks" if cells.tasks == len(dump) else f"a random sample of {cells.tasks} tasks"
    lines.append(f"cells of {sample}, {cells.columns} columns:")
    for name, share in _shares(cells).items():
        lines.append(f"  {name:<46}{share:>8.2%}")
    return "\n".join(lines) + "\n"


def _line(name: str, *values: str) -> str:
    return f"{name:<30}" + "".join(f"{value:>9}" for value in values)


def _shares(cells: Cells) -> dict[str, float]:
    return {
        "missing cells": cells.missing,
        "columns with missing cells": cells.gaps,
        "columns constant in the context": cells.constant,
        f"other columns of at most {FEW} values": cells.few,
        f"cells beyond {EDGES[-1]:g} standard deviations": cells.beyond,
    }


def draw(dump: Dump, classes: Classes, cells: Cells, path: Path) -> None:
    """Draw the contents of a dump as a PNG file.

    Raises:
        DataError: It cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    title = f"{dump.path.name}: {len(dump)} tasks"
    figure.suptitle(f"{title}, prior {dump.attributes['prior']}" if "prior" in dump.attributes else title)
    sizes = dump.sizes
    _bars(axes[0, 0], {"rows": sizes.rows, "of these context": sizes.context}, "rows of a task")
    _bars(axes[0, 1], {"": sizes.features}, "features of a task")
    _bars(axes[0, 2], {"": classes.distinct}, "classes of a task")
    _balance(axes[1, 0], classes)
    _cells(axes[1, 1], cells)
    _fractions(axes[1, 2], dump, classes, cells)
    try:
        figure.savefig(path, format="png", dpi=110)
    except OSError as ex:
        raise DataError(f"{path} cannot be written: {ex.strerror or ex}") from ex


def _bars(axes: "Axes", series: dict[str, Any], name: str) -> None:
    """Histogram of whole numbers, a bar for each where they are few."""
    from matplotlib.ticker import MaxNLocator

    low = min(int(values.min()) for values in series.values())
    high = max(int(values.max()) for values in series.values())
    step = max(1, -(-(high - low + 1) // BINS))
    edges = np.arange(low - 0.5, high + step + 0.5, step)
    for label, values in series.items():
        counts = np.histogram(values, edges)[0]
        axes.bar(edges[:-1] + step / 2, counts, 0.9 * step, alpha=0.7, label=label or None)
    axes.set(xlabel=name, ylabel="tasks", xlim=(edges[0] - 2 * step, edges[-1] + 2 * step))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    if any(series):
        axes.legend(**ABOVE)


def _balance(axes: "Axes", classes: Classes) -> None:
    edges = np.linspace(0, 1, 41).tolist()
    for label, shares in (("largest class", classes.largest), ("smallest class", classes.smallest)):
        axes.hist(shares, edges, alpha=0.7, label=label)
    axes.set(xlabel="share of the rows of a task", ylabel="tasks", xlim=(0, 1))
    axes.legend(**ABOVE)


def _cells(axes: "Axes", cells: Cells) -> None:
    middle, width = (EDGES[:-1] + EDGES[1:]) / 2, EDGES[1] - EDGES[0]
    whole = max(1, int(cells.counts.sum()))
    axes.bar(middle, cells.counts / whole / width, width, alpha=0.7, label="cells")
    axes.plot(middle, np.exp(-(middle**2) / 2) / np.sqrt(2 * np.pi), color="black", label="normal density")
    axes.set(xlabel=f"cell, standardised by the context ({cells.tasks} tasks)", ylabel="density")
    axes.legend(**ABOVE)


def _fractions(axes: "Axes", dump: Dump, classes: Classes, cells: Cells) -> None:
    unseen = {
        "tasks with a target whose class is absent in the context": float((classes.unseen > 0).mean()),
        "such targets of all targets": float(classes.unseen.sum() / (dump.sizes.rows - dump.sizes.context).sum()),
    }
    named = {**_shares(cells), **unseen}
    places = range(len(named))
    axes.barh(places, list(named.values()), alpha=0.7)
    axes.set_yticks(places, [textwrap.fill(name, 26) for name in named], fontsize=8)
    for place, share in zip(places, named.values(), strict=True):
        axes.text(share + 0.01, place, f"{share:.1%}", va="center", fontsize=8)
    axes.set(xlabel="share", xlim=(0, 1.15))
    axes.invert_yaxis()
