"""Linear attention by a kernel feature map."""

import torch
from torch import Tensor

from tabattn.attention.mechanism import Mechanism
from tabattn.attention.scores import full_precision, key_mask, without_keys


class Linear(Mechanism):
    """Linear attention: a feature map in place of the exponential of scores, so that keys are summed once.

    ``phi(q) (phi(k)^T v) / (phi(q) sum phi(k))`` with ``phi(x) = elu(x) + 1``. It is computed in log space as two
    softmaxes: each feature mixes the values of the keys, then each query mixes the features; so no weight underflows to
    zero. Sums are kept in float32.

    Cost: linear time and memory (length x head_dim).
    Exactness: another kernel than Softmax.
    Source: Katharopoulos et al. 2020, arXiv 2006.16236.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
    """

    query_masks = False

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        visible = key_mask(mask, self)
        if not k.shape[-2]:
            return without_keys(q, k, v)
        with torch.autocast(q.device.type, enabled=False):
            queries, keys, values = log_features(full_precision(q)), log_features(full_precision(k)), full_precision(v)
            if visible is not None:
                visible = visible.transpose(-2, -1)
                keys = keys.masked_fill(~visible, torch.finfo(keys.dtype).min)
            shares = keys.softmax(dim=-2)  # of the keys in each feature, (batch, heads, keys, head_dim)
            if visible is not None:
                shares = shares.masked_fill(~visible, 0.0)
            weights = (queries + keys.logsumexp(dim=-2, keepdim=True)).softmax(dim=-1)
            return (weights @ (shares.transpose(-2, -1) @ values)).to(v.dtype)


def log_features(x: Tensor) -> Tensor:
    """Logarithm of ``elu(x) + 1``, finite for any finite x."""
    return x.clamp(max=0) + x.relu().log1p()
