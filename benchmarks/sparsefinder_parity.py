"""Recall of learned attention graphs beside Sparsefinder's own programs: ``python -m benchmarks.sparsefinder_parity``.

The data are queries and keys of independent latents, seed 1. The figures of the published programs on them
(deep-spin/sparsefinder, commit 50f44f8, torch 2.13, scikit-learn 1.9; ``quantization.py -r 4 -s 8 --batch 8 --lr 0.01
--epochs 3 --share-projectors``, its last items those that are tested on here) are in ``PUBLISHED``.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Trainer

from benchmarks.reports import add_out, check_least, publish
from callbacks.graph_scores import averaged
from datamodules import QueriesKeys
from datamodules.sparsity.records import Item, Kept, write_records
from tabattn.contract.queries_keys import Layer
from tabattn.sparsity.options import SweepOptions
from tabattn.sparsity.task import SparsefinderProjections

KNOBS = {"fixed": [4, 6, 8, 10, 12], "dynamic": [2, 3, 4, 5, 6, 8, 10, 12], "kmeans": [4, 6, 8, 10, 12, 16]}


class Published(NamedTuple):
    """A figure of the published programs: a graph's mean sparsity and recall."""

    grouping: str
    sparsity: float
    recall: float
    data: str


PUBLISHED = (
    Published("fixed", 0.3683, 0.8257, "the same items"),
    Published("dynamic", 0.2459, 0.8945, "the same items"),
    Published("kmeans", 0.8712, 0.3562, "the same items"),
    Published("fixed", 0.3941, 0.8192, "another draw"),
    Published("dynamic", 0.2243, 0.9222, "another draw"),
    Published("kmeans", 0.8735, 0.4049, "another draw"),
)


def independent(seed: int = 1, items: int = 60, layers: int = 2, heads: int = 4, head_dim: int = 16) -> Kept:
    """Queries and keys of latents of rank 6 that are independent, mixed alike: there is no strong diagonal."""
    draw = torch.Generator().manual_seed(seed)
    rank, noise = 6, 0.3
    mixing = torch.randn(layers, heads, rank, head_dim, generator=draw)
    of_keys = mixing + noise * torch.randn(layers, heads, rank, head_dim, generator=draw)
    found: list[list[Item]] = [[] for _ in range(layers)]
    for number in range(items):
        length = int(torch.randint(24, 49, (1,), generator=draw))
        latents = [0.8 * torch.randn(length, rank, generator=draw) for _ in "qk"]
        q, k = (
            torch.einsum("nr,lhrd->lhnd", latent, mixed)
            + noise * torch.randn(layers, heads, length, head_dim, generator=draw)
            for latent, mixed in zip(latents, (mixing, of_keys), strict=True)
        )
        for layer in range(layers):
            found[layer].append(Item(q[layer], k[layer], group=number))
    facts = [Layer(f"layers.{layer}", heads, head_dim, (1.5,) * heads, head_dim**-0.5) for layer in range(layers)]
    return Kept(list(zip(facts, found, strict=True)))


def trained(folder: Path, epochs: int = 30) -> list[dict[str, Any]]:
    """Train projections, and score the graphs of ``KNOBS`` on the test items: means over heads and layers."""
    write_records(folder / "a.h5", independent())
    data = QueriesKeys(f"{folder}/a.h5", 8)
    torch.manual_seed(0)
    task = SparsefinderProjections(sweep=SweepOptions(KNOBS, tops=(1,))).use_optimizer(None, None)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    settings: dict[str, Any] = {**quiet, "default_root_dir": folder, "enable_checkpointing": False}
    Trainer(max_epochs=epochs, gradient_clip_val=1.0, limit_val_batches=0, **settings).fit(task, data)
    Trainer(**settings).test(task, data, verbose=False)
    return averaged(task.graph_rows())


def recall_at(rows: Sequence[dict[str, Any]], grouping: str, sparsity: float) -> float:
    """Recall of a grouping at a sparsity, between its knobs by linear interpolation."""
    points = sorted((row["sparsity"], row["recall"]) for row in rows if row["grouping"] == grouping)
    return float(np.interp(sparsity, *zip(*points, strict=True)))


def report(rows: Sequence[dict[str, Any]], epochs: int) -> str:
    """Table of recalls at equal sparsity."""
    lines = [
        "# Learned attention graphs beside Sparsefinder's own programs",
        "",
        f"Written by `python -m benchmarks.sparsefinder_parity --epochs {epochs}`: recall at equal sparsity, mean over "
        "4 heads of 2 layers, with shared linear maps to 4 dimensions.",
        "",
        "| Grouping | Sparsity | Data of the published figure | Published recall | Recall here |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {each.grouping} | {each.sparsity:.3f} | {each.data} | {each.recall:.3f} | "
        f"{recall_at(rows, each.grouping, each.sparsity):.3f} |"
        for each in PUBLISHED
    ]
    return "\n".join(lines) + "\n"


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
        publish(report(trained(Path(folder), options.epochs), options.epochs), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
