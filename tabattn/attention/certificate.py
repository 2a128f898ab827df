"""Certificate of zero weights: blocks of keys whose scores are bounded below the entmax threshold of a few keys."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from tabattn.attention.entmax_rows import CACHED
from tabattn.attention.entmax_solver import solve_rows
from tabattn.attention.point_tree import tree_order
from tabattn.attention.sparse_rows import Tile

LEAF = 16
"""Keys of a block."""

ROWS = 128
"""Queries that share a list of keys."""

BEST = 8
"""Blocks that give a tile its first keys."""

USEFUL = 0.6
"""Share of keys above which a tile takes all of them."""

AT_ONCE = 2**18
"""Bounds that are computed at a time, which stay near to the processor."""


class Bounds(NamedTuple):
    """Boxes and balls around groups of points.

    Attributes:
        high: Largest coordinates, ``(groups, width)``.
        low: Least coordinates, ``(groups, width)``.
        centre: Mean, ``(groups, width)``.
        radius: Largest distance from the mean, ``(groups,)``.
    """

    high: Tensor
    low: Tensor
    centre: Tensor
    radius: Tensor

    @classmethod
    def around(cls, points: Tensor) -> "Bounds":
        """Bounds of groups of points, ``(groups, points, width)``."""
        centre = points.mean(dim=1)
        radius = (points - centre[:, None]).norm(dim=-1).amax(dim=1)
        return cls(points.amax(dim=1), points.amin(dim=1), centre, radius)

    def of(self, groups: Tensor) -> "Bounds":
        """Bounds of some of the groups."""
        return Bounds(*(part[groups] for part in self))

    def above(self, q: Tensor) -> Tensor:
        """Upper bounds of the scores of each group, ``(queries, groups)``, rounding included.

        The lesser of that by the box, ``sum_d max(q_d high_d, q_d low_d)``, and that by the ball, ``q c + |q| r``.
        """
        length = q.norm(dim=-1, keepdim=True)
        box = torch.cat((q.clamp(min=0), q.clamp(max=0)), dim=-1) @ torch.cat((self.high, self.low), dim=-1).mT
        ball = (q @ self.centre.mT).addcmul_(length, self.radius)
        rounding = 4 * q.shape[-1] * torch.finfo(q.dtype).eps
        return torch.minimum(box, ball).addcmul_(length, rounding * (self.centre.norm(dim=-1) + self.radius))


def certified_tiles(q: Tensor, k: Tensor, order: float, mask: Tensor | None, probe: Tensor | None) -> list[Tile]:
    """Tiles of one head whose keys hold every key of positive entmax weight, by proof.

    The threshold of some of a row's keys is a lower bound of the row's. A block of keys whose scores are bounded below
    it has weights of zero.

    Args:
        q: Scaled queries, ``(queries, width)``.
        k: Keys, ``(keys, width)``.
        order: alpha - 1.
        mask: ``(queries, keys)`` or ``(1, keys)``; True = may be seen; None = all.
        probe: Predicted graph, ``(queries, keys)``: the keys to begin with; None = those of the best bounds.
    """
    if not len(q) or not len(k):
        return []
    if mask is not None and len(mask) == 1:
        visible = mask[0].nonzero().squeeze(1)
        if len(visible) < len(k):
            some = None if probe is None else probe[:, visible]
            own = certified_tiles(q, k[visible], order, None, some) if len(visible) else []
            return [tile._replace(keys=visible if tile.keys is None else visible[tile.keys]) for tile in own]
        mask = None
    rows, members = tree_order(q[None], ROWS)[0].view(-1, ROWS), tree_order(k[None], LEAF)[0].view(-1, LEAF)
    # Places that are empty count as the last one.
    bounds = Bounds.around(k[members.clamp(max=len(k) - 1)])
    tiles = []
    for own in rows.split(max(1, AT_ONCE // (ROWS * len(members)))):
        inside = own.clamp(max=len(q) - 1)
        placed = q[inside] * order
        above = bounds.above(placed)
        some = _best(above, members) if probe is None else _predicted(probe, inside)
        # What is not a number is alive, so that it reaches the output.
        alive = ~((above - _floor(placed, k, inside, some, order, mask)).amax(dim=1) <= 0)
        for part, live in zip(own, alive, strict=True):
            tiles += _tiles(part[part < len(q)], members[live].flatten(), mask, len(k))
    return tiles


def gathered_tiles(parts: Iterable[Tensor], edges: Callable[[Tensor], Tensor]) -> list[Tile]:
    """Tiles of one head whose keys are those of a graph.

    Args:
        parts: Numbers of the queries of each tile, with neighbours of like keys.
        edges: Graph of some queries by their numbers, boolean, ``(rows, keys)``.
    """
    tiles = []
    for own in parts:
        seen = edges(own)
        keys = seen.any(dim=0).nonzero().squeeze(1)
        size = max(1, CACHED // max(1, len(keys)))
        split = zip(own.split(size), seen[:, keys].split(size), strict=True)
        tiles += [Tile(part, keys, each) for part, each in split if len(keys)]
    return tiles


def near_one_another(q: Tensor) -> list[Tensor]:
    """Numbers of queries, ``(queries, width)``, in parts of those that are near to one another."""
    parts = [part[part < len(q)] for part in tree_order(q[None], ROWS)[0].view(-1, ROWS)]
    return [part for part in parts if len(part)]


def of_one_group(code: Tensor) -> list[Tensor]:
    """Numbers of queries in parts of one group, by the number of each query's group, ``(queries,)``."""
    order = code.argsort(stable=True)
    counts = code[order].unique_consecutive(return_counts=True)[1].tolist()
    return [part for group in order.split(counts) for part in group.split(4 * ROWS)]


