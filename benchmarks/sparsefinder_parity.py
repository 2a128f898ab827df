"""Recall of learned attention graphs beside Sparsefinder's own programs: ``python -m benchmarks.sparsefinder_parity``.

The data are queries and keys of independent latents, seed 1, and of shared ones, seed 0. The figures of the published
programs on them (deep-spin/sparsefinder, commit 50f44f8, torch 2.13, scikit-learn 1.9; ``quantization.py -r 4 --batch 8
--lr 0.01 --epochs 3 --share-projectors`` with ``-s 8`` for independent and ``-s 4`` for shared latents, its last items
those that are tested on here) are in ``PUBLISHED``.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch.optim import Adam

from benchmarks.reports import add_out, check_least, publish
from callbacks.graph_scores import averaged
from datamodules import QueriesKeys
from datamodules.sparsity.records import Item, Kept, write_records
from tabattn.attention.graphs.projection import Shared
from tabattn.contract.queries_keys import Layer
from tabattn.sparsity.options import SweepOptions
from tabattn.sparsity.task import SparsefinderProjections

KNOBS = {"fixed": [4, 6, 8, 10, 12], "dynamic": [2, 3, 4, 5, 6, 8, 10, 12], "kmeans": [4, 6, 8, 10, 12, 16]}

SHARED = {
    "fixed": [2, 3, 4, 5, 6],
    "dynamic": [1, 2, 3, 4, 6, 8],
    "kmeans": [2, 3, 4, 6, 8],
    "euclidean": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 16.0],
    "l2": [0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 10.0, 16.0, 24.0, 36.0, 64.0, 144.0, 256.0],
    "window": [3],
    "bigbird": [1, 2, 3],
    "openai": [4],
}
"""Knobs on shared latents."""

NEAR = 0.005
"""Distance of sparsities that count as equal."""


class Published(NamedTuple):
    """A figure of the published programs: a graph's mean sparsity, recall and share of exact queries."""

    grouping: str
    sparsity: float
    recall: float
    data: str
    exact: float | None = None


PUBLISHED = (
    Published("fixed", 0.3683, 0.8257, "the same items"),
    Published("dynamic", 0.2459, 0.8945, "the same items"),
    Published("kmeans", 0.8712, 0.3562, "the same items"),
    Published("fixed", 0.3941, 0.8192, "another draw"),
    Published("dynamic", 0.2243, 0.9222, "another draw"),
    Published("kmeans", 0.8735, 0.4049, "another draw"),
)
"""Figures on independent latents."""

PUBLISHED_SHARED = (
    Published("fixed", 0.4923, 0.8347, "the same items", 0.8231),
    Published("dynamic", 0.3892, 0.8917, "the same items", 0.8823),
    Published("kmeans", 0.7239, 0.7233, "the same items", 0.7121),
    Published("euclidean", 0.6417, 0.8625, "the same items", 0.8515),
    Published("l2", 0.7596, 0.7899, "the same items", 0.7762),
    Published("window", 0.8664, 0.6471, "the same items", 0.6389),
    Published("bigbird", 0.6822, 0.7001, "the same items", 0.6900),
    Published("openai", 0.2468, 0.8680, "the same items", 0.8555),
    Published("fixed", 0.4118, 0.8774, "another draw", 0.8729),
    Published("dynamic", 0.2462, 0.9465, "another draw"),
    Published("kmeans", 0.7099, 0.7085, "another draw"),
    Published("euclidean", 0.6760, 0.8783, "another draw"),
    Published("l2", 0.7858, 0.7920, "another draw"),
)
"""Figures on shared latents, of one map of queries and keys."""

PUBLISHED_CONCAT = (
    Published("fixed", 0.5433, 0.8423, "the same items", 0.8349),
    Published("kmeans", 0.7087, 0.8269, "the same items", 0.8233),
)
"""Figures on shared latents, of one map of both of a token together (``--concat-q-and-k``)."""

