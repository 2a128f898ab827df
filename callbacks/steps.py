"""Plots of attention at single steps of a trajectory."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.curves import (
    EDGE,
    MEAN,
    Floats,
    dot,
    draw_legend,
    draw_sequences,
    label,
    limit,
    sequence_marks,
    sheet,
    task_of,
)
from tabattn.pairs import Attended, Trajectories

TARGET, LOOKED = "limegreen", "darkorange"
TOP, MOST = 5, 10
"""Number of strongest keys of each head that are counted, and most keys that are drawn, for all heads together."""
LEAST, LARGEST = 0.01, 90.0
"""Least weight of a head that is drawn, as a share of its largest one, and the area of the dot of that."""
ACROSS = 4
"""Most panels in a row."""


class Walked(NamedTuple):
    """Points that a network had been given when it predicted a target, and last this target.

    Attributes:
        x: Locations, ``(points,)``.
        y: True values of the context, then predicted values.
        context: Number of context points.
    """

    x: Floats
    y: Floats
    context: int


def draw_step(
    found: Trajectories, number: int, looks: Sequence[Attended], heads: Sequence[int] | None, title: str
) -> Figure:
    """Plot the attention of layers when they predicted one target, with a panel for each layer and head.

    Args:
        found: The trajectories.
        number: Index of the task.
        looks: Attention weights of the target over the points that the network had been given by then, by layer.
        heads: Heads to draw; None = all heads together, of which the points are drawn that are most often among the
            strongest.
        title: Heading of the picture.
    """
    task, walked = task_of(found, number), _walked(found, number, looks[0].step)
    groups: list[int | None] = [*heads] if heads else [None]
    panels = [(look, head) for look in looks for head in groups]
    figure, grid = sheet(len(panels), title, across=min(ACROSS, len(heads)) if heads else 2)
    for axes, (look, head) in zip(grid, panels, strict=True):
        draw_sequences(axes, task)
        if head is None:
            _draw_most(axes, walked, look.weights)
        else:
            _draw_head(axes, walked, look.weights[head])
        if len(panels) > 1 or heads:
            axes.set_title(look.layer if head is None else _named(look, head), fontsize=8)
        known, own = walked.y[walked.context : -1], walked.y[-1:]
        place = walked.x[walked.context :]
        axes.scatter(place[:-1], known, s=17, color=MEAN, edgecolor=EDGE, linewidth=0.5, zorder=4)
        axes.scatter(place[-1:], own, s=60, color=TARGET, edgecolor="black", linewidth=0.6, zorder=6)
        limit(axes, [task.y, task.target_y, walked.y[walked.context :]])
        label(axes)
    looked = "most attended" if heads is None else "attended (area: weight)"
    marks = {"predicted point": dot(TARGET), looked: dot(LOOKED), "predicted before": dot(MEAN, EDGE)}
    draw_legend(figure, {**sequence_marks([task]), **marks})
    return figure


def _named(look: Attended, head: int) -> str:
    weights = look.weights[head]
    largest = f", largest weight {float(weights.max()):.2f}" if weights.numel() else ""
    return f"{look.layer}\nhead {head}{largest}"


def _draw_most(axes: Axes, walked: Walked, weights: Tensor) -> None:
    keys = most_attended(weights)
    axes.scatter(walked.x[keys], walked.y[keys], s=44, color=LOOKED, edgecolor="white", linewidth=0.6, zorder=5)


def _draw_head(axes: Axes, walked: Walked, weights: Tensor) -> None:
    """Plot the points that a head attends to, with areas in proportion to their weights."""
    share = weights.double().cpu().numpy()
    share = share / max(share.max(initial=0.0), np.finfo(float).tiny)
    keys = np.flatnonzero(share >= LEAST)
    x, y = walked.x[keys], walked.y[keys]
    axes.scatter(x, y, s=LARGEST * share[keys], color=LOOKED, edgecolor="white", linewidth=0.4, zorder=5)


def _walked(found: Trajectories, number: int, step: int) -> Walked:
    values = found.samples[0] if found.mean is None else found.mean
    context = found.batch.context
    x, y = (part[number].double().cpu().numpy() for part in (found.batch.x, found.batch.y))
    y = y.copy()
    y[context:] = values[number].double().cpu().numpy()
    order = np.concatenate([np.arange(context), context + found.path[number, :step].cpu().numpy()])
    return Walked(x[order], y[order], context)


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
