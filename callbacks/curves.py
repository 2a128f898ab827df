"""Plots of inferred sequences: whole trajectories, beside the exact density where it is known."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from tabattn.contract.views import ExactDensity
from tabattn.pairs import Trajectories
from tabattn.pairs.mixtures import quantiles

DPI = 120
PANEL = (5.2, 3.1)
"""Width and height of the panel of one task, in inches."""
GIVEN, TRUTH, CONTEXT, MEAN, SAMPLE = "black", "#e4695f", "red", "gold", "#8ec9ee"
EDGE, EXACT = "#8a6d00", "#1b7837"
BANDS = {"90 % interval": (0, 4, "#dcebf7"), "50 % interval": (1, 3, "#bcd9f0")}
"""Prediction intervals: the indices of the quantiles at both ends, and a colour."""

SHORT = 0.004
"""Half the width at which a single target between two points of context is drawn, as a share of the axis."""

Floats = NDArray[np.float64]
Marks = dict[str, Line2D | Patch]
"""Legend entries by their texts."""


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
        exact: Mean and 5 % and 95 % quantiles of the exact density, ``(3, targets)``; None = unknown.
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
    exact: Floats | None = None

    def given(self, of: float) -> bool:
        """Whether all of a sequence is context, so that none of it is a target."""
        return of not in self.target_member

    def sequence(self, of: float) -> tuple[Floats, Floats]:
        """Locations and true values of a sequence, sorted by location."""
        x = np.concatenate([self.x[self.member == of], self.target_x[self.target_member == of]])
        y = np.concatenate([self.y[self.member == of], self.target_y[self.target_member == of]])
        order = np.argsort(x, kind="stable")
        return x[order], y[order]


def task_of(found: Trajectories, number: int, exact: ExactDensity | None = None) -> Task:
    """Extract one task of a batch, without its padding; ``exact`` is the density of its targets, if known."""
    context = found.batch.context
    x, y, member = (part[number].double().cpu().numpy() for part in (found.batch.x, found.batch.y, found.batch.member))
    bands = _array(found.quantiles[:, number])
    observed, predicted = np.isfinite(y[:context]), np.isfinite(bands[0])
    return Task(
        x=x[:context][observed],
        y=y[:context][observed],
        member=member[:context][observed],
        target_x=x[context:][predicted],
        target_y=y[context:][predicted],
        target_member=member[context:][predicted],
        mean=None if found.mean is None else _array(found.mean[number])[predicted],
        samples=_array(found.samples[:, number])[:, predicted],
        quantiles=bands[:, predicted],
        exact=None if exact is None else exact_bands(exact, number)[:, predicted],
    )


def exact_bands(exact: ExactDensity, number: int) -> Floats:
    """Mean and 5 % and 95 % quantiles of the targets of a task, ``(3, targets)``; NaN for padding."""
    weights, means, stds = exact.weights[number], exact.means[number], exact.stds[number]
    ends = quantiles(weights.expand_as(means), means.nan_to_num(0.0), stds.nan_to_num(1.0))
    low, high = (end.masked_fill(means.isnan().any(-1), torch.nan) for end in (ends[0], ends[-1]))
    return _array(torch.stack([(weights * means).sum(-1), low, high]))


def draw_trajectories(tasks: Sequence[tuple[str, Task]], title: str) -> Figure:
    """Plot tasks by name, each in its own panel."""
    figure, panels = sheet(len(tasks), title)
    for axes, (name, task) in zip(panels, tasks, strict=True):
        draw_task(axes, task)
        axes.set_title(f"{name}{_error(task)}", fontsize=9)
    legend(figure, [task for _, task in tasks])
    return figure


def draw_task(axes: Axes, task: Task) -> None:
    """Plot a task: given sequence black, truth red, mean golden, samples light blue over intervals, exact green."""
    for of in np.unique(task.target_member):
        mine = task.target_member == of
        x, bands = broken(task.target_x[mine], task.quantiles[:, mine], task.x[task.member == of])
        for low, high, colour in BANDS.values():
            axes.fill_between(x, bands[low], bands[high], color=colour, linewidth=0, zorder=1)
    for sample in task.samples:
        axes.scatter(task.target_x, sample, s=7, color=SAMPLE, linewidth=0, zorder=2)
    draw_sequences(axes, task)
    if task.mean is not None:
        axes.scatter(task.target_x, task.mean, s=17, color=MEAN, edgecolor=EDGE, linewidth=0.5, zorder=5)
    if task.exact is not None:
        draw_exact(axes, (task.target_x, task.target_member), task.exact, (task.x, task.member), lambda member: EXACT)
    also = [part for part in (task.mean, task.exact) if part is not None]
    limit(axes, [task.y, task.target_y, task.samples, *also])
    label(axes)


def draw_exact(
    axes: Axes,
    targets: tuple[Floats, Floats],
    exact: Floats,
    context: tuple[Floats, Floats],
    colours: Callable[[int], str],
) -> None:
    """Plot the exact density of targets: its mean as a dashed line, the ends of its 90 % interval as dotted ones.

    Args:
        axes: Panel.
        targets: Locations and members of the targets, each ``(targets,)``.
        exact: Mean and both ends, ``(3, targets)``.
        context: Locations and members of the context, at which the lines of a member break.
        colours: Colour of the lines of a member.
    """
    (x, member), (known_x, known_member) = targets, context
    for of in np.unique(member):
        mine = member == of
        places, lines = broken(x[mine], exact[:, mine], known_x[known_member == of])
        for values, style, width in zip(lines, ("--", ":", ":"), (1.2, 1.0, 1.0), strict=True):
            axes.plot(places, values, color=colours(int(of)), linestyle=style, linewidth=width, zorder=6)


def broken(x: Floats, values: Floats, context: Floats) -> tuple[Floats, Floats]:
    """Lines that break at context: targets by location, and NaN between two that have context between them.

    A single target between two points of context becomes a short level line.

    Args:
        x: Locations of the targets of a sequence, ``(targets,)``.
        values: Values of each line, ``(lines, targets)``.
        context: Locations of the context of the sequence, ``(points,)``.

    Returns:
        Locations ``(places,)`` and values ``(lines, places)``.
    """
    order = np.argsort(x, kind="stable")
    x, values = x[order], values[:, order]
    known = np.sort(context)
    apart = np.searchsorted(known, x[1:], "left") > np.searchsorted(known, x[:-1], "right")
    half = SHORT * float(np.ptp(np.concatenate([x, context])))
    places, lines = [], []
    for run in np.split(np.arange(len(x)), np.flatnonzero(apart) + 1):
        alone = len(run) == 1
        places += [x[run] + np.array([-half, half]) if alone else x[run], [np.nan]]
        lines += [values[:, run].repeat(2 if alone else 1, axis=1), np.full((len(values), 1), np.nan)]
    return np.concatenate(places[:-1]), np.concatenate(lines[:-1], axis=1)


def sheet(panels: int, title: str, across: int = 2) -> tuple[Figure, list[Axes]]:
    """Create a figure with a grid of panels, and room for a heading and a legend."""
    across = min(across, panels)
    up = -(-panels // across)
    width, height = across * PANEL[0], up * PANEL[1] + (1.05 if across == 1 else 1.25)
    figure = Figure((width, height), dpi=DPI)
    grid = figure.subplots(up, across, squeeze=False).flatten()
    figure.subplots_adjust(
        left=0.66 / width,
        right=1 - 0.15 / width,
        bottom=0.9 / height,
        top=1 - 0.6 / height,
        wspace=0.19,
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
    marks = sequence_marks(tasks)
    if any(task.mean is not None for task in tasks):
        marks["mean trajectory"] = dot(MEAN, EDGE)
    if any(len(task.samples) for task in tasks):
        marks["samples"] = dot(SAMPLE)
    marks |= {name: Patch(color=colour) for name, (_, _, colour) in reversed(BANDS.items())}
    if any(task.exact is not None for task in tasks):
        marks |= exact_marks()
    draw_legend(figure, marks)


def draw_sequences(axes: Axes, task: Task) -> None:
    """Plot the true sequences of a task: those given black, those to infer red with their context as dots."""
    for of in np.unique(np.concatenate([task.member, task.target_member])):
        x, y = task.sequence(of)
        if task.given(of):
            axes.plot(x, y, color=GIVEN, linewidth=1.1, marker=".", markersize=3, zorder=3)
        else:
            axes.plot(x, y, color=TRUTH, linewidth=1.1, zorder=3)
            axes.scatter(task.x[task.member == of], task.y[task.member == of], s=17, color=CONTEXT, zorder=4)


def sequence_marks(tasks: Sequence[Task]) -> Marks:
    """Legend entries of ``draw_sequences``."""
    marks: Marks = {}
    if any(task.given(of) for task in tasks for of in np.unique(task.member)):
        marks["given sequence"] = Line2D([], [], color=GIVEN, linewidth=1.4, marker=".", markersize=4)
    return {**marks, "truth": Line2D([], [], color=TRUTH, linewidth=1.4), "context": dot(CONTEXT)}


def exact_marks(colour: str = EXACT) -> Marks:
    """Legend entries of ``draw_exact``."""
    return {
        "exact mean": Line2D([], [], color=colour, linewidth=1.4, linestyle="--"),
        "exact 90 % interval": Line2D([], [], color=colour, linewidth=1.4, linestyle=":"),
    }


def dot(colour: str, edge: str | None = None) -> Line2D:
    """Legend entry of points."""
    return Line2D([], [], color=colour, marker="o", linestyle="", markersize=5, markeredgecolor=edge or colour)


def draw_legend(figure: Figure, marks: Marks) -> None:
    """Add a legend below a figure, in as many lines as its width needs."""
    room = figure.get_figwidth() - 0.3
    columns = max(1, min(len(marks), int(room / (0.45 + 0.068 * max(map(len, marks))))))
    columns = -(-len(marks) // -(-len(marks) // columns))
    figure.legend(marks.values(), marks.keys(), loc="lower center", ncols=columns, fontsize=8, frameon=False)


def limit(axes: Axes, values: Iterable[Floats]) -> None:
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
    best = "" if task.exact is None else f" (exact {_root_mean_square(task.exact[0] - task.target_y):.2f})"
    return f": first error {errors[0]:+.2f}, RMSE {_root_mean_square(errors):.2f}{best}"


def _root_mean_square(errors: Floats) -> float:
    return float(np.sqrt(np.nanmean(errors**2)))


def _array(values: Tensor) -> Floats:
    array: Floats = values.double().cpu().numpy()
    return array
