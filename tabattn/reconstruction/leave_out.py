"""Leave-out check of deciding rows: how far predictions move without some rows of the context."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tabattn.contract.cells import CellBatch, Column
from tabattn.reconstruction.cell_network import CellNetwork, Reconstruction

CELLS_AT_ONCE = 2**17
"""Most cells that are predicted in one pass, which bounds the memory; a table of more is predicted alone."""


class Context(NamedTuple):
    """Context rows of all tables of a batch, by their number in the table of the data.

    Attributes:
        numbers: The numbers, increasing, ``(numbers,)``.
        places: Index of each context row in ``numbers``, ``(tables, context)``.
    """

    numbers: Tensor
    places: Tensor

    @classmethod
    def of(cls, batch: CellBatch) -> "Context":
        """Find the numbers."""
        return cls(*batch.row[:, : batch.context].unique(return_inverse=True))


class Left(NamedTuple):
    """A prediction without some rows of the context.

    Attributes:
        row: Place of the predicted row in the batch.
        place: Place of the target column.
        out: Indices in ``Context.numbers`` of the rows that leave, ``(rows,)``.
    """

    row: int
    place: int
    out: Tensor


class Rest(NamedTuple):
    """What is left of one table of a batch.

    Attributes:
        number: Number of the prediction for which it is.
        table: Number of the table in the batch.
        rows: Places of the rows, context rows first, ``(rows,)``.
        context: Number of context rows.
        at: Place of the predicted row among them.
    """

    number: int
    table: int
    rows: Tensor
    context: int
    at: int


@torch.no_grad()
def changes(
    network: CellNetwork,
    batch: CellBatch,
    found: Reconstruction,
    columns: Sequence[Column],
    context: Context,
    asked: Sequence[Left],
) -> Tensor:
    """Change of predictions without some rows of the context, averaged over the tables of a batch.

    What is left of the tables is predicted several at a time: at most ``CELLS_AT_ONCE`` cells.

    Args:
        network: The network.
        batch: The batch.
        found: Its predictions.
        columns: Columns of the table.
        context: Its context rows.
        asked: The predictions.

    Returns:
        ``(predictions,)`` double: change of a number's mean in the data's units, or of the probability of the category
        that was predicted; NaN where a table has no context row left.
    """
    sums: dict[int, Tensor] = {}
    for part in _parts(asked, batch, context):
        x, hidden, rows = (
            torch.stack([cells[each.table, each.rows] for each in part]) for cells in (batch.x, batch.hidden, batch.row)
        )
        without = network.reconstruct(batch._replace(x=x, hidden=hidden, row=rows, context=part[0].context))
        for turn, each in enumerate(part):
            value = prediction(network, without, asked[each.number].place, each.at)[turn]
            sums[each.number] = sums.get(each.number, 0.0) + value
    result = torch.full((len(asked),), torch.nan, dtype=torch.double)
    for number, total in sums.items():
        row, place, _ = asked[number]
        before, after = prediction(network, found, place, row).mean(0), total / len(batch.x)
        if columns[place].categories:
            best = int(before.argmax())
            result[number] = after[best] - before[best]
        else:
            result[number] = columns[place].std * (after - before)
    return result


def prediction(network: CellNetwork, found: Reconstruction, place: int, row: int) -> Tensor:
    """Prediction of one cell in each table: standardised mean, ``(tables,)``, or ``(tables, categories)``."""
    kinds = network.kinds
    if place in kinds.numeric:
        return found.mean[:, row, kinds.numeric.index(place)].double()
    at = kinds.categorical.index(place)
    return found.logits[:, row, at].double().softmax(-1)


def _parts(asked: Sequence[Left], batch: CellBatch, context: Context) -> Iterator[list[Rest]]:
    """Yield tables of one size, as many as are predicted at a time."""
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for number, left in enumerate(asked):
        rests = [_rest(number, left, table, batch, context) for table in range(len(batch.x))]
        if all(each.context for each in rests):
            for each in rests:
                groups.setdefault((len(each.rows), each.context), []).append((number, each.table))
    for (rows, _), group in groups.items():
        step = max(1, CELLS_AT_ONCE // (rows * batch.x.shape[2]))
        for start in range(0, len(group), step):
            yield [_rest(number, asked[number], table, batch, context) for number, table in group[start : start + step]]


def _rest(number: int, left: Left, table: int, batch: CellBatch, context: Context) -> Rest:
    """What is left of a table. Of a row that is context itself a copy may leave, but not the row."""
    stays = ~torch.isin(context.places[table], left.out)
    if left.row < batch.context:
        stays[left.row] = True
        return Rest(number, table, stays.nonzero()[:, 0], int(stays.sum()), int(stays[: left.row].sum()))
    kept = stays.nonzero()[:, 0]
    return Rest(number, table, torch.cat([kept, kept.new_tensor([left.row])]), len(kept), len(kept))
