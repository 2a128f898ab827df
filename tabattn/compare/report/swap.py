"""Section of a swap table in the page: a table and a picture for each number of context rows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import LogLocator, NullLocator

from callbacks.labels import drawable
from tabattn.compare.report.drawing import COLOURS, INK, Style, as_svg, beside, sheet, unique
from tabattn.compare.swap.results import Row, Table, cells, number, pareto

FEW = 8
"""Most mechanisms of a picture that are all named."""

SIZE = (4.4, 3.4)

TRAINED, BEST, OTHER = Style(INK, "s", "solid"), Style(COLOURS[1], "o", "solid"), Style(COLOURS[0], "o", "solid")


def read_table(folder: Path) -> Table | None:
    """Swap table of a folder; None where there is no ``swap.json``.

    Raises:
        ValueError: The file is damaged.
    """
    path = folder / "swap.json"
    if not path.is_file():
        return None
    try:
        return Table.of(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError) as ex:
        raise ValueError(f"{path} is damaged: {type(ex).__name__}: {ex}") from ex


def asked(table: Table) -> str:
    """The question that the table answers."""
    return (
        f"How much {table.metric} is lost, and how much time gained, where the {' and '.join(table.where)} of "
        f"{table.checkpoint} ({table.task}) is swapped without training?"
    )


def section(table: Table) -> dict[str, Any]:
    """Everything that the page shows of the table."""
    better = "higher" if table.mode == "max" else "lower"
    where = f"{table.machine['gpu'] or table.machine['cpu']}, {table.machine['threads']} thread(s)"
    return {
        "asked": asked(table),
        "data": f"{table.data}; {table.metric} ({better} is better); {table.clock} seconds of a prediction on {where}.",
        "head": [
            *("attention", table.metric, "lost", "seconds", "quartiles", "times faster", "attention in it"),
            *("memory, MB", "largest difference", "equal decisions"),
        ],
        "parts": [_part(table, context, rows, at) for at, (context, rows) in enumerate(table.sections().items())],
    }


def _part(table: Table, context: int | None, rows: Sequence[Row], at: int) -> dict[str, Any]:
    """Rows at one number of context rows."""
    title = f"{context:,} context rows" if context else "Test of the task"
    drawn = picture(table, title, rows)
    oracle = rows[0].scores.get(f"{table.metric}_oracle")
    return {
        "title": title,
        "rows": [[*cells(row), row.trained] for row in rows if row.timing],
        "missing": "; ".join(f"{row.label}: {row.reason}" for row in rows if row.reason),
        "picture": unique(drawn, f"swap-{at}") if drawn else "",
        "oracle": "" if oracle is None else f"{table.metric} of the exact oracle: {number(oracle, 4)}",
    }


def picture(table: Table, title: str, rows: Sequence[Row]) -> str:
    """Quality lost against time gained as SVG, with the Pareto front; empty for fewer than two mechanisms.

    Args:
        table: The table.
        title: Heading.
        rows: Rows at one number of context rows, the trained mechanism first.
    """
    shown = [row for row in rows if row.faster and row.lost is not None]
    if len(shown) < 2:
        return ""
    best = pareto(shown)
    figure, axes = sheet("times faster", drawable(f"{table.metric} lost"), SIZE)
    axes.set_title(title, color=INK)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=0.01)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.axhline(0.0, color=INK, alpha=0.35, linewidth=1)
    axes.plot(*zip(*map(_point, best), strict=True), color=INK, alpha=0.35, linestyle=(0, (4, 3)))
    points, look = {}, {}
    for row in shown:
        style = TRAINED if row.trained else BEST if row in best else OTHER
        axes.plot(*_point(row), color=style.colour, marker=style.mark, markersize=6)
        if len(shown) <= FEW or style is not OTHER:
            points[drawable(row.label)], look[drawable(row.label)] = _point(row), style
    axes.margins(0.14, 0.12)
    beside(axes, points, look)
    return as_svg(figure, f"{table.metric} lost against times faster, {title}: {', '.join(row.label for row in shown)}")


def _point(row: Row) -> tuple[float, float]:
    assert row.faster is not None
    assert row.lost is not None
    return row.faster, row.lost
