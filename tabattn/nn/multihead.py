"""Multi-head attention around any mechanism: the only module that projects tokens to queries, keys and values."""

import torch.nn.functional as F
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax, as_factory


class MultiheadAttention(nn.Module):
    """Multi-head attention: projects tokens, mixes values by any mechanism, and projects back.

    Args:
        dim: Width of a token.
        heads: Number of heads; must divide ``dim``.
        attention: Makes the mechanism from ``(heads, head_dim)``: a class, or its name.
        bias: Whether the projections have a bias.

    Raises:
        ValueError: ``heads`` does not divide ``dim``, or ``attention`` makes no mechanism.
    """

    def __init__(self, dim: int, heads: int, attention: AttentionFactory | str = Softmax, *, bias: bool = True) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim {dim} and heads {heads}")
        self.dim = dim
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=bias)
        self.mechanism = as_factory(attention)(heads, dim // heads)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Self-attention of ``x``, or cross-attention from ``x`` to ``context``.

        Args:
            x: Tokens of the queries, ``(batch, queries, dim)``.
            context: Tokens of keys and values, ``(batch, keys, dim)``; None = ``x``.
            mask: Boolean, broadcastable to ``(batch, heads, queries, keys)``; True = may be seen.

        Returns:
            Tokens, ``(batch, queries, dim)``.
        """
        if context is None:
            q, k, v = (self.split(part) for part in self.qkv(x).chunk(3, dim=-1))
        else:
            q = self.queries(x)
            k, v = self.keys_values(context)
        return self.out(self.merge(self.mechanism(q, k, v, mask)))

    def queries(self, x: Tensor) -> Tensor:
        """Project tokens to queries, ``(batch, heads, length, head_dim)``."""
        bias = None if self.qkv.bias is None else self.qkv.bias[: self.dim]
        return self.split(F.linear(x, self.qkv.weight[: self.dim], bias))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project tokens to keys and values, each ``(batch, heads, length, head_dim)``."""
        bias = None if self.qkv.bias is None else self.qkv.bias[self.dim :]
        k, v = F.linear(x, self.qkv.weight[self.dim :], bias).chunk(2, dim=-1)
        return self.split(k), self.split(v)

    def split(self, x: Tensor) -> Tensor:
        """Split ``(batch, length, dim)`` into heads, ``(batch, heads, length, head_dim)``."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def merge(self, x: Tensor) -> Tensor:
        """Merge heads: ``(batch, heads, length, head_dim)`` to ``(batch, length, dim)``."""
        return x.transpose(1, 2).flatten(2)
