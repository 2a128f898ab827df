"""Attention whose weights depend on locations alone."""

from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax


class PlaceAttention(nn.Module):
    """Location-only attention: values are averaged with weights that depend on locations alone.

    As in the mean of a Gaussian process, but blind to the member: two sequences observed at one location get the same
    weight.

    Args:
        dim: Width of a token.
        heads: Number of heads; must divide ``dim``.
        attention: Makes the mechanism from ``(heads, head_dim)``.
    """

    def __init__(self, dim: int, heads: int, attention: AttentionFactory = Softmax) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim {dim} and heads {heads}")
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.mechanism = attention(heads, dim // heads)

    def forward(self, asked: Tensor, known: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Average the values of known points for each target location.

        Args:
            asked: Tokens of target locations, ``(batch, asked, dim)``.
            known: Tokens of known locations, ``(batch, known, dim)``.
            values: Embedded values of the known points, ``(batch, known, dim)``.
            mask: Boolean, broadcastable to ``(batch, heads, asked, known)``; True = may be seen.

        Returns:
            ``(batch, asked, dim)``.
        """
        q, k, v = (self._split(part) for part in (self.query(asked), self.key(known), values))
        return self.mechanism(q, k, v, mask).transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
