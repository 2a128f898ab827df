"""Heat maps of attention, as one picture of bounded size; no global matplotlib state."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from callbacks.labels import drawable, without_mathematics

ZERO = "#e2e2e6"
DPI = 110
MAX_WIDTH, MAX_HEIGHT = 16.0, 10.0
"""Largest size of all panels together, in inches."""
ENLARGED = 30
"""Number of named tokens up to which a panel grows with their number."""
LONGEST_NAME = 18
MIN_POINTS = 4.5
"""Smallest legible font size, in points."""
MIN_ROOM = 0.12
"""Least distance of labels of groups, on average, in inches."""
BOUND = "#1fa2ff"
"""Colour of the lines between groups of tokens."""
STEPS = (1, 2, 5, 10, 20)
"""Distances between numbered tick labels, in tokens."""


class TokenNames(NamedTuple):
    """Names of the tokens on both axes of a map, where known, and titles of the maps and of the axes.

    Attributes:
        queries: Names of the queries.
        keys: Names of the keys.
        items: Title of each item; None = they are numbered.
        query_title: Title of the queries' axis.
        key_title: Title of the keys' axis.
        relation_title: Title of the relation that is drawn beside the maps.
    """

    queries: Sequence[str] | None = None
    keys: Sequence[str] | None = None
    items: Sequence[str] | None = None
    query_title: str = "queries"
    key_title: str = "keys"
    relation_title: str = "related"


UNNAMED = TokenNames()


class Ticks(NamedTuple):
    """Tick labels of one axis.

    Attributes:
        places: Positions.
        labels: Texts.
        points: Font size.
        room: Inches needed beside the panel.
        bounds: Positions between groups of tokens of one name.
    """

    places: list[float]
    labels: list[str]
    points: float
    room: float
    bounds: Sequence[float] = ()


def picture(
    weights: Tensor,
    heads: Sequence[int],
    title: str,
    max_tokens: int,
    names: TokenNames = UNNAMED,
    keys: int | None = None,
    relation: Tensor | None = None,
) -> NDArray[np.uint8]:
    """Draw a grid of heat maps, items down and heads across, on one colour scale.

    A weight of exactly zero is grey, so a sparse map shows its pattern; so is one that is not finite. Maps longer than
    ``max_tokens`` are cropped to their beginning, with a note on the axes.

    Args:
        weights: Maps, ``(items, heads, queries, keys)``.
        heads: Number of each head in the maps.
        title: Heading of the picture; what grey means is added where there is any.
        max_tokens: Longest side of a drawn map, in tokens.
        names: Names of the tokens. Where they do not fit, every second or later one is drawn; neighbours of one name,
            such as rows sorted by class, have it once.
        keys: Number of keys that are attended to, of which only some are drawn; None = those of the maps.
        relation: True relation of queries and keys, ``(items, queries, keys)``, drawn right of the maps: from 0 = grey
            to 1 = the largest weight; None = there is none.

    Returns:
        The picture, ``(height, width, 3)``.
    """
    maps = weights[..., :max_tokens, :max_tokens].float().numpy()
    maps = np.where(np.isfinite(maps), maps, np.float32(np.nan))
    scale, colours = _scale(maps, keys or weights.shape[-1]), colormaps["magma_r"].with_extremes(bad=ZERO)
    titles = [f"head {head}" for head in heads]
    if relation is not None:
        shown = relation[:, None, :max_tokens, :max_tokens].float().nan_to_num(0.0).numpy() * np.float32(scale.vmax)
        maps, titles = np.concatenate([maps, shown], axis=1), [*titles, _short(names.relation_title, 30)]
    height, width = _panel_size(maps.shape, named=bool(names.queries or names.keys))
    rows = _ticks(names.queries, maps.shape[2], height)
    columns = _ticks(names.keys, maps.shape[3], width)
    figure, grid, bar = _sheet(maps.shape, (height, width), left=0.5 + rows.room, bottom=0.35 + columns.room)
    for panels, item in zip(grid, maps, strict=True):
        for axes, shown in zip(panels, item, strict=True):
            shown = np.ma.masked_where((shown == 0) | np.isnan(shown), shown)
            axes.imshow(shown, cmap=colours, norm=scale, interpolation="nearest", aspect="auto")
    for number, panels in enumerate(grid):
        item = f"item {number}" if names.items is None else _short(names.items[number], 40)
        title_of = _axis_title(names.query_title, weights.shape[-2], max_tokens)
        panels[0].set_ylabel(f"{item}\n{_short(title_of, 60)}", fontsize=8)
        panels[0].set_yticks(rows.places, rows.labels, fontsize=rows.points)
        for axes in panels:
            axes.hlines(rows.bounds, -0.5, maps.shape[3] - 0.5, color=BOUND, linewidth=1.2)
            axes.vlines(columns.bounds, -0.5, maps.shape[2] - 0.5, color=BOUND, linewidth=1.2)
    for name, top, bottom in zip(titles, grid[0], grid[-1], strict=True):
        top.set_title(name, fontsize=9)
        bottom.set_xlabel(_short(_axis_title(names.key_title, weights.shape[-1], max_tokens), 60), fontsize=8)
        bottom.set_xticks(columns.places, columns.labels, fontsize=columns.points, rotation=90 if names.keys else 0)
    figure.colorbar(ScalarMappable(scale, colours), cax=bar, ticks=MaxNLocator(4)).set_label("weight", fontsize=8)
    bar.tick_params(labelsize=7)
    figure.suptitle(
        f"{title}, grey = exactly 0" if (maps == 0).any() else title, fontsize=10, y=1 - 0.08 / figure.get_figheight()
    )
    return render(figure)


def _panel_size(shape: tuple[int, ...], *, named: bool) -> tuple[float, float]:
    """Height and width of a panel in inches: enlarged for token names, within the largest size of the picture."""
    items, heads, queries, keys = shape
    longest = max(queries, keys)
    side = max(2.1, 0.15 * min(longest, ENLARGED) if named else 0.0)
    side = min(side, MAX_WIDTH / heads, MAX_HEIGHT / items)
    return max(0.4, queries / longest) * side, max(0.4, keys / longest) * side


def _ticks(names: Sequence[str] | None, tokens: int, inches: float) -> Ticks:
    """Tick labels of an axis: names of tokens as far as they are legible, or about five indices without names."""
    if not names:
        indices = range(0, tokens, next(step for step in STEPS if tokens <= 7 * step))
        return Ticks([float(place) for place in indices], [str(place) for place in indices], 7.0, 0.25)
    short = [_short(name, LONGEST_NAME) for name in names[:tokens]]
    starts = [0, *(place for place in range(1, tokens) if short[place] != short[place - 1])]
    ends = [*starts[1:], tokens]
    middles = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
    grouped = len(starts) <= min(tokens / 2, inches / MIN_ROOM)
    if not grouped:
        starts, middles = list(range(tokens)), [float(place) for place in range(tokens)]
    step = -(-len(starts) * MIN_POINTS // (60 * inches)) if not grouped else 1
    step = max(1, int(step))
    points = min(7.5, 60 * inches * step / len(starts))
    shown = [short[start] for start in starts[::step]]
    room = 0.1 + 0.55 * points / 72 * max(len(name) for name in shown)
    return Ticks(middles[::step], shown, points, room, [start - 0.5 for start in starts[1:]] if grouped else ())


def _short(name: str, longest: int) -> str:
    """Text as it can be drawn, cut to a length."""
    shown = drawable(name)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def _sheet(
    shape: tuple[int, ...], panel: tuple[float, float], *, left: float, bottom: float
) -> tuple[Figure, list[list[Axes]], Axes]:
    """Create a figure: its panels row by row and the axes of its colour bar, with positions in inches.

    Matplotlib's own layout engines take seconds for a grid of this kind.
    """
    (items, heads), (height, width), gap, top, right = shape[:2], panel, 0.1, 0.68, 0.85
    full_height = bottom + items * (height + gap) + top
    full_width = max(left + heads * (width + gap) + right, 5.0)
    figure = Figure((full_width, full_height), dpi=DPI)

    def place(x: float, y: float, across: float, up: float) -> Axes:
        box = (x / full_width, y / full_height, across / full_width, up / full_height)
        return figure.add_axes(box, xticks=[], yticks=[])

    grid = [
        [
            place(left + head * (width + gap), bottom + (items - 1 - item) * (height + gap), width, height)
            for head in range(heads)
        ]
        for item in range(items)
    ]
    bar_height = items * (height + gap) - gap
    return figure, grid, place(left + heads * (width + gap) + 0.05, bottom, 0.14, bar_height)


def _scale(maps: NDArray[np.float32], keys: int) -> PowerNorm:
    """Colour scale shared by all maps.

    It follows the square root of a weight, so that one large weight leaves the others visible, and reaches at least
    four times the uniform weight of ``keys`` keys, so that uniform attention looks uniform rather than strong.
    """
    finite = maps[np.isfinite(maps)]
    return PowerNorm(0.5, finite.min(initial=0.0), finite.max(initial=min(1.0, 4 / keys)))


def _axis_title(kind: str, length: int, shown: int) -> str:
    return kind if length <= shown else f"{kind} (first {shown} of {length})"


def render(figure: Figure) -> NDArray[np.uint8]:
    """Render a figure to pixels, ``(height, width, 3)``, without mathtext."""
    without_mathematics(figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return pixels[..., :3].copy()
