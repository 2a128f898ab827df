"""Filters of tables by size and balance, behind a source: ``openml:suite/457:rows=..2000:classes=2``."""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from tabattn.contract.checks import nearest

FILTERS = {
    "rows": "number of rows",
    "features": "number of columns without the target",
    "classes": "number of classes",
    "minority": "share of the rows of the smallest class",
    "smallest": "number of rows of the smallest class",
    "missing": "share of missing cells among the features",
}
"""What each filter bounds."""

SEGMENT = re.compile(r"^(?P<place>.*):(?P<name>[A-Za-z_]+)=(?P<bounds>[^:/\\]*)$", re.DOTALL)

Measures = dict[str, float]
"""What is known of a table, by the names of the filters."""


class Range(NamedTuple):
    """Bounds of a filter, both included; None = open."""

    least: float | None
    most: float | None

    def holds(self, value: float) -> bool:
        """Whether a value lies within the bounds."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        low, high = ("" if bound is None else f"{bound:.10g}" for bound in self)
        return low if low == high else f"{low}..{high}"


Filters = dict[str, Range]
"""Bounds by the names of the filters."""


def parse(source: str) -> tuple[str, Filters]:
    """Split the place of a source, without its target, from its filters.

    Raises:
        ValueError: There is no such filter, it is given twice, or its bounds cannot be read.
    """
    place, filters = source, Filters()
    while found := SEGMENT.match(place):
        place, name = found["place"], found["name"]
        if name not in FILTERS:
            raise ValueError(
                f"no filter of tables is called {name!r}{nearest(name, FILTERS)}; known: {', '.join(FILTERS)}"
            )
        if name in filters:
            raise ValueError(f"{source} gives two filters {name}: give one, such as {name}=1..2")
        filters = {name: _range(name, found["bounds"]), **filters}
    return place, filters


def _range(name: str, text: str) -> Range:
    ends = text.split("..", 1) if ".." in text else [text, text]
    try:
        least, most = (float(end) if end else None for end in ends)
    except ValueError:
        least = most = None
    low, high = least, most
    if (low is None and high is None) or (low is not None and high is not None and not low <= high):
        raise ValueError(
            f"filter {name}={text} must be a number or a range, least..most, of which one end may be left out: "
            f"{name}=2, {name}=2..5, {name}=..5"
        )
    return Range(low, high)


def written(filters: Filters) -> str:
    """Filters as they are written behind a source."""
    return ":".join(f"{name}={bounds}" for name, bounds in filters.items())


def misfit(filters: Filters, known: Measures) -> str | None:
    """First known measure that is out of bounds, in words; None = there is none."""
    for name, bounds in filters.items():
        if name in known and not bounds.holds(known[name]):
            return f"its {FILTERS[name]} is {round(known[name], 4):.10g}, not {name}={bounds}"
    return None


def measures(x: pd.DataFrame, y: pd.Series) -> Measures:
    """Measure a table by all filters."""
    sizes = y.value_counts()
    sizes = sizes[sizes > 0]
    least = int(sizes.min()) if len(sizes) else 0
    return {
        "rows": len(x),
        "features": x.shape[1],
        "classes": len(sizes),
        "minority": least / max(1, len(y)),
        "smallest": least,
        "missing": float(np.mean(x.isna().to_numpy())) if x.size else 0.0,
    }


def check(filters: Filters, x: pd.DataFrame, y: pd.Series, place: str) -> None:
    """Raise ValueError for a table that does not pass its filters."""
    if filters and (reason := misfit(filters, measures(x, y))):
        raise ValueError(f"{place} does not pass its filters: {reason}")
