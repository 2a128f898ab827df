"""Attention to persistent memory: learned keys and values."""

import torch
from torch import Tensor, nn

from tabattn.attention.fused import attend
from tabattn.attention.mechanism import Mechanism, check_at_least, check_dropout
from tabattn.attention.scores import four_dimensional, without_keys


class Pooling(Mechanism):
    """Persistent-memory attention: queries attend to learned keys and values only, so no token sees another.

    ``softmax(q K^T / sqrt(head_dim)) V`` with parameters K and V of ``points`` vectors for each head. It ignores k
    and v: a lookup table applied to every token alone. For pooled attention *between* tokens take ``Inducing``.

    Cost: linear time and memory (length x points).
    Exactness: another function: no attention between tokens.
    Source: Sukhbaatar et al. 2019, arXiv 1907.01470, with the persistent vectors alone.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
        points: Learned key-value pairs for each head.
        dropout: Probability of dropping an attention weight while training.
    """

    cross = False
    reads_keys = False

    def __init__(self, heads: int, head_dim: int, *, points: int = 4, dropout: float = 0.0) -> None:
        super().__init__(heads, head_dim)
        check_at_least(1, points=points)
        self.points = points
        self.dropout = check_dropout(dropout)
        self.memory_keys = nn.Parameter(torch.randn(heads, points, head_dim))
        self.memory_values = nn.Parameter(torch.randn(heads, points, head_dim))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        if v.shape[-1] != self.head_dim:
            raise ValueError(
                f"Pooling returns its own values of width {self.head_dim}, got values of width {v.shape[-1]}"
            )
        if not k.shape[-2]:
            return without_keys(q, k, v)
        return self._read(q, self.memory_values, mask, self.dropout if self.training else 0.0)

    @torch.no_grad()
    def weights(self, q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attention map over the learned keys: ``(batch, heads, queries, points)``."""
        identity = torch.eye(self.points, dtype=q.dtype, device=q.device).expand(self.heads, -1, -1)
        return self._read(q, identity, mask, dropout=0.0)

    def _read(self, q: Tensor, values: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
        keys = self.memory_keys.expand(q.shape[0], -1, -1, -1)
        out = attend(q, keys, values.expand(q.shape[0], -1, -1, -1), dropout=dropout)
        if mask is None:
            return out
        return out.masked_fill(~four_dimensional(mask).any(dim=-1, keepdim=True), 0.0)
