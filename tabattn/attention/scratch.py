"""Softmax attention written out, as a reference."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tabattn.attention.mechanism import Mechanism, check_dropout
from tabattn.attention.scores import full_precision, masked_softmax


class Scratch(Mechanism):
    """Scaled dot-product attention step by step: scores, softmax, mixture; the reference to read and compare with.

    ``softmax(q k^T / sqrt(head_dim)) v``, in float32 where the numbers are of half precision.

    Cost: quadratic time and memory.
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
        with torch.autocast(q.device.type, enabled=False):
            queries, keys, values = full_precision(q), full_precision(k), full_precision(v)
            scores = queries @ keys.transpose(-2, -1) * self.scale  # (batch, heads, queries, keys)
            weights = F.dropout(masked_softmax(scores, mask), self.dropout, self.training)
            return (weights.to(values.dtype) @ values).to(v.dtype)
