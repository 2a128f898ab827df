"""Results of a swap table: rows of plain values, as text, CSV, JSON and a picture."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabattn.compare.swap.measure import Agreement, Timing
from tabattn.storage.files import write_file

HEAD = ("attention", "score", "lost", "seconds", "(quartiles)", "faster", "share", "MB", "largest", "equal")


@dataclass
class Row:
    """One mechanism at one size.

    Args:
        label: The mechanism with its settings.
        attention: Its name.
        context: Number of context rows; None = the task's own test.
        trained: Whether it is the mechanism that the network was trained with.
        untrained: Names of weights that are as initialised.
        reason: Why nothing was measured, or what is missing.
        scores: Every score by name.
        score: The metric.
        lost: How much worse it is than that of the trained mechanism.
        faster: Time of the trained mechanism over this one.
        timing: Time and memory of a prediction.
        agreement: Agreement of its answers with those of the trained mechanism.
    """

    label: str
    attention: str
    context: int | None = None
    trained: bool = False
    untrained: tuple[str, ...] = ()
    reason: str | None = None
    scores: dict[str, float] = field(default_factory=dict)
    score: float | None = None
    lost: float | None = None
    faster: float | None = None
    timing: Timing | None = None
    agreement: Agreement | None = None

    def compared(self, other: "Row", metric: str, mode: str) -> None:
        """Enter what is lost and gained beside the trained mechanism."""
        self.score = self.scores.get(metric)
        own = other.scores.get(metric)
        if self.score is not None and own is not None:
            self.lost = own - self.score if mode == "max" else self.score - own
        if self.timing and other.timing:
            self.faster = other.timing.seconds / self.timing.seconds

    def plain(self) -> dict[str, Any]:
        """The row as plain values, without nesting but for the scores."""
        found = {**vars(self), "untrained": list(self.untrained)}
        del found["timing"], found["agreement"]
        timing = self.timing._asdict() if self.timing else dict.fromkeys(Timing._fields)
        return {**found, **timing, **(self.agreement._asdict() if self.agreement else dict.fromkeys(Agreement._fields))}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Row":
        """Row of its plain values."""
        timing, agreement = ([plain[name] for name in kind._fields] for kind in (Timing, Agreement))
        nested = {*Timing._fields, *Agreement._fields}
        given = {name: value for name, value in plain.items() if name not in nested}
        given["untrained"] = tuple(given["untrained"])
        given["timing"] = None if timing[0] is None else Timing(*timing)
        return cls(**given, agreement=None if agreement[0] is None else Agreement(*agreement))


@dataclass
class Table:
    """Swap table.

    Args:
        checkpoint: Source of the weights.
        task: Class of the task.
        where: Arguments whose mechanism is swapped.
        metric: Metric by which quality is compared.
        mode: ``max`` or ``min``: which values are better.
        data: What was predicted, in words.
        clock: What seconds are: ``CPU`` of one thread, or ``wall`` clock.
        machine: Machine, as in a comparison.
        versions: Versions, and the commit.
        rows: Its rows.
    """

    checkpoint: str
    task: str
    where: list[str]
    metric: str
    mode: str
    data: str
    clock: str
    machine: dict[str, object]
    versions: dict[str, Any]
    rows: list[Row] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """The table as plain values."""
        return {**vars(self), "rows": [row.plain() for row in self.rows]}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Table":
        """Table of its plain values."""
        return cls(**{**plain, "rows": [Row.of(row) for row in plain["rows"]]})

    def sections(self) -> dict[int | None, list[Row]]:
        """Rows by number of context rows, the trained mechanism first, then the fastest."""
        found: dict[int | None, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.context, []).append(row)
        return {context: sorted(rows, key=_place) for context, rows in found.items()}


def _place(row: Row) -> tuple[bool, bool, float]:
    return (not row.trained, row.timing is None, row.timing.seconds if row.timing else 0.0)


def text(table: Table) -> str:
    """Swap table for the terminal."""
    lines = [
        f"{table.checkpoint}: {table.task}, {' and '.join(table.where)} swapped without training; {table.data}",
        f"{table.metric} ({'larger' if table.mode == 'max' else 'smaller'} is better), {table.clock} seconds of a "
        f"prediction on {table.machine['gpu'] or table.machine['cpu']}, {table.machine['threads']} thread(s)",
    ]
    for context, rows in table.sections().items():
        lines += ["", f"{context:,} context rows" if context else "the task's own test"]
        lines += _aligned([HEAD, *(cells(row) for row in rows if row.timing)])
        lines += [f"  {row.label}: {row.reason}" for row in rows if row.reason]
        if (best := rows[0].scores.get(f"{table.metric}_oracle")) is not None:
            lines.append(f"  {table.metric} of the exact oracle: {number(best, 4)}")
    return "\n".join(lines)


def cells(row: Row) -> tuple[str, ...]:
    """Cells of a measured row, under ``HEAD``."""
    assert row.timing is not None
    assert row.agreement is not None
    timing, decisions = row.timing, row.agreement.decisions
    return (
        row.label + (" (trained)" if row.trained else ""),
        number(row.score, 4),
        "" if row.trained else number(row.lost, 4),
        number(timing.seconds),
        f"({number(timing.low)}-{number(timing.high)})" if timing.rounds > 1 else "",
        "" if row.faster is None else f"{row.faster:.2f}x",
        f"{timing.share:.0%}",
        "" if timing.memory is None else f"{timing.memory:.0f}",
        "" if row.trained else number(row.agreement.largest),
        "" if row.trained or decisions is None else f"{decisions:.1%}",
    )


def number(value: float | None, digits: int | None = None) -> str:
    """A number for a table; empty for None. Without digits, three significant ones."""
    if value is None:
        return ""
    if digits is not None:
        # Adding 0 turns a negative zero into a positive one.
        return f"{round(value, digits) + 0.0:.{digits}f}"
    return f"{float(f'{value:.3g}'):.15g}"


def _aligned(cells: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[place]) for row in cells) for place in range(len(HEAD))]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def write(table: Table, folder: Path) -> None:
    """Write ``swap.json``, ``swap.csv`` and ``swap.png`` to a folder, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "swap.json", json.dumps(table.plain(), indent=1).encode())
    write_file(folder / "swap.csv", comma_separated(table).encode())
    write_file(folder / "swap.png", picture(table))


