"""Alpha-entmax attention: sparse and exact, in memory linear in length."""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from tabattn.attention.entmax_rows import EntmaxRows
from tabattn.attention.fused import attend
from tabattn.attention.kernels import by_adasplash
from tabattn.attention.mechanism import Mechanism, check_at_least, check_dropout, with_attributes
from tabattn.attention.scores import four_dimensional, full_precision, without_keys

Kernel = Literal["auto", "torch", "adasplash"]

LOWEST_LEARNED = 1.01
"""Least learned alpha; its gradient divides by the square of ``alpha - 1``."""


class Entmax(Mechanism):
    """Alpha-entmax attention: a sparse softmax in which most keys get a weight of exactly zero.

    ``p_j = [1 + (alpha - 1) (s_j - tau)]_+ ^ (1 / (alpha - 1))`` with ``s = q k^T / sqrt(head_dim)`` and tau such that
    p sums to 1; alpha 1 is softmax, alpha 2 sparsemax. Tiles of queries are computed at a time, and recomputed in
    the backward pass. Scores are at least float32.

    Cost: quadratic time, linear memory (a tile of queries x length).
    Exactness: another function; equals Softmax at alpha 1.
    Source: Peters et al. 2019, arXiv 1905.05702; Correia et al. 2019, arXiv 1909.00015.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
        alpha: Sparsity, from 1 (softmax) to 2 (sparsemax); the initial value where it is learned.
        learn_alpha: Whether every head learns its own alpha, in [1.01, 2].
        block: Queries computed at a time on a GPU; a CPU takes as many as its cache holds.
        dropout: Probability of dropping an attention weight while training.
        kernel: What computes it on a GPU: ``torch`` operations, the package ``adasplash`` (extra ``gpu``), or ``auto``:
            AdaSplash where it can and agrees with the torch operations.
    """

    def __init__(
        self,
        heads: int,
        head_dim: int,
        *,
        alpha: float = 1.5,
        learn_alpha: bool = False,
        block: int = 128,
        dropout: float = 0.0,
        kernel: Kernel = "auto",
    ) -> None:
        super().__init__(heads, head_dim)
        if not 1.0 <= alpha <= 2.0:
            raise ValueError(f"alpha must be in [1, 2], got {alpha}")
        if learn_alpha and not LOWEST_LEARNED <= alpha < 2.0:
            raise ValueError(f"alpha must start in [{LOWEST_LEARNED}, 2) to be learned, got {alpha}")
        check_at_least(1, block=block)
        if kernel not in get_args(Kernel):
            raise ValueError(f"kernel must be auto, torch or adasplash, got {kernel!r}")
        self.fixed_alpha = float(alpha)
        self.block = block
        self.kernel = kernel
        self.dropout = check_dropout(dropout)
        start = torch.full((heads,), math.log((alpha - 1) / (2 - alpha))) if learn_alpha else None
        self.alpha_logit = None if start is None else nn.Parameter(start)

    def arguments(self) -> dict[str, Any]:
        """Constructor arguments of an equal mechanism; a learned alpha by its initial value."""
        own = {"alpha": self.fixed_alpha, "learn_alpha": self.alpha_logit is not None}
        return own | {"block": self.block, "dropout": self.dropout, "kernel": self.kernel}

    @property
    def alpha(self) -> Tensor | float:
        """Alpha in use: a number, or a tensor with one for each head, ``(heads,)``, at least float32."""
        if self.alpha_logit is None:
            return self.fixed_alpha
        return (1 + full_precision(self.alpha_logit).sigmoid()).clamp(LOWEST_LEARNED, 2.0)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        if not k.shape[-2]:
            return without_keys(q, k, v)
        dropout = self.dropout if self.training else 0.0
        alpha = self.alpha
        if isinstance(alpha, float) and alpha == 1.0:
            return attend(q, k, v, mask, dropout)
        if isinstance(alpha, Tensor):
            alpha = alpha[:, None, None]
        if (fused := by_adasplash(self.kernel, q, k, v, mask, alpha, dropout)) is not None:
            return fused
        seen = None if mask is None else four_dimensional(mask)
        seed = int(torch.randint(2**62, ())) if dropout else 0
        with torch.autocast(q.device.type, enabled=False):
            queries, keys, values = full_precision(q) * self.scale, full_precision(k), full_precision(v)
            arguments = (queries, keys, values, alpha, seen, self.block, dropout, seed)
            out: Tensor = EntmaxRows.apply(*arguments)  # type: ignore[no-untyped-call]
            return out.to(v.dtype)

    @torch.no_grad()
    def weights(self, q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attention map, ``(batch, heads, queries, keys)``, by torch operations."""
        # Other kernels take no values as wide as there are keys.
        return Mechanism.weights(with_attributes(self, kernel="torch"), q, k, mask)
