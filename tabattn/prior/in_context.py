"""Base class of the in-context tasks on tables, whose networks can be initialised from one another."""

from collections.abc import Callable, Sequence
from typing import Any

from tabattn.task import Task

Names = Callable[[int], Sequence[str]]
"""Returns the column names of a table by its index."""


class InContext(Task):
    """In-context task: target rows of a table are predicted from context rows, in one forward pass."""

    task_name = "prior"
    target = "label"
    """Name of the last column in attention maps."""

    def counted(self, batch: Any) -> dict[str, int]:
        """Tables of a batch and their rows."""
        return {"tables": len(batch.x), "rows": batch.x.shape[0] * batch.x.shape[1]}

    def names_of_columns(
        self, column_names: Callable[[int], Sequence[str]] | None, batch: Any
    ) -> dict[str, list[str]] | None:
        """Names of the tokens of a row: its columns, by the index of the table, and the target."""
        if column_names is None or batch.table is None:
            return None
        return {"features": [*column_names(int(batch.table[0])), self.target]}
