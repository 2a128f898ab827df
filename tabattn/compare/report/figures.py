"""Figures of a comparison: learning curves, quality against cost, and critical differences."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from callbacks.labels import drawable
from tabattn.compare.report.drawing import INK, SIZE, Style, as_svg, beside, sheet
from tabattn.compare.report.frame import Comparison, number
from tabattn.compare.report.lines import Group, Line
from tabattn.compare.report.statistics import Ranking

Curve = Mapping[str, NDArray[np.float64]]
"""Columns of a learning curve."""

COLUMNS = ("step", "seconds", "loss", "score")
PARTS = 40
"""Parts of a training over each of which a loss is averaged."""
FEW = 15
"""Most points of a curve that are marked."""


def read_curve(path: Path) -> Curve:
    """Columns of ``curve.csv``; NaN where nothing was measured.

    Raises:
        ValueError: It is no learning curve.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and (missing := [name for name in COLUMNS if name not in rows[0]]):
        raise ValueError(f"{path} is no learning curve: it has no column {missing[0]!r}")
    return {name: np.array([_float(row[name]) for row in rows], dtype=np.float64) for name in COLUMNS}


def _float(text: str | None) -> float:
    try:
        return number(float(text or "nan"))
    except ValueError:
        return math.nan


def over_seeds(curves: Sequence[Curve], across: str, up: str) -> NDArray[np.float64]:
    """Mean curve over seeds with its range, at the steps that all seeds have.

    Returns:
        Rows of x (mean over seeds), mean, lowest and highest value, ``(4, points)``.
    """
    shared: dict[float, list[tuple[float, float]]] = {}
    for curve in curves:
        y = _averaged(curve[up]) if up == "loss" else curve[up]
        for step, x, value in zip(curve["step"], curve[across], y, strict=True):
            if math.isfinite(value) and math.isfinite(x):
                shared.setdefault(float(step), []).append((float(x), float(value)))
    full = [np.array(shared[step]) for step in sorted(shared) if len(shared[step]) == len(curves)]
    if not full:
        return np.empty((4, 0))
    return np.array([[at[:, 0].mean(), at[:, 1].mean(), at[:, 1].min(), at[:, 1].max()] for at in full]).T


