"""Plots of scored columns: predictions against truth, coverage curves and reliability diagrams."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from callbacks.labels import drawable
from tabattn.contract.views import ScoredColumn, rounded

DPI = 110
PANEL, HEIGHT = 5.0, 4.8
"""Width and height of a panel, in inches."""
POINT, LINE, BAR = "#2f6f9f", "#555555", "#bcd9f0"
LONGEST, MOST_COUNTS, MOST_CATEGORIES = 16, 12, 30
"""Most letters of a category's name, most categories whose counts are written, and most whose names are."""
LEVELS = np.linspace(0.0, 1.0, 21)
"""Nominal probabilities of central intervals in a coverage curve."""

Floats = NDArray[np.float64]


def draw(column: ScoredColumn, when: str, most: int, bins: int) -> Figure:
    """Plot predictions of a column against truth, and their calibration.

    Args:
        column: Truth and predictions; at least one row.
        when: When they were made, for the heading.
        most: Most points of a scatter plot.
        bins: Bins of a reliability diagram.
    """
    truth, predicted = column.truth.double().numpy(), column.predicted.double().numpy()
    finite = np.isfinite(predicted).reshape(len(truth), -1).all(1)
    lost = f", {int((~finite).sum())} of them without a finite prediction" if not finite.all() else ""
    truth, predicted = truth[finite], predicted[finite]
    number = 2 if column.categories else 3
    figure = Figure((number * PANEL, HEIGHT), dpi=DPI)
    panels = figure.subplots(1, number)
    figure.subplots_adjust(left=0.18 / number, right=1 - 0.06 / number, bottom=0.13, top=0.82, wspace=0.28)
    figure.suptitle(f"{_cut(column.name, 60)}, {when}: {len(finite)} rows{lost}", fontsize=11)
    if not len(truth):
        return figure
    if column.categories:
        _confusion(panels[0], truth.astype(int), predicted, column.categories)
        _reliability(panels[1], truth.astype(int), predicted, column.categories, bins)
    else:
        assert column.below is not None
        _scatter(panels[0], truth, predicted, most)
        below = column.below.double().numpy()[finite]
        _coverage(panels[1], below)
        _transforms(panels[2], below)
    for axes in panels:
        axes.tick_params(labelsize=8)
        axes.title.set_fontsize(9)
    return figure


def _scatter(axes: Axes, truth: Floats, predicted: Floats, most: int) -> None:
    error = predicted - truth
    rmse, mae = float(np.sqrt(np.mean(error**2))), float(np.mean(np.abs(error)))
    shown = np.arange(len(truth)) if len(truth) <= most else np.linspace(0, len(truth) - 1, most).round().astype(int)
    axes.scatter(truth[shown], predicted[shown], s=14, color=POINT, alpha=0.6, linewidths=0)
    both = np.concatenate([truth, predicted])
    room = 0.04 * max(float(np.ptp(both)), 1e-9 * float(np.abs(both).max()), 1e-12)
    ends = [float(both.min()) - room, float(both.max()) + room]
    axes.plot(ends, ends, color=LINE, linewidth=1, linestyle="--")
    axes.set_xlim(ends[0], ends[1])
    axes.set_ylim(ends[0], ends[1])
    part = f", {len(shown)} of {len(truth)} points" if len(shown) < len(truth) else ""
    axes.set_title(f"RMSE {rounded(rmse, 4)}, MAE {rounded(mae, 4)}{part}")
    _name(axes, "truth", "prediction (mean)")


def coverage(below: Floats) -> Floats:
    """Observed share of truths in the central interval of each of ``LEVELS``.

    Args:
        below: Predicted cumulative probability of each truth, ``(rows,)``.
    """
    inside = 2 * np.abs(below - 0.5)
    return np.asarray([(inside <= level).mean() for level in LEVELS])


