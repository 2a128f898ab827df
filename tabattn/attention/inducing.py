"""Attention through learned inducing points."""

import torch
from torch import Tensor, nn

from tabattn.attention.fused import attend
from tabattn.attention.mechanism import Mechanism, check_at_least, check_dropout
from tabattn.attention.scores import key_mask


class Inducing(Mechanism):
    """Inducing-point attention: learned queries summarise all tokens, then each token attends to the summaries.

    ``softmax(q K^T) softmax(P k^T) v`` with scores over ``sqrt(head_dim)``, P the ``points`` learned queries of each
    head and K the keys of their summaries. Computed in float32 for float16, whose range the gradients between the two
    steps leave.

    Cost: linear time and memory (length x points).
    Exactness: another function: attention of rank points.
    Source: Lee et al. 2019, arXiv 1810.00825, section 3.1.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
        points: Inducing points (learned queries) for each head.
        dropout: Probability of dropping an attention weight while training.
    """

    query_masks = False

    def __init__(self, heads: int, head_dim: int, *, points: int = 4, dropout: float = 0.0) -> None:
        super().__init__(heads, head_dim)
        check_at_least(1, points=points)
        self.points = points
        self.dropout = check_dropout(dropout)
        self.inducing = nn.Parameter(torch.randn(heads, points, head_dim))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        visible = key_mask(mask, self)
        dropout = self.dropout if self.training else 0.0
        # The key of a summary is the weighted mean of the keys it summarises, not the learned query: it depends on the
        # data, and made in-context classification with few points more accurate.
        with torch.autocast(q.device.type, enabled=False):
            wide = torch.float32 if q.dtype == torch.float16 else q.dtype
            queries, keys, values = q.to(wide), k.to(wide), v.to(wide)
            points = self.inducing.to(wide).expand(q.shape[0], -1, -1, -1)
            summary = attend(points, keys, torch.cat([keys, values], dim=-1), visible, dropout)
            out = attend(queries, summary[..., : self.head_dim], summary[..., self.head_dim :], dropout=dropout)
            return out.to(v.dtype)
