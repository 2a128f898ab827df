"""Keys that the certificate scores in trained heads: ``python -m benchmarks.sparsity_heads queries_keys.h5``.

Of recorded queries and keys (``QueryKeyRecorder``) of at least ``--least`` keys it tells, for each layer and head: the
mean number of positive weights of a query; the share of keys that ``Sparsefinder`` scores in mode ``exact``; and the
share for a single query, that tiles of one query would score.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.measure import provenance
from benchmarks.reports import add_out, check_least, publish
from datamodules.sparsity.records import Item, RecordFile
from tabattn.attention.certificate import LEAF, Bounds, certified_tiles
from tabattn.attention.entmax_solver import solve_rows
from tabattn.attention.point_tree import tree_order
from tabattn.contract.queries_keys import Layer


class Row(NamedTuple):
    """A head: its layer, number, keys, positive weights of a query, and shares of keys scored."""

    layer: str
    head: int
    keys: float
    support: float
    tiles: float
    single: float


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sparsity_heads",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("recorded", type=Path, help="file of QueryKeyRecorder")
    parser.add_argument("--least", type=int, default=512, help="keys that an item must have")
    parser.add_argument("--items", type=int, default=4, help="items of each layer")
    parser.add_argument("--queries", type=int, default=256, help="queries of an item whose weights are computed")
    add_out(parser, "sparsity_heads.md")
    options = parser.parse_args(argv)
    check_least(parser, options, least=1, items=1, queries=1)
    return options


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of each layer that has items of enough keys."""
    records = RecordFile(options.recorded)
    for number, recorded in enumerate(records.layers):
        enough = [index for index, keys in enumerate(recorded.keys) if keys >= options.least][: options.items]
        found = [measured(recorded.layer, records.item(number, index), options.queries) for index in enough]
        for head in range(recorded.layer.heads if found else 0):
            own = [each[head] for each in found]
            means = [sum(values) / len(values) for values in zip(*own, strict=True)]
            yield Row(recorded.layer.path, head, *means)


def measured(layer: Layer, item: Item, queries: int) -> list[tuple[float, float, float, float]]:
    """Keys, support, and the shares scored by tiles and for a single query, of each head of an item."""
    found = []
    for head, alpha in enumerate(layer.alpha):
        q, k, order = item.q[head].float() * layer.scale, item.k[head].float(), alpha - 1
        tiles = certified_tiles(q, k, order, item.mask, None)
        scored = sum(len(tile.rows) * (len(k) if tile.keys is None else len(tile.keys)) for tile in tiles)
        some = torch.randperm(len(q), generator=torch.Generator().manual_seed(0))[:queries]
        mask = None if item.mask is None else item.mask[some]
        found.append((len(k), *_single(q[some] * order, k, order, mask), scored / (len(q) * len(k))))
    return [(keys, support, tiles, single) for keys, support, single, tiles in found]


def _single(q: Tensor, k: Tensor, order: float, mask: Tensor | None) -> tuple[float, float]:
    """Positive weights of a query, and the share of blocks whose bounds reach its threshold."""
    scores = q @ k.mT
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    rows = solve_rows(scores, order)
    members = tree_order(k[None], LEAF)[0].view(-1, LEAF).clamp(max=len(k) - 1)
    alive = Bounds.around(k[members]).above(q) > rows.peak + rows.shift - 1
    return float((rows.p > 0).sum(dim=-1).float().mean()), float(alive.float().mean())


def report(rows: Sequence[Row], options: argparse.Namespace) -> str:
    """Report as Markdown."""
    head = "| Layer | Head | Keys | Positive weights | Scored | Scored, single query |\n| --- |" + " ---: |" * 5
    lines = [
        f"| `{row.layer}` | {row.head} | {row.keys:.0f} | {row.support:.1f} | {row.tiles:.1%} | {row.single:.1%} |"
        for row in rows
    ]
    return f"""# Keys that the certificate scores in trained heads

Written by `python -m benchmarks.sparsity_heads {options.recorded.name}` on {provenance(torch.device("cpu"))}.

Means of {options.items} items of at least {options.least} keys. *Scored*: share of keys that mode `exact` scores, by
tiles of queries; *single query*: by its own threshold.

{head}
{chr(10).join(lines)}
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write the report, and print it."""
    options = arguments(argv)
    rows = list(measure(options))
    if not rows:
        raise SystemExit(f"{options.recorded} has no item of at least {options.least} keys: lower --least")
    text = report(rows, options)
    publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
