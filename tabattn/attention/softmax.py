"""Softmax attention by a fused kernel."""

from torch import Tensor

from tabattn.attention.fused import attend
from tabattn.attention.mechanism import Mechanism, check_dropout


class Softmax(Mechanism):
    """Scaled dot-product attention over all keys, by the fastest exact kernel at hand.

    ``softmax(q k^T / sqrt(head_dim)) v``

    Cost: quadratic time, linear memory with a fused kernel.
    Exactness: exact.
    Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
        dropout: Probability of dropping an attention weight while training.
    """

    def __init__(self, heads: int, head_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__(heads, head_dim)
        self.dropout = check_dropout(dropout)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return attend(q, k, v, mask, dropout=self.dropout if self.training else 0.0)
