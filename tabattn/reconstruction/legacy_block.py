"""Legacy block: one attention of Non-Parametric Transformers as their authors published it."""

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Mechanism, Softmax, as_factory
from tabattn.attention.dropout import Dropout
from tabattn.nn.gelu import GELU

EPS = 1e-12
"""Term in the denominators of the layer normalisations."""


class LegacyBlock(nn.Module):
    """Multi-head attention block (MAB) of Kossen et al. 2021 (arXiv 2106.02584), after Set Transformers.

    It differs from a pre-norm transformer block: queries alone are normalised, logits are divided by the root of the
    whole width instead of that of a head, and the residual connection around the attention is a linear layer. Its
    layers are separate parameters, since LAMB scales the update of each.

    Args:
        dim: Width of a token.
        heads: Number of heads; must divide ``dim``.
        attention: Mechanism.
        dropout: Probability of dropout on the output of the attention and in the MLP.

    Raises:
        ValueError: ``heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, heads: int, attention: AttentionFactory = Softmax, *, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim {dim} and heads {heads}")
        self.heads = heads
        self.query, self.key, self.value, self.out, self.residual = (nn.Linear(dim, dim) for _ in range(5))
        self.norm, self.mlp_norm = nn.LayerNorm(dim, eps=EPS), nn.LayerNorm(dim, eps=EPS)
        self.dropout = Dropout(dropout)
        wide, narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.mlp = nn.Sequential(wide, GELU(), Dropout(dropout), narrow, Dropout(dropout))
        self.mechanism = as_factory(attention)(heads, dim // heads)
        self.outside: Mechanism | None = None if self.mechanism.cross else Softmax(heads, dim // heads)

    def forward(self, x: Tensor, context: int | None = None) -> Tensor:
        """Transform tokens ``(batch, length, dim)``, which attend to the first ``context`` of them; None = all."""
        known = x if context is None else x[:, :context]
        # Mechanisms divide by the root of the width of a head.
        q = self._split(self.query(self.norm(x))) * self.heads**-0.5
        mixed = self._mixed(q, self._split(self.key(known)), self._split(self.value(known)))
        x = self.residual(x) + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.mlp(self.mlp_norm(x))

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Mix values; where the mechanism serves the context alone, softmax attention serves the tokens behind it."""
        inside = k.shape[2]
        if self.outside is None or inside == q.shape[2]:
            return self.mechanism(q, k, v)
        return torch.cat([self.mechanism(q[:, :, :inside], k, v), self.outside(q[:, :, inside:], k, v)], dim=2)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
