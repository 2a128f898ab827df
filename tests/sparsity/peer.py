"""Queries and keys of a fixed draw, for which figures of Sparsefinder's own functions are known.

The figures are those of deep-spin/sparsefinder at 50f44f8, run with PyTorch 2.13 on a CPU in float32.
"""

import torch
from torch import Tensor

from tabattn.attention import Entmax

LENGTH = 20

SOURCE = torch.Generator().manual_seed(0)
Q, K = (2 * torch.randn(3, 2, LENGTH, 16, generator=SOURCE) for _ in range(2))
"""Queries and keys, ``(items, heads, length, head_dim)``."""
PROJECTION = torch.randn(2, 16, 4, generator=SOURCE) / 4
"""Projection of both to width 4, of each head."""
CENTROIDS = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(7))
"""Four centroids of each head, ``(heads, clusters, width)``."""
REAL = torch.arange(LENGTH) < torch.tensor([20, 13, 17])[:, None]
"""Which tokens there are; the rest is padding."""
SEEN = REAL[:, None, :, None] & REAL[:, None, None, :]

QUERIES, KEYS = Q @ PROJECTION, K @ PROJECTION
P = Entmax(2, 16).weights(Q, K, REAL[:, None, None])
"""Weights of 1.5-entmax."""


def fixed(size: int) -> Tensor:
    """Pairs whose ranks fall in the same bucket, in any dimension."""

    def buckets(x: Tensor) -> Tensor:
        return x.masked_fill(~REAL[:, None, :, None], torch.inf).argsort(2).argsort(2) // size

    return same(buckets(QUERIES), buckets(KEYS))


def dynamic(size: int) -> Tensor:
    """Pairs whose squashed values fall in the same of equal intervals, in any dimension."""
    count = -(-LENGTH // size)
    edges = torch.linspace(-1, 1, count + 1)[1:-1]
    return same(*(torch.bucketize(x.tanh(), edges) for x in (QUERIES, KEYS)))


def clusters(top: int) -> Tensor:
    """Pairs whose nearest, second nearest, ... centroid is the same."""
    return same(*(torch.cdist(x, CENTROIDS).topk(top, largest=False).indices for x in (QUERIES, KEYS)))


def same(q: Tensor, k: Tensor) -> Tensor:
    """Pairs with an equal number in any dimension."""
    return (q[:, :, :, None] == k[:, :, None]).any(-1)


def window(width: int) -> Tensor:
    """Pairs of neighbours."""
    places = torch.arange(LENGTH)
    return (places[:, None] - places).abs() <= width // 2


def first() -> Tensor:
    """Pairs with the first query or the first key."""
    ends = torch.arange(LENGTH) == 0
    return ends[:, None] | ends


def squares() -> Tensor:
    """Squared differences in each dimension, ``(items, heads, queries, keys, width)``."""
    return (QUERIES[:, :, :, None] - KEYS[:, :, None]).square()


def cosine() -> Tensor:
    """Cosine distances."""
    return 1 - torch.nn.functional.cosine_similarity(QUERIES[:, :, :, None], KEYS[:, :, None], dim=-1)