PUBLISHED_SKIP = (
    Published("fixed", 0.0991, 0.9941, "the same items", 0.9935),
    Published("kmeans", 0.7135, 0.8225, "the same items", 0.8150),
)
"""Figures on shared latents without projections (``--skip-proj``)."""


def independent(seed: int = 1, items: int = 60, layers: int = 2, heads: int = 4, head_dim: int = 16) -> Kept:
    """Queries and keys of latents of rank 6 that are independent, mixed alike: there is no strong diagonal."""
    return _mixed(seed, items, (layers, heads, 6, head_dim), (24, 49), 0.8, apart=True)


def shared(seed: int = 0, items: int = 40, layers: int = 2, heads: int = 4, head_dim: int = 16) -> Kept:
    """Queries and keys of the same latents of rank 8, mixed alike: a token's own key has mostly a weight."""
    return _mixed(seed, items, (layers, heads, 8, head_dim), (12, 33), 1.5, apart=False)


def _mixed(
    seed: int, items: int, sizes: tuple[int, int, int, int], lengths: tuple[int, int], scale: float, *, apart: bool
) -> Kept:
    """Normal latents of each token, mixed by a matrix of each head, and noise of std 0.3.

    Args:
        seed: Seed.
        items: Number of items.
        sizes: Layers, heads, rank of the latents, and width of a head.
        lengths: Least number of tokens, and the first that is too large.
        scale: Standard deviation of latents.
        apart: Whether queries and keys have latents of their own.
    """
    draw = torch.Generator().manual_seed(seed)
    layers, heads, rank, head_dim = sizes
    mixing = torch.randn(sizes, generator=draw)
    of_keys = mixing + 0.3 * torch.randn(sizes, generator=draw)
    found: list[list[Item]] = [[] for _ in range(layers)]
    for number in range(items):
        length = int(torch.randint(*lengths, (1,), generator=draw))
        latents = [scale * torch.randn(length, rank, generator=draw) for _ in range(1 + apart)]
        q, k = (
            torch.einsum("nr,lhrd->lhnd", latent, mixed)
            + 0.3 * torch.randn(layers, heads, length, head_dim, generator=draw)
            for latent, mixed in ((latents[0], mixing), (latents[-1], of_keys))
        )
        for layer in range(layers):
            found[layer].append(Item(q[layer], k[layer], group=number))
    facts = [Layer(f"layers.{layer}", heads, head_dim, (1.5,) * heads, head_dim**-0.5) for layer in range(layers)]
    return Kept(list(zip(facts, found, strict=True)))