def _tiles(rows: Tensor, keys: Tensor, mask: Tensor | None, count: int) -> list[Tile]:
    """Tiles of some queries that fit into a cache, with all keys where most are alive."""
    every = len(keys) > USEFUL * count
    keys = keys[keys < count]
    most = CACHED // max(1, count if every else len(keys))
    parts = [(part, None if mask is None else mask[part]) for part in rows.split(max(1, most)) if len(part)]
    if every:
        return [Tile(part, None, seen) for part, seen in parts]
    return [Tile(part, keys, None if seen is None else seen[:, keys]) for part, seen in parts]


def _best(above: Tensor, members: Tensor) -> Tensor:
    """Keys of the blocks that have the best bounds of any row of each tile, ``(tiles, keys)``."""
    best = (above - above.amax(dim=-1, keepdim=True)).amax(dim=1).topk(min(BEST, len(members))).indices
    return members[best].flatten(1)


def _predicted(probe: Tensor, rows: Tensor) -> Tensor:
    """Keys that are predicted for any row of each tile, ``(tiles, keys)``, filled up by a number beyond the keys."""
    predicted = probe[rows].any(dim=1)
    most = max(1, int(predicted.sum(dim=-1).max()))
    order = predicted.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[:, :most]
    return order.masked_fill(~predicted.gather(-1, order), probe.shape[-1])


def _floor(q: Tensor, k: Tensor, rows: Tensor, some: Tensor, order: float, mask: Tensor | None) -> Tensor:
    """Scores at which weights end by entmax on some keys alone, ``(tiles, rows, 1)``.

    -inf where a row may see none of them.
    """
    empty = some >= len(k)
    inside = some.clamp(max=len(k) - 1)
    scores = (q @ k[inside].mT).masked_fill_(empty[:, None], -torch.inf)
    if mask is not None:
        scores.masked_fill_(~mask[rows[:, :, None], inside[:, None, :]], -torch.inf)
    found = solve_rows(scores, order)
    return (found.peak + found.shift - 1).masked_fill_(found.shift == torch.inf, -torch.inf)
