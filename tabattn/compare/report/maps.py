"""Attention maps of all mechanisms on the same example, as pictures in one colour scale for each layer."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from matplotlib import colormaps
from matplotlib.image import imsave
from numpy.typing import NDArray

from tabattn.compare.report.lines import Group

LAYERS, RARE, HEADS = 4, 2, 4
"""Most layers, layers that not all attentions have, and heads that are shown."""
ZERO = (0.62, 0.62, 0.66, 1.0)
"""Colour of a weight of exactly 0."""
GAP = 2
"""Columns between two heads."""
SHARE = 0.98
"""Share of the positive weights of a layer within its colour scale; larger ones have its last colour."""

Maps = Mapping[str, NDArray[np.float32]]
"""Maps ``(heads, queries, keys)`` by module path."""


class Strip(NamedTuple):
    """Maps of the heads of one attention in one layer, side by side.

    Attributes:
        label: The attention.
        image: Picture as a data URI.
        described: Size of the maps, and the share of weights that are exactly 0.
    """

    label: str
    image: str
    described: str


class Layer(NamedTuple):
    """Maps of all attentions in one layer, and the weight at the end of their colour scale."""

    name: str
    strips: list[Strip]
    largest: float


def read_maps(path: Path) -> Maps:
    """Read attention maps.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name].astype(np.float32) for name in file.files if file[name].ndim == 3}
    except (OSError, ValueError, BadZipFile) as ex:
        raise ValueError(f"{path} holds no attention maps: {ex}") from ex


def maps_of(group: Group) -> tuple[int | None, dict[str, Maps]]:
    """Maps of each attention, all of the seed that most of them have, and that seed."""
    paths = {(cell.label, cell.seed): path for cell in group.cells if (path := cell.path("maps")) is not None}
    seeds = [seed for _, seed in paths]
    if not seeds:
        return None, {}
    seed = max(sorted(set(seeds)), key=seeds.count)
    found = {line.label: read_maps(paths[line.label, seed]) for line in group.lines if (line.label, seed) in paths}
    return seed, found


def layers(found: Mapping[str, Maps]) -> list[Layer]:
    """Pictures of some layers, each in one scale for all attentions."""
    return [
        _layer(name, {label: maps[name][:HEADS] for label, maps in found.items() if name in maps})
        for name in _chosen(found)
    ]


def _layer(name: str, shown: Maps) -> Layer:
    positive = np.concatenate([part[np.isfinite(part) & (part > 0)] for part in shown.values()])
    largest = float(np.quantile(positive, SHARE)) if positive.size else 1.0
    return Layer(name, [_strip(label, maps, largest) for label, maps in shown.items()], largest)


def _chosen(found: Mapping[str, Maps]) -> list[str]:
    """Some layers that most attentions have, and some of those that only a few have, evenly from first to last."""
    named = [name for maps in found.values() for name in maps]
    names = list(dict.fromkeys(named))
    most = max((named.count(name) for name in names), default=0)
    common = [name for name in names if named.count(name) == most]
    rest = [name for name in names if named.count(name) < most]
    return [
        group[at]
        for group, number in ((common, LAYERS), (rest, RARE))
        for at in np.unique(np.linspace(0, len(group) - 1, min(number, len(group))).round().astype(int))
    ]


def colours(weights: NDArray[np.float32], largest: float) -> NDArray[np.float64]:
    """Colours of weights by their square root, so that one large weight leaves the others visible; 0 is grey."""
    scaled = np.sqrt(np.clip(np.nan_to_num(weights), 0, largest) / largest)
    found: NDArray[np.float64] = colormaps["magma"](scaled)
    found[(weights == 0) | ~np.isfinite(weights)] = ZERO
    return found


def _strip(label: str, maps: NDArray[np.float32], largest: float) -> Strip:
    heads, queries, keys = maps.shape
    wide = max(1, queries // max(1, keys))
    width = keys * wide
    picture = np.zeros((queries, heads * width + (heads - 1) * GAP, 4))
    for head, weights in enumerate(maps):
        left = head * (width + GAP)
        picture[:, left : left + width] = colours(weights, largest).repeat(wide, axis=1)
    sparse = float((maps == 0).mean()) if maps.size else 0.0
    told = f"{heads} heads, {queries} queries, {keys} keys" + (f", {sparse:.0%} exactly 0" if sparse else "")
    return Strip(label, as_uri(picture), told)


def bar() -> str:
    """Colours of the scale from 0 to the largest weight, as a data URI."""
    return as_uri(colours(np.linspace(1e-6, 1, 128, dtype=np.float32)[None] ** 2, 1.0))


def as_uri(picture: NDArray[np.float64]) -> str:
    """Picture ``(height, width, 4)`` as a data URI."""
    file = io.BytesIO()
    imsave(
        file, np.ascontiguousarray((255 * picture).round().astype(np.uint8)), format="png", metadata={"Software": ""}
    )
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
