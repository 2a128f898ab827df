"""Heat maps of the similarity of attention heads."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from callbacks.labels import drawable

CELL, SMALLEST, LARGEST = 0.36, 2.6, 9.0
"""Side of a cell in inches, and bounds of the side of a panel."""
WRITTEN = 24
"""Most heads up to which values are written into the cells."""
LETTERS = 34


class HeadGroup(NamedTuple):
    """Heads that were compared with one another.

    Attributes:
        similarity: Similarity of each pair of heads, ``(heads, heads)``.
        places: Places of the heads of each layer, by its name.
    """

    similarity: Tensor
    places: Mapping[str, range]


def draw(groups: Sequence[HeadGroup], title: str) -> Figure:
    """Draw a panel for each group of heads on one colour scale, with lines between layers."""
    names = [[_short(name) for name in group.places] for group in groups]
    sides = [min(max(CELL * len(group.similarity), SMALLEST), LARGEST) for group in groups]
    lefts = [0.3 + 0.07 * max(map(len, each)) for each in names]
    width, height = sum(sides) + sum(lefts) + 0.85, max(sides) + 1.05
    figure = Figure((max(width, 5.0), height), dpi=110)
    width = figure.get_figwidth()
    lowest = min(float(group.similarity.nan_to_num(1.0).min()) for group in groups)
    scale = Normalize(min(0.9, math.floor(10 * lowest) / 10), 1.0)
    start = 0.0
    for group, side, left, labels in zip(groups, sides, lefts, names, strict=True):
        box = ((start + left) / width, (height - 0.6 - side) / height, side / width, side / height)
        axes = figure.add_axes(box)
        image = _draw_group(axes, group, labels, scale)
        start += left + side
    bar = figure.add_axes(
        ((start + 0.1) / width, (height - 0.6 - sides[-1]) / height, 0.13 / width, sides[-1] / height)
    )
    figure.colorbar(image, cax=bar).set_label("1 - Jensen-Shannon divergence", fontsize=7)
    bar.tick_params(labelsize=7)
    figure.suptitle(f"{drawable(title)}\n1 = equal maps, 0 = no common key", fontsize=9, y=1 - 0.08 / height)
    return figure


def _draw_group(axes: Axes, group: HeadGroup, names: list[str], scale: Normalize) -> AxesImage:
    found, heads = group.similarity, len(group.similarity)
    image = axes.imshow(found.numpy(), cmap=colormaps["viridis"], norm=scale, interpolation="nearest")
    bounds = [heads.start - 0.5 for heads in group.places.values()][1:]
    axes.hlines(bounds, -0.5, heads - 0.5, color="white", linewidth=1.4)
    axes.vlines(bounds, -0.5, heads - 0.5, color="white", linewidth=1.4)
    axes.set_yticks([(each.start + each.stop - 1) / 2 for each in group.places.values()], names, fontsize=7)
    numbers = [place - each.start for each in group.places.values() for place in each]
    step = max(1, heads // 32)
    axes.set_xticks(range(0, heads, step), [str(number) for number in numbers[::step]], fontsize=6.5)
    axes.set_xlabel("head, layers as on the left", fontsize=7.5)
    if heads <= WRITTEN:
        for row in range(heads):
            for column in range(heads):
                value = float(found[row, column])
                text = f"{value:.2f}".removeprefix("0")
                colour = "black" if scale(value) > 0.6 else "white"
                axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
    return image


def _short(name: str) -> str:
    """Path without the network's own name, cut to a length that can be read."""
    shown = name.removeprefix("network.").removesuffix(".mechanism")
    return drawable(shown if len(shown) <= LETTERS else f"…{shown[1 - LETTERS :]}")
