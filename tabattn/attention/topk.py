"""Top-k softmax attention."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tabattn.attention.fused import attend
from tabattn.attention.mechanism import Mechanism, check_at_least, check_dropout
from tabattn.attention.scores import four_dimensional, full_precision, mask_rows, masked_softmax


class TopK(Mechanism):
    """Top-k attention: softmax over the ``keep`` largest scores of each query; other keys get a weight of zero.

    ``softmax(q k^T / sqrt(head_dim) where among the keep largest of its row) v``, for ``block`` queries at a time; the
    backward pass computes a block again instead of storing it. Scores are computed in float32, as half precision would
    round different ones to ties.

    Cost: quadratic time, linear memory (block x length).
    Exactness: exact over the kept keys; equals Softmax where keep >= keys.
    Source: Gupta et al. 2021, arXiv 2106.06899.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
        keep: Keys that each query keeps.
        block: Queries computed at a time.
        dropout: Probability of dropping an attention weight while training.
    """

    def __init__(self, heads: int, head_dim: int, *, keep: int = 16, block: int = 128, dropout: float = 0.0) -> None:
        super().__init__(heads, head_dim)
        check_at_least(1, keep=keep, block=block)
        self.keep = keep
        self.block = block
        self.dropout = check_dropout(dropout)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        mask = None if mask is None else four_dimensional(mask)
        if k.shape[-2] <= self.keep:
            return attend(q, k, v, mask, dropout)
        with torch.autocast(q.device.type, enabled=False):
            queries, keys, values = full_precision(q), full_precision(k), full_precision(v)
            if q.shape[-2] <= self.block:
                return self._rows(queries, keys, values, mask, dropout).to(v.dtype)
            out = []
            for start in range(0, q.shape[-2], self.block):
                stop = start + self.block
                arguments = (queries[..., start:stop, :], keys, values, mask_rows(mask, start, stop), dropout)
                out.append(checkpoint(self._rows, *arguments, use_reentrant=False, preserve_rng_state=dropout > 0))
            return torch.cat(out, dim=-2).to(v.dtype)

    def _rows(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
        scores = q @ k.transpose(-2, -1) * self.scale  # (batch, heads, block, keys)
        lowest = torch.finfo(scores.dtype).min
        if mask is not None:
            scores = scores.masked_fill(~mask, lowest)
        best, index = scores.topk(self.keep, dim=-1)
        few = F.dropout(masked_softmax(best, None if mask is None else best > lowest), dropout, dropout > 0)
        return torch.zeros_like(scores).scatter(-1, index, few) @ v
