"""Queries and keys of trained attention layers: the batches, and facts of each layer."""

from typing import NamedTuple, Self

from torch import Tensor


class Layer(NamedTuple):
    """Attention layer whose queries and keys were recorded.

    Attributes:
        path: Module path of its mechanism in the task.
        heads: Number of heads.
        head_dim: Width of one head.
        alpha: Alpha of the entmax of each head, which says which weights are zero.
        scale: Factor on the products of queries and keys.
    """

    path: str
    heads: int
    head_dim: int
    alpha: tuple[float, ...]
    scale: float


class LayerBatch(NamedTuple):
    """Padded queries and keys of some calls of a layer; an element of the layer's own batch is an item here.

    Attributes:
        q: Queries before scaling, ``(items, heads, queries, head_dim)``; 0 = padding.
        k: Keys, ``(items, heads, keys, head_dim)``; 0 = padding.
        queries: Which queries there are, ``(items, queries)`` boolean; False = padding.
        keys: Which keys there are, ``(items, keys)`` boolean; False = padding.
        mask: Which keys each query may see, ``(items, queries, keys)`` boolean, padding excluded; None = all.
        v: Values, ``(items, heads, keys, any)``; 0 = padding; None = they were not recorded.
    """

    q: Tensor
    k: Tensor
    queries: Tensor
    keys: Tensor
    mask: Tensor | None = None
    v: Tensor | None = None

    @property
    def seen(self) -> Tensor:
        """Pairs of a query and a key that it may see, ``(items, 1, queries, keys)`` boolean."""
        pairs = self.queries[:, None, :, None] & self.keys[:, None, None, :]
        return pairs if self.mask is None else pairs & self.mask[:, None]


class QueryKeyBatch(NamedTuple):
    """Batch of queries and keys of several layers, whose items, lengths, heads and widths may differ.

    Attributes:
        layers: One entry for each layer; one without items where a layer has none left.
    """

    layers: tuple[LayerBatch, ...]

    def unscored(self) -> Self:
        """Return the batch without items, so that none is scored."""
        empty = [
            LayerBatch(q[:0], k[:0], queries[:0], keys[:0], *(None if part is None else part[:0] for part in rest))
            for q, k, queries, keys, *rest in self.layers
        ]
        return self._replace(layers=tuple(empty))
