"""Kernelised attention."""

import torch
from torch import Tensor

from tabattn.attention.mechanism import Mechanism
from tabattn.attention.scores import full_precision, key_mask


class Linear(Mechanism):
    """Kernel attention: the exponential of a score becomes a product of features, so keys are summed up once.

    ``phi(q) (phi(k)^T v) / (phi(q) sum phi(k))`` with ``phi(x) = elu(x) + 1``; sums are kept in float32.

    Cost: linear time and memory (length x head_dim).
    Exactness: another kernel than Softmax.
    Source: Katharopoulos et al. 2020, arXiv 2006.16236.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        visible = key_mask(mask, self)
        with torch.autocast(q.device.type, enabled=False):
            queries, keys, values = features(full_precision(q)), features(full_precision(k)), full_precision(v)
            if visible is not None:
                keys = keys.masked_fill(~visible.transpose(-2, -1), 0.0)
            mixed = queries @ (keys.transpose(-2, -1) @ values)
            total = queries @ keys.sum(dim=-2, keepdim=True).transpose(-2, -1)  # (batch, heads, queries, 1)
            return (mixed / total.masked_fill(total == 0, 1.0)).to(v.dtype)


def features(x: Tensor) -> Tensor:
    """``elu(x) + 1``, without the cancellation that turns it into zero for very negative numbers."""
    return x.clamp(max=0).exp() + x.relu()
