"""Row attention of tables: context rows attend to one another, target rows to the context rows."""

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Mechanism, Softmax, as_factory
from tabattn.nn.multihead import MultiheadAttention


class RowAttention(nn.Module):
    """Row attention with one set of projections for context and target rows.

    Where the mechanism serves cross-attention (``Mechanism.cross``), one call has the queries of all rows. Otherwise
    the target rows, which have no position among the context rows, get a mechanism of their own.

    Args:
        dim: Width of a token.
        heads: Number of heads.
        attention: Mechanism between context rows.
        target_attention: Mechanism from target rows to context rows; None = ``attention`` where it can answer queries
            from outside, else Softmax.
        readout: Whether to compute target rows only, as in a last layer, after which nothing reads the context rows.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        target_attention: AttentionFactory | None = None,
        *,
        readout: bool = False,
    ) -> None:
        super().__init__()
        self.readout = readout
        self.attention = MultiheadAttention(dim, heads, attention)
        self.outside: Mechanism | None = None
        if target_attention is not None or not self.attention.mechanism.cross:
            outside = as_factory(target_attention or Softmax, "target_attention")(heads, dim // heads)
            if readout:
                self.attention.mechanism = outside
            else:
                self.outside = outside

    def forward(self, x: Tensor, context: int, mask: Tensor | None = None) -> Tensor:
        """Attention of all rows to the context rows.

        Args:
            x: Rows, context rows first, ``(batch, rows, dim)``.
            context: Number of context rows.
            mask: Key mask of context rows, boolean, broadcastable to ``(batch, heads, rows, context)`` and the same for
                every query; True = may be seen. None = all.

        Returns:
            ``(batch, rows, dim)``; only the target rows where ``readout``.
        """
        if self.readout:
            known, asked = x.split([context, x.shape[1] - context], dim=1)
            return self.answer(asked, *self.keys_values(known), mask)
        k, v = self.keys_values(x[:, :context])
        q = self.attention.queries(x)
        if self.outside is None or context == x.shape[1]:
            mixed = self.attention.mechanism(q, k, v, mask)
        else:
            inside = self.attention.mechanism(q[:, :, :context], k, v, mask)
            mixed = torch.cat([inside, self.outside(q[:, :, context:], k, v, mask)], dim=2)
        return self.attention.out(self.attention.merge(mixed))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """KV cache: keys and values of context rows, each ``(batch, heads, context rows, head_dim)``."""
        return self.attention.keys_values(x)

    def answer(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention of target rows ``(batch, target rows, dim)``, given keys and values of the context."""
        return self.attention.out(self.attention.merge(self.outsiders(self.attention.queries(x), k, v, mask)))

    @property
    def outsiders(self) -> Mechanism:
        """Mechanism from target rows to context rows."""
        return self.attention.mechanism if self.outside is None else self.outside

    def outputs(self) -> list[nn.Linear]:
        """Output projections."""
        return [self.attention.out]
