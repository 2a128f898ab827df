"""Deciding rows: the context rows that attention weighs most in a prediction, checked by leaving them out."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tabattn.attention import MECHANISMS, Mechanism
from tabattn.attention.capture import Record, capture
from tabattn.contract.cells import CellBatch, Column
from tabattn.contract.views import rounded
from tabattn.reconstruction.cell_network import CellNetwork, Reconstruction
from tabattn.reconstruction.leave_out import Context, Left, changes
from tabattn.reconstruction.options import PredictOptions
from tabattn.reconstruction.sites import Site
from tabattn.reconstruction.views import label_of

QUERIES_AT_ONCE = 256
"""Most rows whose maps are computed in one pass, which bounds the memory."""


class Deciding(NamedTuple):
    """Deciding rows of some predictions, by decreasing weight.

    Attributes:
        target: Places of the target columns, ``(targets,)``.
        rows: Numbers of the deciding rows in the table, ``(rows, targets, deciding)``.
        weights: Their weights, of that shape.
        labels: Their cells of all targets, standardised or by index; NaN = missing,
            ``(rows, targets, deciding, targets)``.
        changes: Change of the prediction without them, and without as many random rows, ``(rows, targets, 2)`` double:
            of a number's mean in the data's units, or of the probability of the predicted category; NaN = not known.
    """

    target: Tensor
    rows: Tensor
    weights: Tensor
    labels: Tensor
    changes: Tensor


@torch.no_grad()
def decide(
    network: CellNetwork, batch: CellBatch, found: Reconstruction, columns: Sequence[Column], options: PredictOptions
) -> Deciding:
    """Find the deciding rows of each prediction of a row that is asked for.

    The weight of a context row is its attention weight for the predicted row, as the mean over the heads, the layers
    and the contexts of the batch: where cells attend, that of the target column, else that of whole rows. Attention of
    context rows to one another is not followed. The row itself is not among them.

    Args:
        network: The network.
        batch: The batch.
        found: Its predictions.
        columns: Columns of the table.
        options: How many rows, and whether to check them.

    Raises:
        ValueError: The network or one of its mechanisms has no map over rows.
    """
    targets = [place for place, column in enumerate(columns) if column.target]
    asked = batch.to_predict(targets).nonzero()[:, 0]
    context = Context.of(batch)
    kept = _without_own(_totals(network, batch, asked, targets, context), batch, asked, context)
    most = min(options.deciding_rows, int((kept > -torch.inf).sum(-1).min()) if kept.numel() else 0)
    weights, top = kept.topk(most, dim=-1)
    labels = batch.truth.new_full((len(context.numbers), len(targets)), torch.nan)
    for table, places in enumerate(context.places):
        labels[places] = batch.truth[table, : batch.context][:, targets]
    moved = torch.full((len(asked), len(targets), 2), torch.nan, dtype=torch.double)
    if options.leave_out and most:
        places, left = [], []
        for row, each in enumerate(asked.tolist()):
            random = _random(kept[row], top[row], int(batch.row[0, each]))
            for at, place in enumerate(targets):
                outs = [(turn, out) for turn, out in enumerate((top[row, at], random[at])) if len(out)]
                places += [(row, at, turn) for turn, _ in outs]
                left += [Left(each, place, out) for _, out in outs]
        moved[tuple(torch.tensor(places).T)] = changes(network, batch, found, columns, context, left)
    return Deciding(torch.tensor(targets), context.numbers[top], weights, labels[top], moved)


def _totals(network: CellNetwork, batch: CellBatch, asked: Tensor, targets: Sequence[int], context: Context) -> Tensor:
    """Weight of each number for each predicted row and target, ``(rows, targets, numbers)``."""
    sites = [site for site in network.sites() if site.axis == "rows"]
    if not sites:
        raise ValueError(f"{type(network).__name__} names no attention between rows: predict.deciding_rows must be 0")
    tables, rows, width = batch.x.shape
    token_of = range(width) if network.token_of is None else network.token_of
    width = max(token_of) + 1
    elements = {
        "cells": [table * width + token_of[place] for table in range(tables) for place in targets],
        "rows": list(range(tables)),
    }
    with capture(network, ("q", "k", "mask"), {site.path: elements[site.tokens] for site in sites}) as records:
        network.reconstruct(batch)
    totals = batch.x.new_zeros(len(asked), len(targets), len(context.numbers), dtype=torch.float)
    calls = batch.x.new_zeros(len(asked))
    for site in sites:
        able = site.queries_of(rows, batch.context)
        among = ((asked >= able.start) & (asked < able.stop)).nonzero()[:, 0]
        for record in records[site.path] if len(among) else ():
            calls[among] += 1
            for part, maps in _maps(network, site, record, among, asked[among] - able.start, batch):
                for table, places in enumerate(context.places):
                    each = maps[table].transpose(0, 1).expand(-1, len(targets), -1)
                    totals[part] = totals[part].index_add(2, places, each)
    return totals / (tables * calls[:, None, None])


def _maps(
    network: CellNetwork, site: Site, record: Record, among: Tensor, queries: Tensor, batch: CellBatch
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some of the predicted rows and their maps by heads' mean, ``(tables, targets or 1, rows, context)``."""
    mechanism = network.get_submodule(site.path)
    assert isinstance(mechanism, Mechanism)
    q, k, mask = (None if part is None else part.to(batch.x.device) for part in (record.q, record.k, record.mask))
    assert q is not None
    assert k is not None
    # A mechanism that compares positions needs all queries at once.
    step = QUERIES_AT_ONCE if mechanism.cross else max(1, len(queries))
    for part, places in zip(among.split(step), queries.split(step), strict=True):
        if mechanism.cross:
            seen = mask if mask is None or mask.shape[-2] == 1 else mask[..., places, :]
            weights = mechanism.weights(q[:, :, places], k, seen)
        else:
            weights = mechanism.weights(q, k, mask)
            weights = weights[:, :, places]
        if weights.shape[-1] != batch.context:
            able = ", ".join(name for name, each in MECHANISMS.items() if each.reads_keys)
            raise ValueError(
                f"{type(mechanism).__name__} has no attention map over rows, so predict.deciding_rows must be 0; "
                f"these have one: {able}"
            )
        yield part, weights.float().mean(1).unflatten(0, (len(batch.x), -1))


