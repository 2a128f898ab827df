"""Plots of inferred sequences: whole trajectories, and the attention of a single step."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from tabattn.pairs import Attended, Trajectories

DPI = 120
PANEL = (5.2, 3.1)
"""Width and height of the panel of one task, in inches."""
GIVEN, TRUTH, CONTEXT, MEAN, SAMPLE = "black", "#e4695f", "red", "gold", "#8ec9ee"
EDGE, TARGET, LOOKED = "#8a6d00", "limegreen", "darkorange"
BANDS = {"90 % interval": (0, 4, "#dcebf7"), "50 % interval": (1, 3, "#bcd9f0")}
"""Prediction intervals: the indices of the quantiles at both ends, and a colour."""
TOP, MOST = 5, 10
"""Number of strongest keys of each head that are counted, and most keys that are drawn."""

Floats = NDArray[np.float64]


class Task(NamedTuple):
    """Task as arrays: context, each ``(points,)``, and predictions, each ending in ``(targets,)``.

    Attributes:
        x: Locations of the context.
        y: Values of the context.
        member: Members of the context.
        target_x: Locations of the targets.
        target_y: True values of the targets; NaN = unknown.
        target_member: Members of the targets.
        mean: The trajectory of means; None = not drawn.
        samples: Drawn trajectories, ``(samples, targets)``.
        quantiles: Quantiles of the predictions, ``(levels, targets)``.
    """

    x: Floats
    y: Floats
    member: Floats
    target_x: Floats
    target_y: Floats
    target_member: Floats
    mean: Floats | None
    samples: Floats
    quantiles: Floats

    def given(self, of: float) -> bool:
        """Whether all of a sequence is context, so that none of it is a target."""
        return of not in self.target_member

    def sequence(self, of: float) -> tuple[Floats, Floats]:
        """Locations and true values of a sequence, sorted by location."""
        x = np.concatenate([self.x[self.member == of], self.target_x[self.target_member == of]])
        y = np.concatenate([self.y[self.member == of], self.target_y[self.target_member == of]])
        order = np.argsort(x, kind="stable")
        return x[order], y[order]


def task_of(found: Trajectories, number: int) -> Task:
    """Extract one task of a batch, without its padding."""
    context = found.batch.context
    x, y, member = (part[number].double().cpu().numpy() for part in (found.batch.x, found.batch.y, found.batch.member))
    quantiles = _array(found.quantiles[:, number])
    observed, predicted = np.isfinite(y[:context]), np.isfinite(quantiles[0])
    return Task(
        x=x[:context][observed],
        y=y[:context][observed],
        member=member[:context][observed],
        target_x=x[context:][predicted],
        target_y=y[context:][predicted],
        target_member=member[context:][predicted],
        mean=None if found.mean is None else _array(found.mean[number])[predicted],
        samples=_array(found.samples[:, number])[:, predicted],
        quantiles=quantiles[:, predicted],
    )


def draw_trajectories(found: Trajectories, title: str) -> Figure:
    """Plot every task of a batch, each in its own panel."""
    tasks = [task_of(found, number) for number in range(len(found.batch.x))]
    figure, panels = sheet(len(tasks), title)
    for number, (axes, task) in enumerate(zip(panels, tasks, strict=True)):
        draw_task(axes, task)
        axes.set_title(f"task {number}{_error(task)}", fontsize=9)
    legend(figure, tasks)
    return figure


def draw_task(axes: Axes, task: Task) -> None:
    """Plot a task: given sequence black, truth red, mean golden, samples light blue over intervals."""
    for of in np.unique(task.target_member):
        mine = np.flatnonzero(task.target_member == of)
        mine = mine[np.argsort(task.target_x[mine], kind="stable")]
        for low, high, colour in BANDS.values():
            ends = task.quantiles[low][mine], task.quantiles[high][mine]
            axes.fill_between(task.target_x[mine], *ends, color=colour, linewidth=0, zorder=1)
    for sample in task.samples:
        axes.scatter(task.target_x, sample, s=7, color=SAMPLE, linewidth=0, zorder=2)
    _draw_sequences(axes, task)
    if task.mean is not None:
        axes.scatter(task.target_x, task.mean, s=17, color=MEAN, edgecolor=EDGE, linewidth=0.5, zorder=5)
    _limit(axes, [task.y, task.target_y, task.samples, *([] if task.mean is None else [task.mean])])
    label(axes)


def draw_step(found: Trajectories, number: int, step: int, looked: Attended, title: str) -> Figure:
    """Plot the attention of a network when it predicted one target.

    Args:
        found: The trajectories.
        number: Index of the task.
        step: Number of targets predicted before.
        looked: Attention weights of the target over the points that the network had been given by then.
        title: Heading of the picture.
    """
    task = task_of(found, number)
    values = found.samples[0] if found.mean is None else found.mean
    context = found.batch.context
    x, y = _array(found.batch.x[number]), _array(found.batch.y[number])
    y[context:] = _array(values[number])
    walked = context + found.path[number, : step + 1].cpu().numpy()
    order = np.concatenate([np.arange(context), walked])
    x, y = x[order], y[order]
    figure, (axes,) = sheet(1, title)
    _draw_sequences(axes, task)
    axes.scatter(
        x[context : context + step],
        y[context : context + step],
        s=17,
        color=MEAN,
        edgecolor=EDGE,
        linewidth=0.5,
        zorder=4,
    )
    keys = most_attended(looked.weights)
    axes.scatter(x[keys], y[keys], s=44, color=LOOKED, edgecolor="white", linewidth=0.6, zorder=5)
    axes.scatter(x[context + step], y[context + step], s=60, color=TARGET, edgecolor="black", linewidth=0.6, zorder=6)
    _limit(axes, [task.y, task.target_y, y[context : context + step + 1]])
    label(axes)
    marks = {"predicted point": _dot(TARGET), "most attended": _dot(LOOKED), "predicted before": _dot(MEAN, EDGE)}
    _legend(figure, {**_sequence_marks(), **marks})
    return figure


def most_attended(weights: Tensor) -> list[int]:
    """Keys that are most often among the ``TOP`` of a head, at most ``MOST``.

    Args:
        weights: Weights of one query, ``(heads, keys)``; a weight of 0 never counts.

    Returns:
        Indices of keys; of those that occur equally often, the one with most weight is first.
    """
    best = weights.topk(min(TOP, weights.shape[1]), dim=1)
    counts = weights.new_zeros(weights.shape[1])
    counts.index_add_(0, best.indices.flatten(), (best.values > 0).to(counts).flatten())
    keys = sorted(range(len(counts)), key=lambda key: (counts[key].item(), weights[:, key].sum().item()), reverse=True)
    return [key for key in keys[:MOST] if counts[key] > 0]


def sheet(panels: int, title: str, across: int = 2) -> tuple[Figure, list[Axes]]:
    """Create a figure with a grid of panels, and room for a heading and a legend."""
    across = min(across, panels)
    up = -(-panels // across)
    width, height = across * PANEL[0], up * PANEL[1] + 1.05
    figure = Figure((width, height), dpi=DPI)
    grid = figure.subplots(up, across, squeeze=False).flatten()
    figure.subplots_adjust(
        left=0.6 / width,
        right=1 - 0.15 / width,
        bottom=(0.9 if across == 1 else 0.7) / height,
        top=1 - 0.6 / height,
        wspace=0.17,
        hspace=0.36,
    )
    figure.suptitle(title, fontsize=10, y=1 - 0.1 / height)
    for axes in grid:
        axes.tick_params(labelsize=7)
    for axes in grid[panels:]:
        axes.set_axis_off()
    return figure, list(grid[:panels])


def label(axes: Axes, x: str = "location x", y: str = "value y") -> None:
    """Label both axes of a panel."""
    axes.set_xlabel(x, fontsize=7, labelpad=1)
    axes.set_ylabel(y, fontsize=7, labelpad=1)


def legend(figure: Figure, tasks: Sequence[Task]) -> None:
    """Add the legend of ``draw_task`` below a figure."""
    marks: dict[str, Line2D | Patch] = dict(_sequence_marks())
    if any(task.mean is not None for task in tasks):
        marks["mean trajectory"] = _dot(MEAN, EDGE)
    if any(len(task.samples) for task in tasks):
        marks["samples"] = _dot(SAMPLE)
    _legend(figure, {**marks, **{name: Patch(color=colour) for name, (_, _, colour) in reversed(BANDS.items())}})


def _draw_sequences(axes: Axes, task: Task) -> None:
    for of in np.unique(np.concatenate([task.member, task.target_member])):
        x, y = task.sequence(of)
        if task.given(of):
            axes.plot(x, y, color=GIVEN, linewidth=1.1, marker=".", markersize=3, zorder=3)
        else:
            axes.plot(x, y, color=TRUTH, linewidth=1.1, zorder=3)
            axes.scatter(task.x[task.member == of], task.y[task.member == of], s=17, color=CONTEXT, zorder=4)


def _sequence_marks() -> dict[str, Line2D | Patch]:
    return {
        "given sequence": Line2D([], [], color=GIVEN, linewidth=1.4, marker=".", markersize=4),
        "truth": Line2D([], [], color=TRUTH, linewidth=1.4),
        "context": _dot(CONTEXT),
    }


def _dot(colour: str, edge: str | None = None) -> Line2D:
    return Line2D([], [], color=colour, marker="o", linestyle="", markersize=5, markeredgecolor=edge or colour)


def _legend(figure: Figure, marks: dict[str, Line2D | Patch]) -> None:
    columns = len(marks) if figure.get_figwidth() > 8 else -(-len(marks) // 2)
    figure.legend(marks.values(), marks.keys(), loc="lower center", ncols=columns, fontsize=8, frameon=False)


def _limit(axes: Axes, values: Iterable[Floats]) -> None:
    """Fit the vertical axis to the values; prediction intervals may be too wide for it."""
    finite = np.concatenate([part[np.isfinite(part)] for part in values])
    if not finite.size:
        return
    room = 0.06 * max(float(np.ptp(finite)), 1e-6)
    axes.set_ylim(float(finite.min()) - room, float(finite.max()) + room)


def _error(task: Task) -> str:
    """Error of the mean trajectory, for the panel's title."""
    if task.mean is None or not np.isfinite(task.target_y).any():
        return ""
    errors = task.mean - task.target_y
    errors = errors[np.isfinite(errors)]
    if not errors.size:
        return ": no finite prediction"
    return f": first error {errors[0]:+.2f}, RMSE {np.sqrt(np.mean(errors**2)):.2f}"


def _array(values: Tensor) -> Floats:
    array: Floats = values.double().cpu().numpy()
    return array
