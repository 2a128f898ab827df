"""Wide block: attention between rows whose tokens are whole rows, then between the cells of a row."""

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax
from tabattn.nn.block import Block, silence
from tabattn.nn.gelu import GELU
from tabattn.nn.multihead import MultiheadAttention
from tabattn.nn.rows import RowAttention

GAIN = 2.0
"""Scale of the orthogonal matrix from rows to their queries and keys at first."""


class WideBlock(nn.Module):
    """Attention between datapoints of width ``columns * dim``, then between attributes of width ``dim``, both pre-norm.

    Each is a transformer block with an MLP of its own: Kossen et al. 2021 (arXiv 2106.02584), section 2.2. The first
    has ``columns ** 2`` times the parameters of one whose tokens are cells. Its queries and keys are the same
    orthogonal projection at first, so that rows attend to those that are like them: from independent projections,
    comparing rows is learned only after many steps, or not at all.

    Args:
        columns: Number of columns.
        dim: Width of a cell's token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer for a cell; that for a row is ``columns`` times as wide.
        attention: Mechanism between rows.
        attribute_attention: Mechanism between the columns of a row.
        dropout: Probability of dropout on what each sublayer adds.
    """

    def __init__(
        self,
        columns: int,
        dim: int,
        heads: int,
        hidden: int,
        attention: AttentionFactory = Softmax,
        attribute_attention: AttentionFactory = Softmax,
        *,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        between = RowAttention(columns * dim, heads, attention)
        _compare(between.attention)
        self.rows = _block(columns * dim, between, columns * hidden, dropout)
        self.attributes = _block(dim, RowAttention(dim, heads, attribute_attention), hidden, dropout)

    def forward(self, x: Tensor, context: int | None = None) -> Tensor:
        """Transform tokens ``(tables, rows, columns, dim)``; rows attend to the first ``context`` rows."""
        x = self.rows(x.flatten(2), context).view_as(x)
        return self.attributes(x.flatten(0, 1)).view_as(x)


def _compare(attention: MultiheadAttention) -> None:
    """Let queries and keys begin as the same orthogonal projection."""
    with torch.no_grad():
        query, key, _ = attention.qkv.weight.chunk(3)
        key.copy_(nn.init.orthogonal_(query, gain=GAIN))
        attention.qkv.bias[: 2 * attention.dim] = 0.0


def _block(dim: int, rows: RowAttention, hidden: int, dropout: float) -> Block:
    narrow = nn.Linear(hidden, dim)
    silence(narrow, *rows.outputs())
    mlp = nn.Sequential(nn.Linear(dim, hidden), GELU(), narrow)
    return Block(dim, rows, mlp, norm="before", dropout=dropout)
