"""Self-contained HTML page of a comparison: inline pictures, no network, no scripts."""

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from tabattn.compare.report import figures, maps
from tabattn.compare.report.drawing import Style, styles, unique
from tabattn.compare.report.frame import Comparison
from tabattn.compare.report.lines import Group
from tabattn.compare.report.sets import DATA_SETS, Board, Sets
from tabattn.compare.report.statistics import Estimate
from tabattn.compare.report.swap import asked, section
from tabattn.compare.report.text import failures, table
from tabattn.compare.report.words import answers, cautions, places_of, question, with_error
from tabattn.compare.swap.results import Table

COSTS = ("step time, ms", "memory, MB")
ELO = (0, 2000)
"""Range of ratings that are shown, around 1000."""


def page(comparison: Comparison, found: Sequence[Group], sets: Sequence[Sets | None], swap: Table | None = None) -> str:
    """Render the page.

    Args:
        comparison: The comparison.
        found: Its groups of rows.
        sets: Scores of each group on single data sets.
        swap: Swap table of the folder; None = there is none.

    Raises:
        ImportError: jinja2 is not installed.
    """
    look = styles(comparison.labels, comparison.reference)
    return _rendered(
        title=f"Comparison of {comparison.compared}{f': {comparison.task}' if comparison.task else ''}",
        question=question(comparison),
        groups=[
            _section(comparison, group, own, look, f"g{at}")
            for at, (group, own) in enumerate(zip(found, sets, strict=True))
        ],
        look=look,
        best=[group.best for group in found],
        command=str(comparison.settings.get("command") or ""),
        facts=_facts(comparison),
        swap=None if swap is None else section(swap),
    )


def swap_page(swap: Table) -> str:
    """Render the page of a swap table that stands alone.

    Raises:
        ImportError: jinja2 is not installed.
    """
    told = {**swap.versions, **(swap.versions.get("commit") or {})}
    facts = [("machine", _plain(swap.machine)), ("versions", _plain(told))]
    title, nothing = f"Swap table: {swap.checkpoint}", {"groups": [], "look": {}, "best": [], "command": ""}
    return _rendered(title=title, question=asked(swap), facts=facts, swap=section(swap), **nothing)


def _rendered(**parts: Any) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__).joinpath("template.html.j2").read_text())
    zero = f"rgb({', '.join(f'{255 * part:.0f}' for part in maps.ZERO[:3])})"
    return template.render(scale=maps.bar(), zero=zero, **parts)


def _section(
    comparison: Comparison, group: Group, sets: Sets | None, look: Mapping[str, Style], name: str
) -> dict[str, Any]:
    """Everything that the page shows of one machine."""
    curves = figures.curves_of(group)
    seed, attention = maps.maps_of(group)
    layers = maps.layers(attention)
    kinds = [("score", "step"), ("score", "seconds"), ("loss", "step"), ("loss", "seconds")]
    score = comparison.metric.replace("test/", "val/", 1)
    pictures = {
        "pareto": [figures.pareto(comparison, group.lines, cost, look) for cost in COSTS],
        "learning": [figures.learning(curves, x, y, score if y == "score" else "train/loss", look) for y, x in kinds],
        "ranks": [figures.critical(sets.ranking, look)] if sets is not None and sets.ranking else [],
    }
    head, *rows = table(comparison, group)
    return {
        "name": name,
        "machine": "" if group.machine is None else str(group.machine),
        "answers": answers(comparison, group),
        "cautions": cautions(comparison, group),
        "failures": failures(comparison, group),
        "head": head,
        "rows": rows,
        "best": group.best,
        "sets": None if sets is None else _sets(comparison, sets),
        "board": [] if sets is None else [_board(row) for row in sets.board],
        "ranking": None if sets is None else sets.ranking,
        "note": "" if sets is None else sets.note,
        "maps": layers,
        "seed": seed,
        **{
            kind: [unique(svg, f"{name}-{kind}-{at}") for at, svg in enumerate(svgs) if svg]
            for kind, svgs in pictures.items()
        },
    }


def _sets(comparison: Comparison, sets: Sets) -> dict[str, Any]:
    """Table of scores on single data sets, a row each, with the best attention of each."""
    labels = list(sets.scores)
    simple = [one for one in comparison.baselines if one.sets]
    rows, places = [], places_of([one for own in sets.scores.values() for one in own.values()])
    for name in sets.names:
        own = {label: sets.scores[label][name] for label in labels}
        scored = [label for label in labels if own[label].seeds]
        best = max(scored, key=lambda label: comparison.sign * own[label].mean) if len(scored) > 1 else None
        cells = [(with_error(own[label], places), label == best) for label in labels]
        known = (Estimate(one.sets.get(name, math.nan), math.nan, 1) for one in simple)
        rows.append([name, *cells, *((with_error(one, places), False) for one in known)])
    title, name = ("Single data sets", "data set") if comparison.task in DATA_SETS else ("Parts of the data", "part")
    return {"title": title, "head": [name, *labels, *(one.name for one in simple)], "rows": rows}


def _board(row: Board) -> list[str]:
    """Row of the table of Elo, win rates and mean ranks."""
    return [
        row.label,
        "{} ({} to {})".format(*map(_elo, row.elo)),
        "{:.0%} ({:.0%} to {:.0%})".format(*row.win_rate),
        "{:.2f} ({:.2f} to {:.2f})".format(*row.rank),
    ]


def _elo(rating: float) -> str:
    """Rating, as far as it says anything: it has no bound for one that always wins or loses."""
    low, high = ELO
    return f"<{low}" if rating < low else f">{high}" if rating > high else f"{rating:.0f}"


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    """Settings, a row each, and steps, versions and machine, in one row each."""
    told = comparison.settings
    settings = told.get("settings") or {}
    found = [(str(name), _plain(value)) for name, value in settings.items() if value not in (None, [], {}, "")]
    return found + [(name, _plain(told[name])) for name in ("steps", "versions", "machine") if told.get(name)]


def _plain(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items() if one is not None)
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)
