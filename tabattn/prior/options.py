"""Structural options of ``PriorNetwork``."""

from dataclasses import dataclass
from typing import Literal

from tabattn.nn.block import Order


@dataclass(frozen=True)
class PriorOptions:
    """Structural options of the in-context classifier of tables.

    With ``summaries`` the network works as TabICL does (arXiv 2502.05564): labels are added to the cells of context
    rows, the layers on cells let every column's rows attend to one another, and a few learned summary tokens collect
    each row. With ``row_layers`` their concatenation becomes one token for each row, and the remaining layers attend
    between rows alone, at a cost that does not depend on the number of columns.

    Args:
        embedding: Cell embedding: ``linear`` in the value, or ``rbf``, with radial basis functions of it too.
        radial: Number of radial basis functions.
        order: Which axis attends first in the layers on cells: ``columns`` -> rows -> MLP, or ``rows`` -> MLP ->
            columns.
        summaries: Learned summary tokens of each row, which attend to its columns and are read out; 0 = the label is
            the last column, and that is read out. Needs order ``rows``.
        readout: What is read out of a target row without summaries: its ``label`` token, or that after ``attention``
            pooling, with which it collects all columns once more after the last layer.
        row_layers: Number of layers over one token for each row, after the layers on cells; 0 = none. Needs summaries.
        row_dim: Width of a row token.
        row_heads: Number of heads of these layers.
        row_hidden: Width of the MLP's hidden layer there.
        targets: What is predicted: ``classes``, or ``numbers``, of which the network reads those of context rows,
            standardised, and predicts a bar distribution (``tabattn.prior.bars``) with ``classes`` bars.
    """

    embedding: Literal["linear", "rbf"] = "linear"
    radial: int = 16
    order: Order = "columns"
    summaries: int = 0
    readout: Literal["label", "attention"] = "label"
    row_layers: int = 0
    row_dim: int = 192
    row_heads: int = 6
    row_hidden: int = 384
    targets: Literal["classes", "numbers"] = "classes"

    def __post_init__(self) -> None:
        if self.embedding not in ("linear", "rbf"):
            raise ValueError(f"embedding must be linear or rbf, got {self.embedding!r}")
        if self.order not in ("columns", "rows"):
            raise ValueError(f"order must be columns or rows, got {self.order!r}")
        if self.readout not in ("label", "attention"):
            raise ValueError(f"readout must be label or attention, got {self.readout!r}")
        if self.targets not in ("classes", "numbers"):
            raise ValueError(f"targets must be classes or numbers, got {self.targets!r}")
        if self.summaries and self.readout == "attention":
            raise ValueError(f"summaries must be 0 where the readout is attention, got {self.summaries}")
        for name, least in (("radial", 2), ("summaries", 0), ("row_layers", 0), ("row_dim", 1), ("row_hidden", 1)):
            if (size := getattr(self, name)) < least:
                raise ValueError(f"{name} must be at least {least}, got {size}")
        if self.summaries and self.order != "rows":
            raise ValueError(f"order must be rows where there are summaries, got {self.order} and {self.summaries}")
        if self.row_layers and not self.summaries:
            raise ValueError(f"summaries must be at least 1 where there are row_layers, got 0 and {self.row_layers}")


DEFAULT_OPTIONS = PriorOptions()