def comma_separated(table: Table) -> str:
    """Rows as CSV, with a column for each score."""
    plain = [row.plain() for row in table.rows]
    scores = sorted({name for row in table.rows for name in row.scores})
    names = [name for name in plain[0] if name != "scores"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *scores])
    for each in plain:
        each["untrained"] = " ".join(each["untrained"])
        kept = ["" if each[name] is None else each[name] for name in names]
        writer.writerow([*kept, *(each["scores"].get(name, "") for name in scores)])
    return out.getvalue()


def picture(table: Table) -> bytes:
    """Quality lost against time gained as PNG: a panel for each number of context rows."""
    from matplotlib.figure import Figure

    sections = {
        context: [row for row in rows if row.faster and row.lost is not None]
        for context, rows in table.sections().items()
    }
    figure = Figure(figsize=(6.5 * len(sections), 5), layout="constrained")
    for axis, (context, rows) in zip(
        figure.subplots(1, len(sections), squeeze=False)[0], sections.items(), strict=True
    ):
        best = pareto(rows)
        for row in rows:
            style = (
                {"color": "black", "marker": "s"}
                if row.trained
                else {"color": "C0" if row in best else "0.6", "marker": "o"}
            )
            axis.plot([row.faster], [row.lost], linestyle="", **style)
            axis.annotate(row.label, (row.faster, row.lost), xytext=(4, 3), textcoords="offset points", fontsize=8)
        axis.plot([row.faster for row in best], [row.lost for row in best], color="C0", linewidth=1)
        axis.axhline(0.0, color="0.8", linewidth=1, zorder=0)
        axis.set(xscale="log", xlabel="times faster", ylabel=f"{table.metric} lost")
        axis.set_title(f"{context:,} context rows" if context else "test")
        axis.set_yscale("symlog", linthresh=0.01)
    out = io.BytesIO()
    figure.savefig(out, dpi=110, format="png")
    return out.getvalue()


def pareto(rows: Sequence[Row]) -> list[Row]:
    """Rows that no other beats in both quality and time, by time."""
    found: list[Row] = []
    for row in sorted(rows, key=lambda each: (-(each.faster or 0.0), each.lost or 0.0)):
        if not found or (row.lost or 0.0) < (found[-1].lost or 0.0):
            found.append(row)
    return found
