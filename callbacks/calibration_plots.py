"""Plots of calibration: reliability diagrams, coverage curves and PIT histograms."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from callbacks.labels import drawable
from callbacks.outcomes import Pool
from callbacks.scored import BAR, LEVELS, LINE, POINT, Floats, coverage, reliability

DPI, SIDE, MOST_ACROSS = 110, 3.6, 4
"""Resolution, side of a panel in inches, and most panels in a row."""


class Panel(NamedTuple):
    """Predictions of one panel: of classes, confidence and whether they are right; of numbers, the PIT."""

    name: str
    confidence: Floats
    right: NDArray[np.bool_] | None


class Measured(NamedTuple):
    """Scalars of all columns together, and what panels show."""

    scalars: dict[str, float]
    panels: list[Panel]


def expected_calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int) -> float:
    """Mean distance between confidence and share of right predictions over bins, weighted by their rows."""
    mean, frequency, counts = reliability(confidence, right, bins)
    return float((counts * np.abs(mean - frequency)).sum() / counts.sum())


def coverage_error(below: Floats) -> float:
    """Mean distance between observed and nominal coverage of central intervals."""
    return float(np.abs(coverage(below) - LEVELS).mean())


def measured(pools: Mapping[str, Pool], bins: int) -> Measured:
    """Measure calibration of all columns of each kind together; a kind of several columns has a panel of all."""
    classes: list[Panel] = []
    numbers: list[Panel] = []
    for name, pool in pools.items():
        found = pool.classes
        panel = Panel(name, pool.below, None) if found is None else Panel(name, found.confidence, found.right)
        if len(panel.confidence):
            (numbers if found is None else classes).append(panel)
    scalars: dict[str, float] = {}
    panels: list[Panel] = []
    for group in (classes, numbers):
        if not group:
            continue
        confidence = np.concatenate([panel.confidence for panel in group])
        parts = [panel.right for panel in group if panel.right is not None]
        right = np.concatenate(parts) if parts else None
        if right is None:
            scalars["coverage_error"] = coverage_error(confidence)
        else:
            scalars["ece"] = expected_calibration_error(confidence, right, bins)
        panels += [Panel(f"all {len(group)} together", confidence, right), *group] if len(group) > 1 else group
    return Measured(scalars, panels)


def draw(panels: list[Panel], title: str, bins: int) -> Figure:
    """Draw a panel for each column of classes, and two for each of numbers."""
    drawn = [(panel, kind) for panel in panels for kind in (("coverage", "pit") if panel.right is None else ("ece",))]
    across = min(MOST_ACROSS, len(drawn))
    up = -(-len(drawn) // across)
    width, height = max(across * SIDE, 5.0), up * SIDE + 0.35
    figure = Figure((width, height), dpi=DPI)
    grid = figure.subplots(up, across, squeeze=False).flatten()
    figure.subplots_adjust(
        left=0.55 / width, right=1 - 0.12 / width, bottom=0.5 / height, top=1 - 0.85 / height, wspace=0.28, hspace=0.45
    )
    figure.suptitle(drawable(title), fontsize=11, y=1 - 0.08 / height)
    for axes, (panel, kind) in zip(grid, drawn, strict=False):
        axes.tick_params(labelsize=7)
        axes.set_xlim(0, 1)
        if panel.right is not None:
            _reliability(axes, panel.name, panel.confidence, panel.right, bins)
        elif kind == "coverage":
            _coverage(axes, panel)
        else:
            _transforms(axes, panel)
    for axes in grid[len(drawn) :]:
        axes.set_axis_off()
    return figure


def _reliability(axes: Axes, name: str, confidence: Floats, right: NDArray[np.bool_], bins: int) -> None:
    edges = np.linspace(0, 1, bins + 1)
    shares = np.bincount(np.digitize(confidence, edges[1:-1], right=True), minlength=bins) / len(confidence)
    mean, frequency, _ = reliability(confidence, right, bins)
    axes.bar(edges[:-1], shares, width=1 / bins, align="edge", color=BAR, edgecolor="white", zorder=0)
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, linestyle="--")
    axes.plot(mean, frequency, color=POINT, marker="o", markersize=4, linewidth=1.4)
    axes.set_ylim(0, 1.02)
    error = expected_calibration_error(confidence, right, bins)
    _say(axes, name, f"ECE {error:.3f}, accuracy {right.mean():.3f}, {len(right)} rows")
    _label(axes, "confidence; bars: share of rows", "share of right predictions")


def _coverage(axes: Axes, panel: Panel) -> None:
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, linestyle="--")
    axes.plot(LEVELS, coverage(panel.confidence), color=POINT, marker="o", markersize=3, linewidth=1.4)
    axes.set_ylim(0, 1.02)
    _say(axes, panel.name, f"coverage error {coverage_error(panel.confidence):.3f}, {len(panel.confidence)} values")
    _label(axes, "nominal probability of the interval", "observed share (below = too sure)")


def _transforms(axes: Axes, panel: Panel) -> None:
    counts, edges = np.histogram(panel.confidence, bins=10, range=(0.0, 1.0))
    axes.bar(edges[:-1], counts / max(1, counts.sum()), width=0.1, align="edge", color=BAR, edgecolor="white")
    axes.axhline(0.1, color=LINE, linewidth=1, linestyle="--")
    _say(axes, panel.name, "PIT histogram: level = calibrated")
    _label(axes, "predicted cumulative probability of the truth", "share of values")


def _say(axes: Axes, name: str, text: str) -> None:
    shown = drawable(name)
    axes.set_title(f"{shown if len(shown) <= 40 else shown[:39] + '…'}\n{text}", fontsize=8)


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=7.5)
    axes.set_ylabel(y, fontsize=7.5)