def _without_own(totals: Tensor, batch: CellBatch, asked: Tensor, context: Context) -> Tensor:
    """Weights with -inf for the predicted row itself, where it is a context row and no other has its number."""
    totals = totals.clone()
    repeats = torch.bincount(context.places[0], minlength=len(context.numbers))
    for row, place in enumerate(asked.tolist()):
        if place < batch.context and repeats[own := context.places[0, place]] == 1:
            totals[row, :, own] = -torch.inf
    return totals


def _random(kept: Tensor, top: Tensor, seed: int) -> list[Tensor]:
    """For each target as many random numbers that are not among the top ones, or fewer where there are no more."""
    source = torch.Generator().manual_seed(seed)
    found = []
    for weights, out in zip(kept.cpu(), top.cpu(), strict=True):
        others = weights > -torch.inf
        others[out] = False
        places = others.nonzero()[:, 0]
        found.append(places[torch.randperm(len(places), generator=source)[: len(out)]].to(top.device))
    return found


def deciding_table(rows: Tensor, deciding: Deciding, columns: Sequence[Column]) -> dict[str, list[Any]]:
    """Convert deciding rows to the columns of a table, a line for each predicted row, target and deciding row.

    Columns: ``row`` and ``target``, ``rank`` from 1, ``deciding row``, ``weight``, for each target
    ``<target> of the deciding row``, and the changes of the prediction ``without all of them`` and
    ``without random rows``, which are those of the row and target.
    """
    places = deciding.target.tolist()
    count, targets, most = deciding.rows.shape
    lines = [(row, at, rank) for row in range(count) for at in range(targets) for rank in range(most)]
    numbers = rows.tolist()
    table: dict[str, list[Any]] = {
        "row": [numbers[row] for row, _, _ in lines],
        "target": [columns[places[at]].name for _, at, _ in lines],
        "rank": [rank + 1 for _, _, rank in lines],
        "deciding row": deciding.rows.flatten().tolist(),
        "weight": deciding.weights.flatten().tolist(),
    }
    for at, place in enumerate(places):
        column = columns[place]
        values = deciding.labels[..., at].flatten().double()
        if column.categories:
            shown: list[Any] = [None if value != value else label_of(value, column) for value in values.tolist()]
        else:
            shown = [None if value != value else value for value in (column.mean + column.std * values).tolist()]
        table[f"{column.name} of the deciding row"] = shown
    for turn, name in enumerate(("without all of them", "without random rows")):
        change = deciding.changes[..., turn].tolist()
        table[f"change {name}"] = [change[row][at] for row, at, _ in lines]
    return table


def described(changes: Tensor, targets: Sequence[Column], most: int) -> list[str]:
    """A line for each target: how much predictions change without their deciding rows, on average.

    Args:
        changes: See ``Deciding``.
        targets: The target columns.
        most: Number of deciding rows.
    """
    lines = []
    for at, column in enumerate(targets):
        top, random = changes[:, at].abs().nanmean(0).tolist()
        what = (
            f"the probability of the predicted {column.name}" if column.categories else f"the predicted {column.name}"
        )
        if top == top:
            lines.append(
                f"Without its {most} deciding rows {what} changes by {rounded(top, 4)} on average, "
                f"without as many random rows by {rounded(random, 4)}"
            )
    return lines
