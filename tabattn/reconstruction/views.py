"""Views of a table for callbacks: attention maps with rows sorted by their label, and rows as points."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from tabattn.contract.cells import CellBatch, Column
from tabattn.contract.views import Axis, MapView, rounded
from tabattn.reconstruction.sites import Site

ROLES = ("training", "validation", "test")
"""Names of the roles of rows, by number."""


def label_of(value: float, column: Column) -> str:
    """Name of a cell: its category, or its number in the data's units; a dash where it is missing."""
    if value != value:
        return "-"
    return column.categories[int(value)] if column.categories else rounded(column.mean + column.std * value)


def map_views(
    sites: Sequence[Site],
    batch: CellBatch,
    columns: Sequence[Column],
    roles: Tensor | None,
    items: int,
    tokens: int,
    token_of: Sequence[int] | None = None,
) -> dict[str, MapView]:
    """Views of the attention maps of a batch's first table, by path of the site.

    Between rows: the queries are the rows to score, the keys those of the context, both sorted by the first target and
    evenly thinned to ``tokens``; where cells attend, the maps of the target columns. Between columns: the maps of some
    of the rows to score.

    Args:
        sites: Sites of the network.
        batch: The batch.
        columns: Columns of the table.
        roles: Role of each row of the table; None = unknown.
        items: Most maps.
        tokens: Most tokens on a side.
        token_of: Number of each column's token; None = each column is one.
    """
    token_of = range(len(columns)) if token_of is None else token_of
    targets = [place for place, column in enumerate(columns) if column.target]
    rows = batch.x.shape[1]
    asked = batch.scored[0][:, targets].any(-1).nonzero()[:, 0]
    asked = asked if len(asked) else torch.arange(rows)
    context = torch.arange(batch.context)
    names = _token_names(columns, token_of)
    noun = "columns" if len(names) == len(columns) else "groups and columns"
    thinned = f"the first {tokens} of {len(names)} {noun}" if len(names) > tokens else f"{len(names)} {noun}"
    named = Axis(list(range(len(names[:tokens]))), names[:tokens], thinned)
    views = {}
    for site in sites:
        if site.axis == "columns":
            of = _thin(_sorted(asked, batch, targets[0]), items)
            titles = {row: _row_title(row, batch, columns[targets[0]], targets[0]) for row in of.tolist()}
            views[site.path] = MapView(titles, named, named)
            continue
        able = site.queries_of(rows, batch.context)
        if not able:
            continue
        among = asked[(asked >= able.start) & (asked < able.stop)]
        among = among if len(among) else torch.tensor(able)
        query = _rows(among, batch, columns, targets[0], roles, tokens)
        query = query._replace(places=[place - able.start for place in query.places])
        shown = {token_of[place]: f"column {columns[place].name}" for place in targets[:items]}
        views[site.path] = MapView(
            shown if site.tokens == "cells" else {0: "whole rows"},
            query,
            _rows(context, batch, columns, targets[0], roles, tokens),
        )
    return views


def _token_names(columns: Sequence[Column], token_of: Sequence[int]) -> list[str]:
    """Name of each token of a row: its column, or the group of several columns."""
    sizes = Counter(token_of)
    named = zip(token_of, columns, strict=True)
    names = {token: column.group if sizes[token] > 1 else column.name for token, column in named}
    return [names[token] for token in range(len(names))]


def _rows(
    rows: Tensor, batch: CellBatch, columns: Sequence[Column], target: int, roles: Tensor | None, most: int
) -> Axis:
    """Some of the rows, sorted by a target and evenly thinned."""
    shown = _thin(_sorted(rows, batch, target), most)
    names = [label_of(float(batch.truth[0, row, target]), columns[target]) for row in shown]
    kinds = [] if roles is None else [ROLES[role] for role in roles[batch.row[0, rows].cpu()].unique().tolist()]
    counted = f"{len(shown)} of {len(rows)}" if len(shown) < len(rows) else str(len(rows))
    return Axis(
        shown.tolist(), names, f"{counted} {' and '.join(kinds)}{' ' if kinds else ''}rows by {columns[target].name}"
    )


def _sorted(rows: Tensor, batch: CellBatch, target: int) -> Tensor:
    """Rows in the order of a target; those without a label last."""
    values = batch.truth[0, rows, target].cpu().nan_to_num(nan=torch.inf)
    return rows[torch.argsort(values, stable=True)]


def _thin(rows: Tensor, most: int) -> Tensor:
    """At most so many rows at equal steps, the first and the last included."""
    if len(rows) <= most:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, most).round().long()]


def _row_title(row: int, batch: CellBatch, column: Column, target: int) -> str:
    return f"row {int(batch.row[0, row])}, {column.name} {label_of(float(batch.truth[0, row, target]), column)}"


def row_points(
    batch: CellBatch, columns: Sequence[Column], output: Tensor, token_of: Sequence[int] | None = None
) -> Tensor:
    """Tokens of the target columns, ``(tables, rows, dim)`` or with several targets ``(tables, rows, targets, dim)``.

    An output that is not one token for each cell, or for each group of columns, is returned as it is.
    """
    token_of = range(len(columns)) if token_of is None else token_of
    if output.dim() != 4 or output.shape[:3] != (*batch.x.shape[:2], max(token_of) + 1):
        return output
    targets = [token_of[place] for place, column in enumerate(columns) if column.target]
    return output[:, :, targets[0]] if len(targets) == 1 else output[:, :, targets]


def row_metadata(
    batch: CellBatch, columns: Sequence[Column], roles: Tensor | None, output: Tensor
) -> dict[str, list[object]] | None:
    """Label, split and number of the row of each point, or None where the points are no rows.

    Args:
        batch: The batch.
        columns: Columns of the table.
        roles: Role of each row of the table; None = unknown.
        output: The points, whose leading dimensions are tables and rows.
    """
    if output.dim() < 3 or output.shape[:2] != batch.row.shape:
        return None
    each = output[0, 0].numel() // output.shape[-1]
    places = [place for place, column in enumerate(columns) if column.target]
    truth = batch.truth.flatten(0, 1).repeat_interleave(each, 0)
    rows = batch.row.flatten().cpu()
    table: dict[str, list[object]] = {
        columns[place].name: [label_of(value, columns[place]) for value in truth[:, place].tolist()] for place in places
    }
    if roles is not None:
        table["split"] = list(map(ROLES.__getitem__, roles[rows].repeat_interleave(each).tolist()))
    table["row"] = list(rows.repeat_interleave(each).tolist())
    if output.dim() == 4 and each == len(places):
        table["target"] = [name for _ in rows for name in (columns[place].name for place in places)]
    return table
