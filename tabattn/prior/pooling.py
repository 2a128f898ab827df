"""Attention pooling of the columns of a row, before the decoder."""

from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax
from tabattn.nn.block import silence
from tabattn.nn.multihead import MultiheadAttention


class ColumnPooling(nn.Module):
    """Attention pooling: the label token of each row attends to the columns of the row, pre-norm, with a residual.

    The layers before end with attention along rows, so that what the other columns found there has not reached the
    label token; pooling reads it (LimiX, arXiv 2606.04485). It adds nothing at first.

    Args:
        dim: Width of a token.
        heads: Number of heads.
        attention: Mechanism from the label column to all columns; Softmax where it cannot answer queries from outside.
    """

    def __init__(self, dim: int, heads: int, attention: AttentionFactory = Softmax) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = MultiheadAttention(dim, heads, attention)
        if not self.attention.mechanism.cross:
            self.attention = MultiheadAttention(dim, heads, Softmax)
        silence(self.attention.out)

    def forward(self, x: Tensor, columns: Tensor | None = None) -> Tensor:
        """Pool tokens of rows ``(batch, rows, columns, dim)``, the label column last, to ``(batch, rows, dim)``.

        Args:
            x: Tokens.
            columns: Column mask, ``(batch, columns)``; True = may be seen. None = all.
        """
        tokens = self.norm(x).flatten(0, 1)
        mask = None if columns is None else columns.repeat_interleave(x.shape[1], dim=0)[:, None, None]
        pooled = self.attention(tokens[:, -1:], tokens, mask)
        return x[:, :, -1] + pooled[:, 0].view(*x.shape[:2], -1)
