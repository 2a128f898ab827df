"""CellTransformer: the default network of reconstruction."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax
from tabattn.contract.cells import Column
from tabattn.contract.checks import check_least
from tabattn.nn.block import Order, table_block
from tabattn.reconstruction.cell_network import CellNetwork, Kinds, Reconstruction, check_cells
from tabattn.reconstruction.embedding import CellEmbedding, Embedding
from tabattn.reconstruction.heads import CellHead
from tabattn.reconstruction.sites import Site, sites
from tabattn.reconstruction.wide import WideBlock


class CellTransformer(CellNetwork):
    """Non-Parametric Transformer: attention between datapoints (rows) and attributes (columns), by turns.

    Every cell is a token. With ``datapoints="cells"`` the rows of a column attend to one another, each column by the
    same weights; ``"rows"`` is the paper's form, whose tokens are whole rows of width ``columns * dim``. All rows
    attend to the context rows alone. Kossen et al. 2021 (arXiv 2106.02584).

    Args:
        columns: The columns of the table.
        attention: Mechanism between rows (attention between datapoints).
        attribute_attention: Mechanism between the columns of a row (attention between attributes).
        dim: Width of a cell's token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer, for a token of width ``dim``.
        layers: Number of layers, each with both attentions.
        embedding: How numbers are embedded: ``linear``, ``rbf``, ``periodic`` or ``piecewise``.
        datapoints: Tokens of the attention between rows: ``cells`` or ``rows``.
        order: Order of the sublayers: ``rows`` -> MLP -> ``columns``, or ``columns`` -> rows -> MLP.
        dropout: Probability of dropout on embeddings and on what each sublayer adds.
        components: Number of Gaussians in the predictive density of a number.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        attention: AttentionFactory = Softmax,
        attribute_attention: AttentionFactory = Softmax,
        *,
        dim: int = 64,
        heads: int = 4,
        hidden: int = 128,
        layers: int = 4,
        embedding: Embedding = "rbf",
        datapoints: Literal["cells", "rows"] = "cells",
        order: Order = "rows",
        dropout: float = 0.1,
        components: int = 3,
    ) -> None:
        super().__init__()
        check_least(dim=(dim, 1), hidden=(hidden, 1), layers=(layers, 1))
        if datapoints not in ("cells", "rows"):
            raise ValueError(f"datapoints must be cells or rows, got {datapoints!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.kinds = Kinds.of(columns)
        self.columns = len(columns)
        self.datapoints = datapoints
        self.embedding = CellEmbedding(columns, dim, embedding)
        self.dropout = nn.Dropout(dropout)

        def layer() -> nn.Module:
            if datapoints == "rows":
                return WideBlock(len(columns), dim, heads, hidden, attention, attribute_attention, dropout=dropout)
            return table_block(dim, heads, hidden, attention, attribute_attention, order=order, dropout=dropout)

        self.blocks = nn.ModuleList(layer() for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.head = CellHead(columns, dim, components)

    def sites(self) -> list[Site]:
        return sites(self, self.datapoints)

    def forward(self, x: Tensor, hidden: Tensor, context: int) -> Reconstruction:
        check_cells(x, hidden, context, self.columns)
        return self.predict(self.embedding(x, hidden), context)

    def predict(self, tokens: Tensor, context: int) -> Reconstruction:
        """Predict all cells from their embeddings ``(tables, rows, columns, dim)``."""
        tokens = self.dropout(tokens)
        for block in self.blocks:
            tokens = block(tokens, context)
        return self.head(self.norm(tokens))
