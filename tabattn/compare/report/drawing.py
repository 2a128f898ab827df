"""Drawing of figures as inline SVG, which takes the text colour of its page and refers to nothing outside it."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from callbacks.labels import without_mathematics

INK = "#010203"
"""Colour of text and axes in a figure, for which the page puts its own."""
POINTS = 9.0
"""Font size; a figure is about as wide as a telephone."""
SIZE = (4.4, 2.9)
COLOURS = ("#808080", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colours for colour-blind readers (Okabe and Ito 2008), legible on white and on black; the first is grey."""
MARKS = ("o", "s", "^", "D")
DASHES = ("solid", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))


class Style(NamedTuple):
    """Style of an attention in all figures: colour, marker and line."""

    colour: str
    mark: str
    line: Any

    @property
    def dashes(self) -> str:
        """Dashes of the line as SVG has them, for a width of 2.4."""
        return "" if self.line == "solid" else " ".join(f"{2.4 * length:g}" for length in self.line[1])


def styles(labels: Sequence[str], reference: str) -> dict[str, Style]:
    """Style of each attention; the reference is grey."""
    order = [reference, *(label for label in labels if label != reference)]
    found = {}
    for at, label in enumerate(order):
        cycle = (at // len(COLOURS)) % len(MARKS)
        found[label] = Style(COLOURS[at % len(COLOURS)], MARKS[cycle], DASHES[cycle])
    return found


def sheet(across: str, up: str, size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    """Figure with one pair of axes in the colour of the text."""
    with rc_context({"font.size": POINTS}):
        figure = Figure(size, layout="constrained")
        axes = figure.subplots()
        axes.set_xlabel(across, color=INK)
        axes.set_ylabel(up, color=INK)
        axes.tick_params(colors=INK, labelsize=POINTS)
    axes.grid(color="#80808044", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    return figure, axes


def as_svg(figure: Figure, described: str) -> str:
    """Render a figure as an element of an HTML page.

    Args:
        figure: The figure.
        described: What it shows, for readers who do not see it.
    """
    without_mathematics(figure)
    told = io.StringIO()
    nameless = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "tabattn"}):
        figure.savefig(told, format="svg", transparent=True, metadata=nameless)
    text = told.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = text.replace("xlink:href", "href").replace(INK, "currentColor")
    box = re.search(r'viewBox="[^"]+"', text)
    assert box is not None
    head = f'<svg {box[0]} role="img" aria-label="{_escaped(described)}">'
    return head + text[text.index(">") + 1 :].strip()


def unique(svg: str, name: str) -> str:
    """Make the identifiers of a figure unique in a page, by a name before each."""
    for before, after in ((' id="', '"'), (' href="#', '"'), ("url(#", ")")):
        svg = re.sub(rf"({re.escape(before)})([^{after}]+)(?={re.escape(after)})", rf"\1{name}-\2", svg)
    return svg


def _escaped(text: str) -> str:
    for letter, code in {"&": "&amp;", '"': "&quot;", "<": "&lt;", ">": "&gt;"}.items():
        text = text.replace(letter, code)
    return text


def beside(axes: Axes, points: Mapping[str, tuple[float, float]], found: Mapping[str, Style]) -> None:
    """Write names beside points, each where it hides no other name or point, as far as there is room."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    width, height = axes.bbox.width, axes.bbox.height
    at = {name: axes.transAxes.inverted().transform(axes.transData.transform(point)) for name, point in points.items()}
    pixels = figure.dpi * POINTS / 72
    taken = [(x - 5 / width, y - 5 / height, x + 5 / width, y + 5 / height) for x, y in at.values()]
    for name, (x, y) in at.items():
        across, up, gap = 0.66 * pixels * len(name) / width, 1.25 * pixels / height, 8 / width
        places = [
            (x + shift, y + rise * up - up / 2)
            for rise in (0.8, -0.8, 0, 1.6, -1.6, 2.6, -2.6)
            for shift in (gap, -gap - across, -across / 2)
            if rise or shift != -across / 2
        ]
        boxes = [(left, low, left + across, low + up) for left, low in places]
        inside = [box for box in boxes if box[0] >= 0 and box[2] <= 1.0 and box[1] >= 0 and box[3] <= 1.02] or boxes
        box = min(inside, key=lambda box: sum(_overlap(box, other) for other in taken))
        taken.append(box)
        text = axes.text(box[0], box[1] + up / 2, name, transform=axes.transAxes, va="center", color=found[name].colour)
        text.set_in_layout(False)


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return across * up if across > 0 and up > 0 else 0.0
