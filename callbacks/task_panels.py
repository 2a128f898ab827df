"""Plots of tasks of sequences before anything is predicted: context and targets, by member."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from callbacks.curves import Marks, draw_exact, draw_legend, exact_bands, exact_marks, label, sheet
from callbacks.labels import drawable
from tabattn.contract.batches import PairBatch
from tabattn.contract.views import ExactDensity

LONGEST, MOST_NAMED = 24, 10
"""Most letters of a sequence's name, and most sequences in the legend."""


class Example(NamedTuple):
    """Task to plot.

    Attributes:
        title: Heading of its panel.
        batch: A batch, on the CPU.
        number: Index of the task in the batch.
        exact: Exact density of the targets of the batch; None = unknown.
    """

    title: str
    batch: PairBatch
    number: int
    exact: ExactDensity | None = None


def draw_examples(examples: Sequence[Example], title: str, names: Sequence[str] | None = None) -> Figure:
    """Plot tasks, each in its own panel: a colour for each member, context as dots, targets as rings.

    Args:
        examples: The tasks.
        title: Heading of the picture.
        names: Names of the sequences; None = their numbers.
    """
    figure, panels = sheet(len(examples), title)
    for axes, example in zip(panels, examples, strict=True):
        _draw_example(axes, example)
    draw_legend(figure, _marks(examples, names))
    return figure


def colour_of(member: int) -> str:
    """Colour of a member; they recur after ten."""
    colours = colormaps["tab10"]
    return to_hex(colours(member % colours.N))


def _darker(member: int) -> str:
    red, green, blue = to_rgb(colour_of(member))
    return to_hex((0.55 * red, 0.55 * green, 0.55 * blue))


def _draw_example(axes: Axes, example: Example) -> None:
    batch, number, context = example.batch, example.number, example.batch.context
    there = np.isfinite(batch.x[number].numpy())
    if batch.padding is not None:
        there &= ~batch.padding[number].numpy()
    x, y = batch.x[number].double().numpy(), batch.y[number].double().numpy()
    member, known = batch.member[number].numpy(), np.arange(len(x)) < context
    for each in np.unique(member[there]):
        mine = there & (member == each) & np.isfinite(y)
        order = np.flatnonzero(mine)[np.argsort(x[mine], kind="stable")]
        colour = colour_of(int(each))
        axes.plot(x[order], y[order], color=colour, linewidth=0.8, alpha=0.5, zorder=2)
        for shown, face in ((mine & known, colour), (mine & ~known, "white")):
            axes.scatter(x[shown], y[shown], s=18, facecolor=face, edgecolor=colour, linewidth=1.0, zorder=3)
    if example.exact is not None:
        asked = there & ~known
        bands = exact_bands(example.exact, number)[:, asked[context:]]
        shown = there & known & np.isfinite(y)
        draw_exact(axes, (x[asked], member[asked]), bands, (x[shown], member[shown]), _darker)
    given, asked = (int((there & part & (np.isfinite(y) | ~known)).sum()) for part in (known, ~known))
    axes.set_title(f"{example.title}: {given} context, {asked} targets", fontsize=9)
    label(axes)


def _marks(examples: Sequence[Example], names: Sequence[str] | None) -> Marks:
    members = sorted({int(each) for example in examples for each in example.batch.member[example.number].unique()})
    marks: Marks = {
        "context": Line2D([], [], color="dimgray", marker="o", linestyle="", markersize=5),
        "target": Line2D([], [], color="dimgray", marker="o", linestyle="", markersize=5, markerfacecolor="white"),
    }
    for each in members[:MOST_NAMED]:
        name = f"member {each}" if names is None else drawable(str(names[each]))
        marks[name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"] = Patch(color=colour_of(each))
    return marks | exact_marks("dimgray") if any(example.exact is not None for example in examples) else marks
