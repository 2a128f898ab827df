"""Attention patterns by hashing and clustering without training: Reformer, Routing Transformer, clustered attention."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from tabattn.attention.graphs.bounds import largest
from tabattn.attention.graphs.clusters import find_clusters, nearest
from tabattn.attention.graphs.groups import Clustering, Grouping, visibility
from tabattn.attention.graphs.knobs import whole
from tabattn.attention.graphs.pattern import Pattern
from tabattn.attention.mechanism import check_at_least
from tabattn.attention.scores import full_precision


class LSH(Grouping):
    """Locality-sensitive hashing, as in Reformer: tokens of one bucket are joined, in any round.

    A bucket is the nearest among random directions and their opposites, apart for each head and round. Reformer has one
    vector for the query and the key of a token; the two that projections bring near to one another stand for it here.

    Source: Kitaev et al. 2020, arXiv 2001.04451; Andoni et al. 2015, arXiv 1509.02897.

    Args:
        knob: Buckets, an even number.
        rounds: Rounds of hashing.
        pairs: Whether the query and the key of a token are hashed together, as in Sparsefinder's experiments, so that
            the graph is symmetric; else each by itself, with the same directions.
        seed: Seed of the directions.

    Raises:
        ValueError: An argument is out of its range.
    """

    default: ClassVar[float] = 16

    def __init__(self, knob: float | None = None, *, rounds: int = 1, pairs: bool = False, seed: int = 0) -> None:
        super().__init__(knob)
        check_at_least(1, rounds=rounds)
        check_at_least(0, seed=seed)
        if self.knob % 2:
            raise ValueError(f"knob must be an even number of buckets, got {self.knob}")
        self.rounds = rounds
        self.pairs = pairs
        self.seed = seed

    def groups(self, q: Tensor, k: Tensor, keys: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        q, k = full_precision(q), full_precision(k)
        if not self.pairs:
            return self._buckets(q), self._buckets(k)
        if q.shape[-2] != k.shape[-2]:
            raise ValueError(
                "LSH hashes pairs of a token's query and key, so there must be as many, "
                f"got {q.shape[-2]} and {k.shape[-2]}; without pairs each is hashed by itself"
            )
        buckets = self._buckets(torch.cat((q, k), dim=-1))
        return buckets, buckets

    def _buckets(self, x: Tensor) -> Tensor:
        """Buckets of tokens, ``(batch, heads, tokens, rounds, 1)``."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = (x.shape[1], x.shape[-1], self.rounds * int(self.knob) // 2)
        along = x @ torch.randn(shape, generator=generator).to(x.device, x.dtype)
        along = along.unflatten(-1, (self.rounds, -1))
        return torch.cat((along, -along), dim=-1).argmax(dim=-1, keepdim=True)


class Routing(Clustering):
    """Routing Transformer: balanced clusters, each of which takes the queries, and the keys, nearest to its centroid.

    Each takes 1 / ``knob`` of all and one more, by the cosine with the centroid; what no cluster took is joined to
    nothing. Centroids are those of spherical k-means of the item's queries and keys, or of the buffer ``centroids``, of
    which the first run counts.

    Source: Roy et al. 2021, arXiv 2003.05997.

    Args:
        knob: Clusters; None = those of the centroids, and 16 where there are none.
        overlap: Whether tokens that several clusters took are in all of them; else in the first alone, as in
            Sparsefinder's experiments.
        seed: Seed of k-means.
    """

    def __init__(self, knob: float | None = None, *, overlap: bool = False, seed: int = 0) -> None:
        super().__init__(knob)
        check_at_least(0, seed=seed)
        self.overlap = overlap
        self.seed = seed

    def groups(self, q: Tensor, k: Tensor, keys: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        own, theirs = (F.normalize(x.double(), dim=-1) for x in (q, k))
        centroids = self.fitting_centroids(q)
        if centroids is None:
            both, seen = torch.cat((own, theirs), dim=-2), torch.cat((queries, keys), dim=-1)
            centroids = find_clusters(both, seen, int(self.knob), self.seed, unit=True)
        else:
            centroids = centroids[:, 0]
        found = [_nearest_of_each(x @ centroids.mT, seen) for x, seen in ((own, queries), (theirs, keys))]
        if self.overlap:
            # A grouping for each cluster: 0 = within it; otherwise queries and keys have different numbers.
            first, second = ((~taken).long() * number for number, taken in enumerate(found, 1))
            return first[..., None], second[..., None]
        clusters = centroids.shape[-2]
        place = torch.arange(clusters, device=q.device)
        first, second = (
            place.where(taken, clusters + number).amin(dim=-1)[..., None, None] for number, taken in enumerate(found)
        )
        return first, second


def _nearest_of_each(similarity: Tensor, visible: Tensor) -> Tensor:
    """Which of the tokens are among those nearest to each cluster, of ``(batch, heads, tokens, clusters)``."""
    clusters = similarity.shape[-1]
    order = similarity.masked_fill(~visible[..., None], -torch.inf).argsort(dim=-2, descending=True, stable=True)
    size = visible.sum(dim=-1)[..., None, None] // clusters + 1
    places = torch.arange(similarity.shape[-2], device=similarity.device)[:, None]
    taken = (places < size).expand(order.shape)
    return torch.zeros_like(taken).scatter_(-2, order, taken) & visible[..., None]


class Clustered(Pattern):
    """Clustered attention, improved: queries of a cluster share the keys of the largest scores of their mean.

    Queries are clustered by k-means of their signs along random planes.

    Source: Vyas et al. 2020, arXiv 2007.04825.

    Args:
        knob: Keys of a query, at least 1.
        clusters: Clusters of queries.
        bits: Random planes.
        seed: Seed of the planes and of k-means.

    Raises:
        ValueError: An argument is out of its range.
    """

    default: ClassVar[float] = 32

    def __init__(self, knob: float | None = None, *, clusters: int = 16, bits: int = 32, seed: int = 0) -> None:
        super().__init__(knob)
        whole(self.knob)
        check_at_least(1, clusters=clusters, bits=bits)
        check_at_least(0, seed=seed)
        self.clusters = clusters
        self.bits = bits
        self.seed = seed

    @torch.no_grad()
    def edges(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        q, k, counted = full_precision(q), full_precision(k), visibility(q, queries, -2)
        generator = torch.Generator().manual_seed(self.seed)
        planes = torch.randn(q.shape[-1] + 1, self.bits, generator=generator).to(q.device, q.dtype)
        signs = torch.where(q @ planes[:-1] > planes[-1], 1.0, -1.0).double()
        cluster = nearest(signs, find_clusters(signs, counted, self.clusters, self.seed))
        member = F.one_hot(cluster, self.clusters).to(q.dtype) * counted[..., None]
        means = member.mT @ q.masked_fill(~counted[..., None], 0.0) / member.sum(dim=-2).clamp(min=1)[..., None]
        scores = means @ k.mT
        if keys is not None:
            scores = scores.masked_fill(~keys, -torch.inf)
        seen = largest(scores, whole(self.knob))
        return seen.gather(-2, cluster[..., None].expand(*cluster.shape, k.shape[-2]))
