"""Groupings of projected queries and keys: buckets along each dimension, and clusters of k-means."""

from abc import abstractmethod
from itertools import product
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from tabattn.attention.graphs.knobs import whole
from tabattn.attention.graphs.pattern import Pattern, blank
from tabattn.attention.mechanism import check_at_least
from tabattn.attention.scores import full_precision

Match = Literal["any", "rank"]

MOST_GROUPS = 2**32 + 67
"""More than the groups of a grouping, which a GPU need not wait for; no power of two, so that remainders differ."""


class Grouping(Pattern):
    """Abstract pattern that joins queries and keys of one group, in any of several groupings.

    Args:
        knob: Sparsity against recall, a whole number of at least 1; None = the pattern's default.

    Raises:
        ValueError: ``knob`` is out of its range.
    """

    projected = True

    def __init__(self, knob: float | None = None) -> None:
        super().__init__(knob)
        self.knob = whole(self.knob)

    @abstractmethod
    def groups(self, q: Tensor, k: Tensor, keys: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Group tokens, several times.

        Arguments as of ``edges``, but both visibilities are given, ``(batch, heads, tokens)``.

        Returns:
            Numbers of groups, 0 or above, of queries and of keys, ``(batch, heads, tokens, groupings, groups)``, as a
            token may be in several groups of a grouping; hidden tokens may be in any.
        """

    @torch.no_grad()
    def edges(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        own, theirs = self.groups(q, k, visibility(k, keys, -1), visibility(q, queries, -2))
        graph, blocks = blank(q, k)
        others = [grouping.unbind(-1) for grouping in theirs.unbind(-2)]
        for block, rows in blocks:
            for grouping, same in zip(own[..., rows, :, :].unbind(-2), others, strict=True):
                for one, other in product(grouping.unbind(-1), same):
                    block |= one[..., :, None] == other[..., None, :]
        return graph

    @torch.no_grad()
    def codes(
        self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        seen, counted = visibility(k, keys, -1), visibility(q, queries, -2)
        own, theirs = self.groups(q, k, seen, counted)
        # Groups of different groupings are told apart.
        first = MOST_GROUPS * torch.arange(own.shape[-2], device=q.device)[:, None]
        own, theirs = (own + first).flatten(-2), (theirs + first).flatten(-2)
        return own.masked_fill(~counted[..., None], -2), theirs.masked_fill(~seen[..., None], -1)


def visibility(x: Tensor, mask: Tensor | None, tokens: int) -> Tensor:
    """Visibility of tokens, ``(batch, heads, tokens)``, from a mask whose dimension ``tokens`` they are."""
    if mask is None:
        return torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
    return mask.squeeze(-3 - tokens).expand(x.shape[:-1])


class Fixed(Grouping):
    """Buckets of equal size: tokens in the order of one dimension, divided each ``knob`` tokens; for each dimension.

    Queries and keys are ranked apart, and those in a bucket of one number are joined. Where there are more or fewer
    queries than keys, they are divided into as many buckets. Equal values are ranked in the order of the tokens, the
    only respect in which it matters.

    Source: Treviso et al. 2022, arXiv 2109.12188, section 4.2.

    Args:
        knob: Keys of a bucket.
    """

    default: ClassVar[float] = 16

    def groups(self, q: Tensor, k: Tensor, keys: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        size, asked = (each.sum(dim=-1)[..., None, None] for each in (keys, queries))
        own = _ranks(q, queries) * size // (asked.clamp(min=1) * int(self.knob))
        return own[..., None], (_ranks(k, keys) // int(self.knob))[..., None]


class Quantile(Grouping):
    """Quantile buckets: keys in the order of one dimension, divided each ``knob`` keys; for each dimension.

    A query is in the bucket of the greatest key that is not above it, or in the first: unlike in ``Fixed``, its graph
    does not depend on the other queries, and it lies among its keys even where queries are distributed otherwise.
    Equal values are ranked in the order of the tokens, the only respect in which it matters.

    Args:
        knob: Keys of a bucket.
    """

    default: ClassVar[float] = 16

    def groups(self, q: Tensor, k: Tensor, keys: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        ordered = _hidden_last(k, keys).sort(dim=-2).values.mT.contiguous()
        below = torch.searchsorted(ordered, full_precision(q).mT.contiguous(), right=True).mT
        own = (below - 1).clamp(min=0) // int(self.knob)
        return own[..., None], (_ranks(k, keys) // int(self.knob))[..., None]


def _hidden_last(x: Tensor, visible: Tensor) -> Tensor:
    return full_precision(x).masked_fill(~visible[..., None], torch.inf)


def _ranks(x: Tensor, visible: Tensor) -> Tensor:
    """Rank of each token along each dimension, ``(batch, heads, tokens, width)``; hidden ones come last."""
    order = _hidden_last(x, visible).argsort(dim=-2, stable=True)
    places = torch.arange(x.shape[-2], device=x.device)[:, None].expand(order.shape)
    return torch.empty_like(order).scatter_(-2, order, places)


class Dynamic(Grouping):
    """Buckets of equal width: ``tanh`` of each dimension, divided into as many intervals as ``knob`` keys give.

    Source: Treviso et al. 2022, arXiv 2109.12188, section 4.2.

    Args:
        knob: Keys of a bucket, were they equally many in each: there are keys / ``knob`` intervals, rounded up.
        temperature: Factor before tanh.
        padded: Whether hidden keys count too, as in the original, where padding changes the graph.

    Raises:
        ValueError: ``knob`` or ``temperature`` is out of its range.
    """

    default: ClassVar[float] = 16

    def __init__(self, knob: float | None = None, *, temperature: float = 1.0, padded: bool = False) -> None:
        super().__init__(knob)
        if not 0.0 < temperature < float("inf"):
            raise ValueError(f"temperature must be above 0 and finite, got {temperature}")
        self.temperature = temperature
        self.padded = padded

    def groups(self, q: Tensor, k: Tensor, keys: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        size = torch.ones_like(keys).sum(dim=-1) if self.padded else keys.sum(dim=-1)
        # As many as are needed for all keys, rounded up.
        intervals = (-(-size // int(self.knob))).clamp(min=1)[..., None, None]
        own, theirs = (self._interval(x, intervals)[..., None] for x in (q, k))
        return own, theirs

    def _interval(self, x: Tensor, intervals: Tensor) -> Tensor:
        """Interval of (-1, 1] of each number, each without its lower end."""
        squashed = (self.temperature * full_precision(x)).tanh()
        number = ((squashed + 1) * intervals / 2).ceil().long() - 1
        return number.clamp(min=0).minimum(intervals - 1)


class Clustering(Grouping):
    """Abstract grouping of tokens by centroids, the buffer ``centroids``, ``(heads, runs, clusters, width)``.

    Args:
        knob: Clusters of a run; None = those of the centroids, and 16 where there are none.

    Raises:
        ValueError: ``knob`` is out of its range.
    """

    default: ClassVar[float] = 16

    centroids: Tensor | None

    def __init__(self, knob: float | None = None) -> None:
        super().__init__(knob)
        self.asked = None if knob is None else self.knob
        self.register_buffer("centroids", None)

    def fitting_centroids(self, x: Tensor) -> Tensor | None:
        """Centroids, where there are some, after a check that they fit the tokens and the knob.

        Raises:
            ValueError: They are of other heads, width or number.
        """
        if self.centroids is None:
            return None
        heads, _, clusters, width = self.centroids.shape
        if (heads, width) != (x.shape[1], x.shape[-1]):
            raise ValueError(
                f"centroids are of {heads} heads and width {width}, queries of {x.shape[1]} and {x.shape[-1]}"
            )
        if self.asked not in (None, clusters):
            raise ValueError(f"knob must be the clusters of the centroids, {clusters}, got {self.asked}")
        return self.centroids.to(x.device, torch.float64)


class KMeans(Clustering):
    """Clusters of k-means: queries and keys that share one of their ``top`` nearest centroids, in any run.

    The centroids are learned apart, from projected queries and keys together, and kept as the buffer ``centroids``,
    ``(heads, runs, clusters, width)``. Distances are in float64.

    Source: Treviso et al. 2022, arXiv 2109.12188, section 4.2.

    Args:
        knob: Clusters of a run; None = those of the centroids, and 16 where they are yet to be learned.
        top: Nearest clusters of each token.
        match: ``any`` = a cluster is shared; ``rank`` = it is the query's and the key's nearest, or second nearest
            of both, and so on.

    Raises:
        ValueError: ``knob``, ``top`` or ``match`` is out of its range.
    """

    learned = True

    def __init__(self, knob: float | None = None, *, top: int = 1, match: Match = "any") -> None:
        super().__init__(knob)
        check_at_least(1, top=top)
        if match not in get_args(Match):
            raise ValueError(f"match must be any or rank, got {match!r}")
        self.top = top
        self.match = match

    def groups(self, q: Tensor, k: Tensor, keys: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        centroids = self.fitting_centroids(q)
        if centroids is None:
            raise ValueError("k-means has no centroids: train projections and centroids, and load them")
        clusters = centroids.shape[2]
        if self.top > clusters:
            raise ValueError(f"top must be at most {clusters}, the clusters of the centroids, got {self.top}")
        return self._nearest(q, centroids), self._nearest(k, centroids)

    def _nearest(self, x: Tensor, centroids: Tensor) -> Tensor:
        exact = "donot_use_mm_for_euclid_dist"
        distance = torch.cdist(x.double()[:, :, None], centroids[None], compute_mode=exact)
        # (batch, heads, runs, tokens, top) to (batch, heads, tokens, runs, top).
        nearest = distance.topk(self.top, dim=-1, largest=False).indices.transpose(2, 3)
        return nearest if self.match == "any" else nearest.flatten(-2)[..., None]