def trained(
    folder: Path,
    epochs: int = 30,
    *,
    data: Kept | None = None,
    knobs: Mapping[str, list[float]] = KNOBS,
    recipe: bool = False,
    maps: Shared = True,
    width: int | None = 4,
) -> list[dict[str, Any]]:
    """Train projections, and score graphs on the test items: means over heads and layers.

    Args:
        folder: Folder to write to.
        epochs: Passes over the training items.
        data: Queries and keys; None = of independent latents.
        knobs: Knobs by pattern.
        recipe: Whether projections are drawn and trained at a rate of 0.01, as in the published programs.
        maps: Whether queries and keys have one map, or ``concat``.
        width: Dimensions of the projections; None = there are none, and clusters alone are learned.
    """
    write_records(folder / "a.h5", independent() if data is None else data)
    source = QueriesKeys(f"{folder}/a.h5", 8)
    torch.manual_seed(0)
    start, sweep = "random" if recipe else "scores", SweepOptions(knobs, tops=(1,))
    task = SparsefinderProjections(width, shared=maps, start=start, sweep=sweep).use_optimizer(
        partial(Adam, lr=0.01) if recipe else None, None
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    settings: dict[str, Any] = {**quiet, "default_root_dir": folder, "enable_checkpointing": False}
    Trainer(max_epochs=epochs, gradient_clip_val=1.0, limit_val_batches=0, **settings).fit(task, source)
    Trainer(**settings).test(task, source, verbose=False)
    return averaged(task.graph_rows())


def score_at(rows: Sequence[dict[str, Any]], grouping: str, sparsity: float, name: str = "recall") -> float:
    """Score of a grouping at a sparsity, between its knobs by linear interpolation.

    Raises:
        ValueError: The sparsity is not among those of the knobs.
    """
    points = sorted((row["sparsity"], row[name]) for row in rows if row["grouping"] == grouping)
    least, most = points[0][0], points[-1][0]
    if not least - NEAR <= sparsity <= most + NEAR:
        raise ValueError(
            f"sparsity must be in [{least:.3f}, {most:.3f}], that of the knobs of {grouping}, got {sparsity}"
        )
    return float(np.interp(sparsity, *zip(*points, strict=True)))


class Compared(NamedTuple):
    """Figures of the published programs and the rows of trainings on the same data.

    Attributes:
        title: What the data and the maps are.
        published: The figures.
        recipe: Rows of a training like theirs: drawn projections, 3 epochs.
        ours: Rows of a training as it is done here.
    """

    title: str
    published: Sequence[Published]
    recipe: Sequence[dict[str, Any]]
    ours: Sequence[dict[str, Any]]


def compared(folder: Path, epochs: int) -> list[Compared]:
    """Train on both kinds of data, by the published recipe and by ours."""
    found = []
    few = {name: SHARED[name] for name in ("fixed", "kmeans")}
    for title, data, knobs, published, own in (
        ("Independent latents, one map", independent(), KNOBS, PUBLISHED, {}),
        ("Shared latents, one map", shared(), SHARED, PUBLISHED_SHARED, {}),
        ("Shared latents, one map of both together", shared(), few, PUBLISHED_CONCAT, {"maps": "concat"}),
        ("Shared latents, no projection", shared(), few, PUBLISHED_SKIP, {"width": None}),
    ):
        common: dict[str, Any] = {"data": data, "knobs": knobs, **own}
        recipe, ours = trained(folder, 3, recipe=True, **common), trained(folder, epochs, **common)
        found.append(Compared(title, published, recipe, ours))
    return found


def report(parts: Sequence[Compared], epochs: int) -> str:
    """Tables of recalls and shares of exact queries at equal sparsity."""
    lines = [
        "# Learned attention graphs beside Sparsefinder's own programs",
        "",
        f"Written by `python -m benchmarks.sparsefinder_parity --epochs {epochs}`: recall and share of exact queries "
        "at equal sparsity, mean over 4 heads of 2 layers, with linear maps to 4 dimensions. Same recipe: drawn maps, "
        "3 epochs at a rate of 0.01. Here: from the factors of scores (drawn where both are mapped together), "
        f"{epochs} epochs at 0.001. Window, BigBird (random keys) and OpenAI's fixed pattern learn nothing.",
    ]
    for title, published, recipe, ours in parts:
        lines += [
            "",
            f"## {title}",
            "",
            "| Grouping | Sparsity | Data of the published figure | Published recall | Same recipe | Here | Published "
            "exact | Same recipe | Here |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for each in published:
            cells = [each.grouping, f"{each.sparsity:.3f}", each.data]
            for name, value in (("recall", each.recall), ("exact", each.exact)):
                cells += ["" if value is None else f"{value:.3f}"]
                cells += [_cell(rows, each, name) for rows in (recipe, ours)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(rows: Sequence[dict[str, Any]], published: Published, name: str) -> str:
    """Score at the sparsity of a figure, or that no knob comes to it."""
    try:
        return f"{score_at(rows, published.grouping, published.sparsity, name):.3f}"
    except ValueError:
        return "no such sparsity"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sparsefinder_parity", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--epochs", type=int, default=30)
    add_out(parser, "sparsefinder_parity.md")
    options = parser.parse_args(argv)
    check_least(parser, options, epochs=1)
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and write the table."""
    options = arguments(argv)
    with tempfile.TemporaryDirectory() as folder:
        publish(report(compared(Path(folder), options.epochs), options.epochs), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
