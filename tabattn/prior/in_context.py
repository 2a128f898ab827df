"""Base class of the in-context tasks on tables, whose networks can be initialised from one another."""

from collections.abc import Callable, Sequence
from typing import Any

from tabattn.prior.classifier_network import ContextClassifier
from tabattn.task import Task

Names = Callable[[int], Sequence[str]]
"""Returns the column names of a table by its index."""


class InContext(Task):
    """In-context task: target rows of a table are predicted from context rows, in one forward pass."""

    task_name = "prior"
    target = "label"
    """Name of the target's token in attention maps."""
    network: ContextClassifier

    def counted(self, batch: Any) -> dict[str, int]:
        """Tables of a batch and their rows."""
        return {"tables": len(batch.x), "rows": batch.x.shape[0] * batch.x.shape[1]}

    def names_of_columns(
        self, column_names: Callable[[int], Sequence[str]] | None, batch: Any
    ) -> dict[str, list[str]] | None:
        """Names of the tokens of a row: summaries and the columns of its table, or these and the target."""
        if column_names is None or batch.table is None:
            return None
        columns, summaries = column_names(int(batch.table[0])), self.network.summary_tokens
        if summaries:
            return {"features": [*(f"summary {number + 1}" for number in range(summaries)), *columns]}
        return {"features": [*columns, self.target]}