def _coverage(axes: Axes, below: Floats) -> None:
    found = coverage(below)
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, linestyle="--")
    axes.plot(LEVELS, found, color=POINT, marker="o", markersize=3.5, linewidth=1.4)
    half, most = (float(found[np.searchsorted(LEVELS, level - 1e-9)]) for level in (0.5, 0.9))
    axes.set_title(
        f"coverage: {half:.0%} of truths in the 50 % interval,\n{most:.0%} in the 90 %; below the line = too sure"
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    _name(axes, "nominal probability of the central interval", "observed share")


def _transforms(axes: Axes, below: Floats) -> None:
    counts, edges = np.histogram(below, bins=10, range=(0.0, 1.0))
    axes.bar(edges[:-1], counts / len(below), width=0.1, align="edge", color=BAR, edgecolor="white")
    axes.axhline(0.1, color=LINE, linewidth=1, linestyle="--")
    axes.set_title("PIT histogram: level = calibrated,\nhigh at both ends = too sure, at one end = biased")
    axes.set_xlim(0, 1)
    _name(axes, "predicted cumulative probability of the truth", "share of rows")


def _confusion(axes: Axes, truth: NDArray[np.int64], predicted: Floats, categories: tuple[str, ...]) -> None:
    number = len(categories)
    counts = np.zeros((number, number), int)
    np.add.at(counts, (truth, predicted.argmax(1)), 1)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap=colormaps["Blues"], vmin=0, vmax=1.25, aspect="auto")
    if number <= MOST_COUNTS:
        for place in np.ndindex(number, number):
            colour = "white" if share[place] > 0.6 else "black"
            axes.text(place[1], place[0], str(counts[place]), ha="center", va="center", fontsize=8, color=colour)
    step = -(-number // MOST_CATEGORIES)
    places, names = list(range(0, number, step)), [_cut(name, LONGEST) for name in categories[::step]]
    turned = max(map(len, names)) * len(names) > 40
    axes.set_xticks(places, names, rotation=90 if turned else 0)
    axes.set_yticks(places, names)
    right = float((predicted.argmax(1) == truth).mean())
    axes.set_title(f"accuracy {right:.1%}; numbers of rows\nshade = share of the truth's rows")
    _name(axes, "prediction (most probable)", "truth")


def reliability(chance: Floats, happened: NDArray[np.bool_], bins: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Mean predicted probability, observed frequency and number of rows of each bin that is not empty.

    Args:
        chance: Predicted probability of an event, ``(rows,)``.
        happened: Whether it happened, ``(rows,)``.
        bins: Number of bins of equal width over [0, 1].
    """
    places = np.digitize(chance, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    counts = np.bincount(places, minlength=bins)
    sums = (np.bincount(places, weights=part, minlength=bins) for part in (chance, happened.astype(float)))
    mean, frequency = (part[counts > 0] / counts[counts > 0] for part in sums)
    return mean, frequency, counts[counts > 0]


def _reliability(
    axes: Axes, truth: NDArray[np.int64], predicted: Floats, categories: tuple[str, ...], bins: int
) -> None:
    if len(categories) == 2:
        chance, happened = predicted[:, 1], truth == 1
        event = f"of {_cut(categories[1], LONGEST)}"
    else:
        chance, happened = predicted.max(1), predicted.argmax(1) == truth
        event = "of the most probable category"
    mean, frequency, counts = reliability(chance, happened, bins)
    error = float((counts * np.abs(mean - frequency)).sum() / counts.sum())
    edges = np.linspace(0, 1, bins + 1)
    shares = np.bincount(np.digitize(chance, edges[1:-1], right=True), minlength=bins) / len(chance)
    axes.bar(edges[:-1], shares, width=1 / bins, align="edge", color=BAR, edgecolor="white", zorder=0)
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, linestyle="--")
    axes.plot(mean, frequency, color=POINT, marker="o", markersize=4, linewidth=1.4)
    axes.set_title(f"reliability: ECE {error:.3f} in {bins} bins; bars: share of rows")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    _name(axes, f"predicted probability {event}", "observed frequency")


def _name(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)


def _cut(text: str, longest: int) -> str:
    shown = drawable(text)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
