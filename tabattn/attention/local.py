"""Sliding-window attention in blocks."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tabattn.attention.fused import attend
from tabattn.attention.mechanism import Mechanism, check_at_least, check_dropout, check_same_length
from tabattn.attention.patterns import band
from tabattn.attention.scores import four_dimensional


class Local(Mechanism):
    """Sliding-window attention: a position sees those up to ``window`` away; no other score is computed.

    ``softmax(q k^T / sqrt(head_dim) where |i - j| <= window) v``, in blocks of ``window`` queries that look at
    their own and both neighbouring blocks of keys.

    Cost: linear time and memory (length x 3 window).
    Exactness: exact within the window; equals Softmax where window >= length and ``edges`` is ``exact``.
    Source: Beltagy et al. 2020, arXiv 2004.05150.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
        window: Tokens seen on either side.
        dropout: Probability of dropping an attention weight while training.
        edges: Padding at the ends of the sequence. ``exact``: none. ``zero``: keys and values of zeros that take part
            in the softmax, so that the weights of positions near an end sum to less than 1; for networks trained that
            way. A mask does not hide these keys.
    """

    cross = False

    def __init__(
        self,
        heads: int,
        head_dim: int,
        *,
        window: int = 8,
        dropout: float = 0.0,
        edges: Literal["exact", "zero"] = "exact",
    ) -> None:
        super().__init__(heads, head_dim)
        check_at_least(1, window=window)
        if edges not in ("exact", "zero"):
            raise ValueError(f"edges must be exact or zero, got {edges}")
        self.window = window
        self.dropout = check_dropout(dropout)
        self.edges = edges

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        length = check_same_length(self, q, k)
        dropout = self.dropout if self.training else 0.0
        if length <= 3 * self.window and self.edges == "exact":
            # Three blocks cover the whole sequence: dense scores are no more than those in blocks.
            visible = band(length, self.window, q.device)
            return attend(q, k, v, visible if mask is None else visible & mask, dropout)
        blocks = -(-length // self.window)
        visible = self._visible(length, blocks, mask, q.device).expand(q.shape[0], -1, -1, -1, -1)
        parts = (self._blocks(q, blocks), self._neighbours(k, blocks), self._neighbours(v, blocks))
        # Fold blocks into the batch: (batch x blocks, heads, window or 3 window, any)
        queries, keys, values = (part.transpose(1, 2).flatten(0, 1) for part in parts)
        out = attend(queries, keys, values, visible.flatten(0, 1), dropout)
        out = out.reshape(q.shape[0], blocks, *out.shape[1:]).transpose(1, 2)
        return out.flatten(2, 3)[:, :, :length]

    def _blocks(self, x: Tensor, blocks: int, around: int = 0) -> Tensor:
        """Cut ``(batch, heads, length, any)`` into ``(batch, heads, blocks + 2 around, window, any)``."""
        before = around * self.window
        x = F.pad(x, (0, 0, before, blocks * self.window - x.shape[2] + before))
        return x.reshape(*x.shape[:2], blocks + 2 * around, self.window, x.shape[3])

    def _neighbours(self, x: Tensor, blocks: int) -> Tensor:
        """Concatenate each block of tokens with the blocks before and after it.

        Args:
            x: ``(batch, heads, length, any)``.
            blocks: Number of blocks.

        Returns:
            ``(batch, heads, blocks, 3 window, any)``, with zeros beyond the edges.
        """
        x = self._blocks(x, blocks, around=1)
        return torch.cat([x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:]], dim=3)

    def _visible(self, length: int, blocks: int, mask: Tensor | None, device: torch.device) -> Tensor:
        """Return the mask within the blocks, ``(batch or 1, blocks, heads or 1, window, 3 window)``.

        The mask is gathered at the scores within the blocks, never expanded to length x length.
        """
        start = torch.arange(blocks, device=device)[:, None, None] * self.window
        query = start + torch.arange(self.window, device=device)[:, None]  # (blocks, window, 1)
        key = start + torch.arange(-self.window, 2 * self.window, device=device)  # (blocks, 1, 3 window)
        near, beyond = (query - key).abs() <= self.window, (key < 0) | (key >= length)
        visible = near & ~beyond if self.edges == "exact" else near
        if mask is None:
            return visible[None, :, None]
        mask = four_dimensional(mask)
        # Clamping maps every index to 0 along a broadcast dimension, too.
        rows, columns = query.clamp(max=mask.shape[-2] - 1), key.clamp(0, mask.shape[-1] - 1)
        return (visible & (mask[:, :, rows, columns] | beyond)).transpose(1, 2)
