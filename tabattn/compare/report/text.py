"""Table of a comparison for the terminal: plain text, as wide as the terminal."""

import math
import textwrap
from collections.abc import Sequence

from tabattn.compare.report.frame import Comparison
from tabattn.compare.report.lines import Group, Line
from tabattn.compare.report.words import NONE, answers, cautions, places_of, question, shown, with_error

GAP = "  "


def as_text(comparison: Comparison, found: Sequence[Group], width: int) -> str:
    """Whole report as text.

    Args:
        comparison: The comparison.
        found: Its groups of rows.
        width: Columns of the terminal; a wider table is broken into several below one another.
    """
    parts = [_wrapped(question(comparison), width)]
    if len(found) > 1:
        parts.append(_wrapped("Rows of different machines are not compared: a table for each machine.", width))
    for group in found:
        parts.append(_wrapped(f"Machine: {group.machine}" if group.machine else "No cell is done yet.", width))
        parts.append(layout(table(comparison, group), width))
        parts.append("\n".join(_wrapped(line, width) for line in answers(comparison, group)))
        parts.append("\n".join(_wrapped(line, width) for line in cautions(comparison, group)))
        parts.append("\n".join(_wrapped(line, width) for line in failures(comparison, group)))
    return "\n\n".join(part for part in parts if part) + "\n"


def failures(comparison: Comparison, group: Group) -> list[str]:
    """Reasons of failed cells, measured steps and baselines, a line each."""
    found = [f"Failed: {line.label}, {reason}" for line in group.lines for reason in line.failures]
    if group.timed is not None:
        found += [f"Not timed: {label}: {reason}" for label, reason in comparison.untimed.items()]
    return found + [f"Failed: {one.name}: {one.reason}" for one in comparison.baselines if one.reason is not None]


def table(comparison: Comparison, group: Group) -> list[list[str]]:
    """Rows of cells of the table, the first of which is the head; columns without any number are left out."""
    head = [comparison.compared, comparison.metric, f"difference to {group.reference}"]
    head += ["seeds", "step, ms", "range", "speed-up", "attention, %", "memory, MB", "parameters", "steps"]
    places = places_of([line.quality for line in group.lines])
    finer = max(places, places_of([line.difference for line in group.lines], 5))
    rows = [_row(line, places, finer) for line in group.lines]
    for one in comparison.baselines:
        name = f"oracle: {one.name}" if one.kind == "oracle" else f"baseline: {one.name}"
        score = "failed" if one.reason is not None else NONE if math.isnan(one.score) else f"{one.score:,.{places}f}"
        rows.append([name, score, *[NONE] * (len(head) - 2)])
    kept = [at for at in range(len(head)) if at < 2 or any(row[at] != NONE for row in rows)]
    return [[row[at] for at in kept] for row in (head, *rows)]


def _row(line: Line, places: int, finer: int) -> list[str]:
    timing = line.timing
    spread = NONE if math.isnan(timing.low) else f"{shown(timing.low, 3)} to {shown(timing.high, 3)}"
    quality = "failed" if line.failures and not line.quality.seeds else with_error(line.quality, places)
    return [
        line.label,
        quality,
        with_error(line.difference, finer, signed=True),
        f"{line.quality.seeds}" if line.complete else f"{line.quality.seeds} of {line.seeds}",
        shown(timing.step_ms, 3),
        spread,
        NONE if math.isnan(line.speed_up) else f"{shown(line.speed_up, 3)}x",
        NONE if math.isnan(timing.share) else f"{100 * timing.share:.0f}",
        shown(line.memory_mb, 3),
        NONE if math.isnan(line.parameters) else f"{line.parameters:,.0f}",
        NONE if math.isnan(line.steps) else f"{line.steps:,.0f}",
    ]


def layout(rows: Sequence[Sequence[str]], width: int) -> str:
    """Lay a table out in columns; where it is wider than ``width``, further columns follow below.

    A row without anything in such a part is left out of it.
    """
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    blocks: list[list[int]] = [[]]
    for at in range(1, len(widths)):
        taken = widths[0] + sum(widths[other] + len(GAP) for other in blocks[-1])
        if blocks[-1] and taken + len(GAP) + widths[at] > width:
            blocks.append([])
        blocks[-1].append(at)
    return "\n\n".join(_block(rows, widths, block) for block in blocks)


def _block(rows: Sequence[Sequence[str]], widths: Sequence[int], block: Sequence[int]) -> str:
    filled = [row for row in rows if any(row[at] != NONE for at in block)]
    lines = [GAP.join([row[0].ljust(widths[0]), *(row[at].rjust(widths[at]) for at in block)]) for row in filled]
    rule = "-" * len(lines[0])
    return "\n".join(line.rstrip() for line in (lines[0], rule, *lines[1:]))


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(" ".join(text.split()), max(40, width), break_long_words=False, break_on_hyphens=False)
