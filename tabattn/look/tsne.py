"""t-SNE of the outputs of a layer, coloured by what is known of each point."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from callbacks.embeddings import Embeddings, Points
from callbacks.pictures import folder_of, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = 10
"""Fewest points of a picture."""
MOST_CLASSES = 20
"""Most values of a column that have a colour each; numbers of more values, or almost one each, have a scale."""
PREFERRED = ("label", "kind", "class", "table", "role", "member", "y", "split")
"""Columns in the order in which they are shown; others follow."""
MOST_PANELS = 4
PLACES = ("item", "batch", "row")
"""Columns that say where a point is, and nothing of what it is."""


class TSNE(Embeddings):
    """Draws the outputs of layers by t-SNE with a fixed seed, in a panel for each of up to four columns of metadata.

    Args:
        layers: Module paths; None = the last block that holds attention.
        limit: Most points.
        batches: Batches to sample from.
    """

    def __init__(self, layers: list[str] | None = None, limit: int = 1000, batches: int = 8) -> None:
        super().__init__(layers, limit=limit, batches=min(batches, limit))
        self.folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the layers exist, and find the folder of pictures; raise before any work."""
        super().setup(trainer, pl_module, stage)
        self.folder = folder_of(trainer)

    def _write(self, trainer: Trainer, prefix: str) -> None:
        """Draw the collected points, and clear them."""
        for layer, points in self.points.items():
            figure = drawn(layer, points)
            if figure is None:
                rank_zero_warn(f"t-SNE: layer {layer} has fewer than {LEAST} finite outputs here, and is not drawn")
            else:
                show(trainer, self.folder, "test" if prefix else "validation", "tsne", layer, figure)
        self.points.clear()


def drawn(layer: str, points: Points) -> "Figure | None":
    """Picture of the points of a layer; None of too few."""
    if not points.count:
        return None
    vectors = torch.cat(points.vectors)
    finite = vectors.isfinite().all(1)
    if int(finite.sum()) < LEAST:
        return None
    kept = finite.tolist()
    columns = {
        name: [value for value, keep in zip(values, kept, strict=True) if keep]
        for name, values in points.columns.items()
    }
    return draw(layer, embedded(vectors[finite].double().numpy()), columns)


def embedded(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates of points in the plane, ``(points, 2)``: t-SNE of standardised vectors, the same at each call."""
    from sklearn.manifold import TSNE as Method

    vectors = (vectors - vectors.mean(0)) / np.maximum(vectors.std(0), 1e-12)
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    found: NDArray[np.float64] = Method(perplexity=perplexity, init="pca", random_state=0).fit_transform(vectors)
    return found


def chosen_columns(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """Columns of metadata to colour by: those with several values, what a point is before where it is."""
    several = [name for name, values in columns.items() if len({str(value) for value in values}) > 1]
    telling = [name for name in several if name not in PLACES and not name.startswith("token")] or several
    order = {name: place for place, name in enumerate(PREFERRED)}
    return sorted(telling, key=lambda name: order.get(name, len(order)))[:MOST_PANELS]


def draw(layer: str, places: NDArray[np.float64], columns: Mapping[str, Sequence[Any]]) -> "Figure":
    """Draw a panel of the points for each chosen column, coloured by its values."""
    from matplotlib.figure import Figure

    from callbacks.labels import drawable

    names: list[str | None] = [*chosen_columns(columns)] or [None]
    across = min(2, len(names))
    up = -(-len(names) // across)
    figure = Figure((5.6 * across, 4.9 * up + 0.4), dpi=110)
    panels = figure.subplots(up, across, squeeze=False).flatten()
    top = 1 - 0.75 / figure.get_figheight()
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=top, wspace=0.08, hspace=0.12)
    figure.suptitle(drawable(f"t-SNE of {layer}, {len(places)} points"), fontsize=11)
    for axes, name in zip(panels, names, strict=False):
        axes.set_xticks([])
        axes.set_yticks([])
        if name is None:
            axes.scatter(*places.T, s=9, color="#2f6f9f", linewidths=0)
            continue
        axes.set_title(f"coloured by {drawable(name)}", fontsize=9)
        _colour(figure, axes, places, columns[name])
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    return figure


def _colour(figure: "Figure", axes: Any, places: NDArray[np.float64], values: Sequence[Any]) -> None:
    """Draw points with a colour for each value, or with a colour scale for numbers of many values."""
    from matplotlib import colormaps

    from callbacks.labels import drawable

    texts = [str(value) for value in values]
    kinds = sorted(set(texts), key=lambda text: (_number(text) is None, _number(text) or 0.0, text))
    numbers = np.array([_number(text) if _number(text) is not None else np.nan for text in texts], dtype=float)
    many = len(kinds) > min(MOST_CLASSES, len(values) / 2)
    if many and np.isfinite(numbers).any():
        low, high = np.nanpercentile(numbers[np.isfinite(numbers)], [1, 99])
        shown = axes.scatter(*places.T, s=9, c=numbers, cmap="viridis", vmin=low, vmax=high, linewidths=0)
        figure.colorbar(shown, ax=axes, fraction=0.04, pad=0.01).ax.tick_params(labelsize=7)
        return
    others = kinds[MOST_CLASSES:]
    for place, kind in enumerate(kinds[:MOST_CLASSES]):
        here = places[[text == kind for text in texts]]
        axes.scatter(*here.T, s=9, color=colormaps["tab20"](place), linewidths=0, label=drawable(kind)[:24] or "-")
    if others:
        here = places[[text in set(others) for text in texts]]
        axes.scatter(*here.T, s=9, color="#bbbbbb", linewidths=0, label=f"{len(others)} others")
    axes.legend(fontsize=7, markerscale=1.6, loc="best", framealpha=0.85)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
