"""Filled cells: predictions of hidden and missing cells, in the data's units."""

from collections.abc import Sequence
from itertools import chain, count
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tabattn.contract.cells import CellBatch, Column
from tabattn.nn.densities import parts
from tabattn.reconstruction.cell_network import Kinds, Reconstruction
from tabattn.reconstruction.deciding import Deciding
from tabattn.reconstruction.metrics import Predicted, mixed, selected


class Filled(NamedTuple):
    """Predictions of the cells of some rows.

    Attributes:
        row: Numbers of the rows in the table, ``(rows,)``.
        truth: True cells in the data's units, categories by index, ``(rows, columns)`` double; NaN = missing.
        cells: Predicted means, and most probable categories by index, ``(rows, columns)`` double.
        std: Predicted standard deviations of numbers, NaN for categories, ``(rows, columns)`` double.
        probabilities: Probabilities of categories, ``(rows, categorical columns, categories)``; 0 behind the last.
        deciding: The context rows that decided; None = not asked for.
    """

    row: Tensor
    truth: Tensor
    cells: Tensor
    std: Tensor
    probabilities: Tensor
    deciding: Deciding | None = None


def predicted(found: Reconstruction, batch: CellBatch, kinds: Kinds, place: int) -> tuple[Predicted, Tensor]:
    """Predict a target column for the scored rows, averaged over the contexts of the batch.

    Args:
        found: Answer of the network.
        batch: The batch.
        kinds: Kinds of the columns.
        place: Number of the column.

    Returns:
        Truth and predictions, and the numbers of the rows in the table.
    """
    rows = batch.scored[0, :, place]
    truth = batch.truth[0, rows, place]
    if place in kinds.numeric:
        at = kinds.numeric.index(place)
        density = mixed(selected(found.density, rows, at))
        return Predicted(truth, found.mean[:, rows, at].mean(0), density), batch.row[0, rows]
    at = kinds.categorical.index(place)
    logits = found.logits[:, rows, at, : kinds.counts[at]]
    return Predicted(truth, logits.softmax(-1).mean(0), None), batch.row[0, rows]


def filled(found: Reconstruction, batch: CellBatch, columns: Sequence[Column], kinds: Kinds) -> Filled:
    """Predict the cells of the rows that are asked for, averaged over the contexts of the batch."""
    targets = [place for place, column in enumerate(columns) if column.target]
    rows = batch.to_predict(targets)
    cells = torch.full(batch.truth[0, rows].shape, torch.nan, dtype=torch.double, device=batch.x.device)
    std = cells.clone()
    logits, means, widths = (part[:, rows] for part in parts(found.density))
    weights = logits.softmax(-1) / len(batch.x)
    mean = (weights * means).sum((0, -1))
    variance = (weights * (widths.square() + (means - mean[..., None]).square())).sum((0, -1))
    point = found.mean[:, rows].mean(0)
    cells[:, kinds.numeric], std[:, kinds.numeric] = point.double(), variance.sqrt().double()
    probabilities = found.logits[:, rows].softmax(-1).mean(0)
    if kinds.categorical:
        cells[:, kinds.categorical] = probabilities.argmax(-1).double()
    centre, scale = (cells.new_tensor([column[at] for column in columns]) for at in (2, 3))
    truth = centre + scale * batch.truth[0, rows].double()
    return Filled(batch.row[0, rows], truth, centre + scale * cells, scale * std, probabilities)


def prediction_table(output: Filled, columns: Sequence[Column]) -> dict[str, list[Any]]:
    """Convert predictions to the columns of a table.

    Columns: ``row``, counted from 0; for each target its true value, empty if unknown, ``predicted <target>``, and
    ``std <target>`` or ``p(<target>=<category>)``; for each other column with a missing cell ``filled <column>``, empty
    where the cell is not missing. Of names that would be the same, such as that of a target ``row``, the later ones end
    in ``(2)``, ``(3)``, ...
    """
    table: dict[str, list[Any]] = {"row": output.row.tolist()}
    categorical = [place for place, column in enumerate(columns) if column.categories]
    for place, column in enumerate(columns):
        truth, cells = (_named(part[:, place], column) for part in (output.truth, output.cells))
        missing = output.truth[:, place].isnan().tolist()
        if not column.target:
            if any(missing):
                table[_free(f"filled {column.name}", table)] = [
                    cell if absent else None for cell, absent in zip(cells, missing, strict=True)
                ]
            continue
        table[_free(column.name, table)] = truth
        table[_free(f"predicted {column.name}", table)] = cells
        if column.categories:
            probabilities = output.probabilities[:, categorical.index(place)].T.tolist()
            for name, each in zip(column.categories, probabilities, strict=False):
                table[_free(f"p({column.name}={name})", table)] = each
        else:
            table[_free(f"std {column.name}", table)] = output.std[:, place].tolist()
    return table


def _free(name: str, table: dict[str, list[Any]]) -> str:
    """The name if the table has no such column, else the name with a number behind it."""
    names = chain([name], (f"{name} ({number})" for number in count(2)))
    return next(each for each in names if each not in table)


def _named(cells: Tensor, column: Column) -> list[Any]:
    values = cells.tolist()
    if column.categories:
        return [None if value != value else column.categories[int(value)] for value in values]
    return [None if value != value else value for value in values]
