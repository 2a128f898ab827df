"""Banded softmax attention, computed densely."""

from torch import Tensor

from tabattn.attention.fused import attend
from tabattn.attention.mechanism import Mechanism, check_at_least, check_dropout, check_same_length
from tabattn.attention.patterns import band


class Sparse(Mechanism):
    """Banded softmax attention: a mask on the full score matrix leaves the keys around each position.

    ``softmax(q k^T / sqrt(head_dim) where |i - j| <= window // 2) v``

    Cost: quadratic time and memory: the band saves nothing; ``Local`` does.
    Exactness: exact within the band; equals Softmax where window >= 2 length.
    Source: Child et al. 2019, arXiv 1904.10509.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
        window: Width of the band in tokens, half of it on either side.
        dropout: Probability of dropping an attention weight while training.
    """

    cross = False

    def __init__(self, heads: int, head_dim: int, *, window: int = 8, dropout: float = 0.0) -> None:
        super().__init__(heads, head_dim)
        check_at_least(1, window=window)
        self.window = window
        self.dropout = check_dropout(dropout)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        visible = band(check_same_length(self, q, k), self.window // 2, q.device)
        if mask is not None:
            visible = visible & mask
        return attend(q, k, v, visible, dropout=self.dropout if self.training else 0.0)
