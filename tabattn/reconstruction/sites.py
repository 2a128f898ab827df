"""Attention sites: where a network of reconstruction attends between rows, and where between columns."""

from typing import Literal, NamedTuple

from torch import nn

from tabattn.attention import Mechanism

COLUMN_PARTS = frozenset(["features", "attributes"])
"""Names of the modules that attend between columns, in ``Block``, ``LegacyLayer`` and ``WideBlock``."""


class Site(NamedTuple):
    """Mechanism of a network.

    Attributes:
        path: Its module path in the network.
        axis: What attends to one another: the rows, or the columns of a row.
        tokens: Tokens of the attention between rows: ``cells``, whose batch are the columns of each table, or whole
            ``rows``, whose batch are the tables. The batch of the attention between columns are the rows of each table.
        queries: Rows that attend: all, or only those of the context, or only those behind it.
    """

    path: str
    axis: Literal["rows", "columns"]
    tokens: Literal["cells", "rows"] = "cells"
    queries: Literal["all", "context", "targets"] = "all"

    def queries_of(self, rows: int, context: int) -> range:
        """Numbers of the rows that attend, of a table whose first ``context`` rows are attended to."""
        if self.queries == "all" or context == rows:
            return range(rows) if self.queries != "targets" else range(0)
        return range(context) if self.queries == "context" else range(context, rows)


def sites(network: nn.Module, tokens: Literal["cells", "rows"]) -> list[Site]:
    """Find the sites of a network of ``Block``, ``WideBlock`` or ``LegacyLayer``, in the order of its layers.

    Args:
        network: The network.
        tokens: Tokens of the attention between rows.
    """
    paths = [path for path, module in network.named_modules() if isinstance(module, Mechanism)]
    paths = [path for path in paths if not any(path.startswith(f"{outer}.") for outer in paths)]
    found = []
    for path in paths:
        parts = path.split(".")
        if COLUMN_PARTS & set(parts):
            found.append(Site(path, "columns", tokens))
        elif parts[-1] == "outside":
            found.append(Site(path, "rows", tokens, "targets"))
        else:
            # A mechanism that answers no queries from outside serves the context alone.
            owner = path.removesuffix(".mechanism").removesuffix(".attention")
            apart = f"{owner}.outside" in paths
            found.append(Site(path, "rows", tokens, "context" if apart else "all"))
    return found