def _averaged(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Running mean of a noisy curve over its finite values."""
    width = max(1, len(values) // PARTS)
    finite = np.isfinite(values)
    window = np.ones(2 * width - 1)
    total = np.convolve(np.where(finite, values, 0.0), window)[width - 1 : len(values) + width - 1]
    count = np.convolve(finite.astype(np.float64), window)[width - 1 : len(values) + width - 1]
    return np.where(finite & (count > 0), total / np.maximum(count, 1), np.nan)


def curves_of(group: Group) -> dict[str, list[Curve]]:
    """Learning curves of the seeds of each attention, where they were recorded."""
    found: dict[str, list[Curve]] = {}
    for cell in group.cells:
        if (path := cell.path("curve")) is not None:
            found.setdefault(cell.label, []).append(read_curve(path))
    return {line.label: found[line.label] for line in group.lines if line.label in found}


def learning(curves: Mapping[str, Sequence[Curve]], across: str, up: str, named: str, look: Mapping[str, Style]) -> str:
    """Learning curves of all attentions as SVG, means over seeds in a band from the lowest to the highest seed.

    Args:
        curves: Curves of the seeds of each attention.
        across: Column of the x axis, ``step`` or ``seconds``.
        up: Column of the y axis, ``loss`` or ``score``.
        named: Name of the y axis.
        look: Style of each attention.

    Returns:
        The figure; empty where nothing was recorded.
    """
    lines = {label: over_seeds(seeds, across, up) for label, seeds in curves.items()}
    lines = {label: line for label, line in lines.items() if line.shape[1]}
    if not lines:
        return ""
    figure, axes = sheet({"step": "training step", "seconds": "training time, s"}[across], drawable(named))
    for label, (x, mean, low, high) in lines.items():
        style, mark = look[label], look[label].mark if len(x) <= FEW else None
        axes.plot(x, mean, color=style.colour, linestyle=style.line, linewidth=1.7, marker=mark, markersize=3.5)
        axes.fill_between(x, low, high, color=style.colour, alpha=0.15, linewidth=0)
    axes.set_xlim(left=0)
    _within(axes.set_ylim, [line[1] for line in lines.values()], up == "loss")
    return as_svg(figure, f"{named} against {across} for {', '.join(lines)}")


def _within(set_limits: object, means: Sequence[NDArray[np.float64]], loss: bool) -> None:
    """Limit an axis to the values after the first tenth of a training, whose losses may hide all others."""
    late = np.concatenate([values[len(values) // 10 :] for values in means])
    if loss and len(late):
        low, high = late.min(), late.max()
        room = 0.06 * max(high - low, 1e-9)
        set_limits(low - room, high + room)  # type: ignore[operator]


def front(points: Sequence[tuple[float, float]], sign: int) -> list[int]:
    """Indices of the Pareto front, cheapest first: no other point is both as cheap and as good, and better in one.

    Args:
        points: Cost and quality of each.
        sign: 1 where more quality is better, -1 where less is.
    """
    found: list[int] = []
    for at in sorted(range(len(points)), key=lambda at: (points[at][0], -sign * points[at][1])):
        if not found or sign * points[at][1] > sign * points[found[-1]][1]:
            found.append(at)
    return found


def pareto(comparison: Comparison, lines: Sequence[Line], cost: str, look: Mapping[str, Style]) -> str:
    """Quality against cost as SVG, with the Pareto front; empty for fewer than two points.

    Args:
        comparison: The comparison.
        lines: Attentions.
        cost: ``step time, ms`` or ``memory, MB``.
        look: Style of each attention.
    """
    costs = {line.label: line.timing.step_ms if cost.startswith("step") else line.memory_mb for line in lines}
    shown = [line for line in lines if math.isfinite(costs[line.label]) and line.quality.seeds]
    if len(shown) < 2:
        return ""
    figure, axes = sheet(cost, drawable(comparison.metric))
    points = {line.label: (costs[line.label], line.quality.mean) for line in shown}
    best = [list(points.values())[at] for at in front(list(points.values()), comparison.sign)]
    axes.step(*zip(*best, strict=True), where="post", color=INK, alpha=0.35, linewidth=1.2, linestyle=(0, (4, 3)))
    for line in shown:
        style, (x, y) = look[line.label], points[line.label]
        error = line.quality.error if math.isfinite(line.quality.error) else None
        axes.errorbar(x, y, yerr=error, color=style.colour, marker=style.mark, markersize=6, capsize=3, linewidth=1.4)
    axes.margins(0.14, 0.12)
    if comparison.mode == "min":
        axes.invert_yaxis()
    beside(axes, {drawable(label): point for label, point in points.items()}, {drawable(k): v for k, v in look.items()})
    return as_svg(figure, f"{comparison.metric} against {cost}: {', '.join(points)}")


def critical(found: Ranking, look: Mapping[str, Style]) -> str:
    """Critical difference diagram as SVG: mean ranks, best on top, and bars over those that are not distinguishable."""
    order = sorted(found.ranks, key=lambda name: found.ranks[name])
    figure, axes = sheet("mean rank (1 = best)", "", (SIZE[0], 1.1 + 0.27 * len(order)))
    for row, name in enumerate(order):
        style = look[name]
        axes.plot(found.ranks[name], row, color=style.colour, marker=style.mark, markersize=7)
    last = len(order)
    axes.plot([1, 1 + found.difference], [-1, -1], color=INK, linewidth=2, marker="|", markersize=7)
    axes.text(
        1 + found.difference / 2,
        -1.25,
        f"critical difference {found.difference:.2f}",
        ha="center",
        va="bottom",
        color=INK,
    )
    end = max(last, 1 + found.difference) + 0.15
    for place, clique in enumerate(found.cliques):
        rows = [order.index(name) for name in clique]
        x = end + 0.12 * (place % 6 + 1) * last / 5
        axes.plot(
            [x, x], [rows[0] - 0.25, rows[-1] + 0.25], color=INK, linewidth=3.2, solid_capstyle="butt", clip_on=False
        )
    axes.set_yticks(range(last), [f"{drawable(name)}  {found.ranks[name]:.2f}" for name in order])
    axes.set_ylim(last - 0.4, -2.1)
    axes.set_xlim(0.9, end + 0.12 * (min(6, len(found.cliques)) + 1) * last / 5)
    axes.set_xticks(range(1, last + 1))
    axes.grid(visible=False, axis="y")
    return as_svg(figure, f"mean ranks: {', '.join(f'{name} {found.ranks[name]:.2f}' for name in order)}")
