"""Base class of the in-context tasks on tables, whose networks can be initialised from one another."""

from typing import Any

from tabattn.task import Task


class InContext(Task):
    """In-context task: target rows of a table are predicted from context rows, in one forward pass."""

    task_name = "prior"
    target = "label"
    """Name of the last column in attention maps."""

    def counted(self, batch: Any) -> dict[str, int]:
        """Tables of a batch and their rows."""
        return {"tables": len(batch.x), "rows": batch.x.shape[0] * batch.x.shape[1]}

    def token_names(self, batch: Any) -> dict[str, list[str]] | None:
        """Column names, if the datamodule has names for the table of the batch."""
        column_names = self.of_data("column_names")
        if column_names is None or batch.table is None:
            return None
        return {"features": [*column_names(int(batch.table[0])), self.target]}
