"""Head-wise projections: learned maps of queries and keys into a few dimensions where a pattern compares them."""

import torch
from torch import Tensor, nn

from tabattn.attention.mechanism import check_at_least
from tabattn.attention.scores import full_precision


class HeadProjection(nn.Module):
    """Head-wise projections of queries and keys, linear or with one hidden layer, apart for each head.

    ``x w + b``, or ``tanh(x w1 + b1) w2 + b2``. The state holds ``q.w``, ``q.b`` and ``k.w``, ``k.b``, or with a hidden
    layer ``q.w1``, ``q.b1``, ``q.w2``, ``q.b2`` and so on; where the map is shared, it is ``q`` alone.

    Source: Treviso et al. 2022, arXiv 2109.12188, section 4.1.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
        width: Dimensions of what is projected.
        hidden: Width of the hidden layer; None = linear.
        shared: Whether queries and keys have one map.

    Raises:
        ValueError: A size is below 1.
    """

    def __init__(
        self, heads: int, head_dim: int, width: int = 4, hidden: int | None = None, shared: bool = False
    ) -> None:
        super().__init__()
        check_at_least(1, heads=heads, head_dim=head_dim, width=width)
        if hidden is not None:
            check_at_least(1, hidden=hidden)
        self.q = HeadMap(heads, head_dim, width, hidden)
        self.k = None if shared else HeadMap(heads, head_dim, width, hidden)

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Project queries and keys, in at least float32.

        Args:
            q: Queries before they are scaled, ``(batch, heads, queries, head_dim)``.
            k: Keys, ``(batch, heads, keys, head_dim)``.

        Returns:
            ``(batch, heads, queries, width)`` and ``(batch, heads, keys, width)``.
        """
        return self.q(q), (self.q if self.k is None else self.k)(k)


class HeadMap(nn.Module):
    """Map of each head, linear or with one hidden layer of tanh; drawn like ``nn.Linear`` of a head.

    Args:
        heads: Number of attention heads.
        head_dim: Dimensions of a token.
        width: Dimensions of what is projected.
        hidden: Width of the hidden layer; None = linear.
    """

    def __init__(self, heads: int, head_dim: int, width: int, hidden: int | None = None) -> None:
        super().__init__()
        sizes = (head_dim, width) if hidden is None else (head_dim, hidden, width)
        self.names = [("w", "b")] if hidden is None else [("w1", "b1"), ("w2", "b2")]
        for (weight, bias), inputs, outputs in zip(self.names, sizes[:-1], sizes[1:], strict=True):
            bound = inputs**-0.5
            setattr(self, weight, nn.Parameter(torch.empty(heads, inputs, outputs).uniform_(-bound, bound)))
            setattr(self, bias, nn.Parameter(torch.empty(heads, 1, outputs).uniform_(-bound, bound)))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens, ``(batch, heads, tokens, head_dim)``, to ``(batch, heads, tokens, width)``."""
        x = full_precision(x)
        for number, (weight, bias) in enumerate(self.names):
            x = x.tanh() if number else x
            x = x @ getattr(self, weight).to(x.dtype) + getattr(self, bias).to(x.dtype)
        return x
