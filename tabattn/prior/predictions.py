"""Prediction table: one line for each target row."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tabattn.contract.batches import TableBatch
from tabattn.contract.views import ScoredColumn

ClassNames = Callable[[int], Sequence[str]]
"""Returns the class names of a table by its index."""


def prediction_table(
    batch: TableBatch,
    probabilities: Tensor,
    tables: Sequence[str] = (),
    class_names: ClassNames | None = None,
    target_rows: Sequence[int] | None = None,
) -> dict[str, list[Any]]:
    """Convert the predictions of a batch to the columns of a table.

    Args:
        batch: The batch.
        probabilities: Class probabilities of the target rows, ``(batch, target rows, classes)``.
        tables: Names of the tables, which ``batch.table`` indexes; empty if they have none.
        class_names: Returns the class names of a table by its index; None = class indices.
        target_rows: Index in its table of each target row, for a batch of one task; None = counted within the task.

    Returns:
        Columns: ``table``, the name of the table, or the number of the task if there is none; ``row``, counted from 0
            in
        the table or the task; ``label``, empty if unknown; ``predicted``; and ``p(<class>)`` for each class.
    """
    count, rows = probabilities.shape[:2]
    numbers = batch.table.tolist() if batch.table is not None else list(range(count))
    # Columns have class names only if all tables of the batch have the same classes.
    single = class_names is not None and bool(tables) and len(set(numbers)) == 1
    names = list(class_names(numbers[0])) if single and class_names is not None else []
    names = names or [str(number) for number in range(probabilities.shape[2])]
    labels = batch.y[:, batch.context :].flatten().tolist()
    first = batch.context
    places = list(range(first, first + rows)) if target_rows is None else list(map(int, target_rows))
    best = probabilities[..., : len(names)].argmax(-1).flatten().tolist()
    columns: dict[str, list[Any]] = {
        "table": [tables[number] if tables else number for number in numbers for _ in range(rows)],
        "row": places * count,
        "label": [names[label] if 0 <= label < len(names) else None for label in labels],
        "predicted": [names[each] for each in best],
    }
    for number, name in enumerate(names):
        columns[f"p({name})"] = probabilities[..., number].flatten().tolist()
    return columns


def outcomes(
    batch: TableBatch, probabilities: Tensor, tables: Sequence[str] = (), class_names: ClassNames | None = None
) -> list[ScoredColumn]:
    """Truth and predicted probabilities of the scored target rows of a batch, by table; arguments as above.

    Tasks without a table are one column, ``tasks``, with a category for each class index.
    """
    targets = batch.y[:, batch.context :]
    numbers = torch.full_like(targets[:, 0], -1) if batch.table is None or not tables else batch.table
    found = []
    for number in numbers.unique().tolist():
        chosen = (numbers == number)[:, None] & (targets >= 0)
        names = tuple(class_names(number)) if number >= 0 and class_names is not None else ()
        names = names or tuple(map(str, range(probabilities.shape[2])))
        chances = probabilities[chosen][:, : len(names)].float().cpu()
        name = tables[number] if number >= 0 else "tasks"
        found.append(ScoredColumn(name, names, targets[chosen].cpu(), chances, None))
    return found
