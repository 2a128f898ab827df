"""Attention patterns from scores, and from bounds and estimates of them: top-k, Quest's pages, Gaussian threshold."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from tabattn.attention.graphs.groups import visibility
from tabattn.attention.graphs.knobs import whole
from tabattn.attention.graphs.pattern import Pattern
from tabattn.attention.mechanism import check_at_least
from tabattn.attention.scores import full_precision

BISECTIONS = 30
"""Halvings of the interval that holds a threshold."""


class TopScores(Pattern):
    """Oracle top-k: the keys of the largest true scores of each query, all of which are computed.

    No pattern with as many keys for each query has a larger recall.

    Source: Gupta et al. 2021, arXiv 2106.06899.

    Args:
        knob: Keys of a query, at least 1.
    """

    default: ClassVar[float] = 16

    def __init__(self, knob: float | None = None) -> None:
        super().__init__(knob)
        whole(self.knob)

    @torch.no_grad()
    def edges(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        scores = full_precision(q) @ full_precision(k).mT
        if keys is not None:
            scores = scores.masked_fill_(~keys, -torch.inf)
        return largest(scores, whole(self.knob))


class PageBound(Pattern):
    """Abstract pattern of pages of keys: each query sees those whose scores have the largest upper bounds.

    The bound of a page is ``sum_d max(q_d low_d, q_d high_d)`` with the least and largest value of each dimension among
    its keys; no score is larger.

    Source: Tang et al. 2024, arXiv 2406.10774 (Quest).

    Args:
        knob: Pages of a query, at least 1.
        page: Keys of a page.

    Raises:
        ValueError: An argument is out of its range.
    """

    default: ClassVar[float] = 4

    def __init__(self, knob: float | None = None, *, page: int = 16) -> None:
        super().__init__(knob)
        whole(self.knob)
        check_at_least(1, page=page)
        self.page = page

    @abstractmethod
    def pages(self, k: Tensor, visible: Tensor) -> Tensor:
        """Number of the page of each key; hidden keys may be in any.

        Args:
            k: Keys, ``(batch, heads, keys, width)``, at least float32.
            visible: Which keys may be seen, ``(batch, heads, keys)``.

        Returns:
            ``(batch, heads, keys)``, each from 0 to keys / page.
        """

    @torch.no_grad()
    def edges(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        visible = visibility(k, keys, -1)
        page = self.pages(full_precision(k), visible)
        best = largest(self.bounds(q, k, page, visible), whole(self.knob))
        return best.gather(-1, page[..., None, :].expand(*q.shape[:-1], k.shape[-2]))

    def bounds(self, q: Tensor, k: Tensor, page: Tensor, visible: Tensor) -> Tensor:
        """Upper bounds of the scores of pages, ``(batch, heads, queries, pages)``; -inf where no key may be seen.

        Args:
            q: Queries, ``(batch, heads, queries, width)``.
            k: Keys, ``(batch, heads, keys, width)``.
            page: Number of the page of each key, ``(batch, heads, keys)``.
            visible: Which keys may be seen, ``(batch, heads, keys)``.
        """
        q, k = full_precision(q), full_precision(k)
        shape = (*k.shape[:2], -(-k.shape[-2] // self.page), k.shape[-1])
        place = page[..., None].expand_as(k)
        ends = []
        for sign in (1, -1):
            seen = (sign * k).masked_fill(~visible[..., None], -torch.inf)
            ends.append(k.new_full(shape, -torch.inf).scatter_reduce_(2, place, seen, "amax"))
        empty = (ends[0] == -torch.inf).all(dim=-1)[..., None, :]
        high, low = (end.masked_fill(end == -torch.inf, 0.0) for end in ends)
        return (q.clamp(min=0) @ high.mT - q.clamp(max=0) @ low.mT).masked_fill(empty, -torch.inf)


class Pages(PageBound):
    """Quest: pages of consecutive keys, of which each query sees those with the largest bounds of their scores.

    Source: Tang et al. 2024, arXiv 2406.10774.

    Args:
        knob: Pages of a query, at least 1.
        page: Keys of a page.
    """

    equivariant = False

    def pages(self, k: Tensor, visible: Tensor) -> Tensor:
        return (torch.arange(k.shape[-2], device=k.device) // self.page).expand(visible.shape)


class TreePages(PageBound):
    """Pages of keys that are near to one another, leaves of a k-d tree, chosen by bounds as in Quest.

    For keys in no order, such as rows of a table: a bound is tight where the keys of a page are alike.

    Source: Tang et al. 2024, arXiv 2406.10774; Bentley 1975, doi 10.1145/361002.361007.

    Args:
        knob: Pages of a query, at least 1.
        page: Keys of a page.
    """

    def pages(self, k: Tensor, visible: Tensor) -> Tensor:
        points, seen = k.flatten(0, 1), visible.flatten(0, 1)
        found = torch.zeros_like(seen, dtype=torch.long)
        if seen.all():
            found.scatter_(1, *self._leaves(points))
        else:
            for own, among, pages in zip(points, seen, found, strict=True):
                order, leaves = self._leaves(own[among][None])
                pages[among.nonzero().squeeze(1)[order[0]]] = leaves[0]
        return found.view(visible.shape)

    def _leaves(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Order of points, ``(sets, points, width)``, by leaves, and the leaf at each place of it."""
        sets, count, width = points.shape
        order = torch.arange(count, device=points.device).expand(sets, count).clone()
        parts = [(0, count)]
        while parts:
            start, stop = parts.pop()
            pages = -(-(stop - start) // self.page)
            if pages < 2:
                continue
            own = order[:, start:stop]
            inside = points.gather(1, own[..., None].expand(-1, -1, width))
            widest = (inside.amax(dim=1) - inside.amin(dim=1)).argmax(dim=-1)
            along = inside.gather(-1, widest[:, None, None].expand(sets, stop - start, 1)).squeeze(-1)
            order[:, start:stop] = own.gather(1, along.argsort(dim=-1, stable=True))
            middle = start + pages // 2 * self.page
            parts += [(start, middle), (middle, stop)]
        return order, (torch.arange(count, device=points.device) // self.page).expand(sets, count)


class Gaussian(Pattern):
    """Gaussian estimate of the entmax threshold: keys whose scores lie above it.

    The scores of a query are taken for normally distributed, with their mean and variance; the threshold is that at
    which the expected weights of as many keys sum to 1, within the bounds that the largest score gives. EntmaxKV
    estimates it to choose pages; here true scores are compared with it.

    Source: Duarte et al. 2026, arXiv 2605.21649 (EntmaxKV).

    Args:
        knob: Distance below the largest score, over that of the estimate, above 0; above 1 keeps more.
        alpha: Sparsity of entmax, 1.5 or 2.

    Raises:
        ValueError: ``knob`` or ``alpha`` is out of its range.
    """

    default: ClassVar[float] = 1.0

    def __init__(self, knob: float | None = None, *, alpha: float = 1.5) -> None:
        super().__init__(knob)
        if not 0.0 < self.knob < float("inf"):
            raise ValueError(f"knob must be above 0 and finite, got {self.knob}")
        if alpha not in (1.5, 2.0):
            raise ValueError(f"alpha must be 1.5 or 2, got {alpha}")
        self.alpha = float(alpha)

    @torch.no_grad()
    def edges(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        scores = full_precision(q) @ full_precision(k).mT * ((self.alpha - 1) * q.shape[-1] ** -0.5)
        visible = visibility(k, keys, -1)[..., None, :]
        scores = scores.masked_fill_(~visible, -torch.inf)
        peak = scores.amax(dim=-1, keepdim=True)
        # Differences keep the largest score above the threshold, however near the two are.
        below = scores - peak.masked_fill(peak == -torch.inf, 0.0)
        return below > -self.knob * self._depth(below, visible)

    def _depth(self, below: Tensor, visible: Tensor) -> Tensor:
        """Distance of the estimated threshold from the largest score, ``(batch, heads, queries, 1)``.

        Args:
            below: Scaled scores less the largest, ``(batch, heads, queries, keys)``.
            visible: Which keys may be seen, ``(batch, heads, 1, keys)``.
        """
        number = visible.sum(dim=-1, keepdim=True).clamp(min=1).to(below.dtype)
        shown = below.masked_fill(~visible, 0.0)
        mean = shown.sum(dim=-1, keepdim=True) / number
        variance = (shown - mean).masked_fill(~visible, 0.0).square().sum(dim=-1, keepdim=True) / number
        # The largest weight is at most 1, and at least as large as the others.
        least, most = number ** (1 - self.alpha) * torch.ones_like(mean), torch.ones_like(mean)
        for _ in range(BISECTIONS):
            depth = (least + most) / 2
            deeper = number * self._expected(mean + depth, variance.sqrt()) < 1
            least, most = torch.where(deeper, depth, least), torch.where(deeper, most, depth)
        return (least + most) / 2

    def _expected(self, mean: Tensor, std: Tensor) -> Tensor:
        """Expected weight of a key whose scaled score less the threshold has a normal distribution."""
        ratio = mean / std.clamp(min=torch.finfo(std.dtype).tiny)
        above, density = torch.special.ndtr(ratio), torch.exp(-ratio.square() / 2) / (2 * torch.pi) ** 0.5
        if self.alpha == 2.0:
            return mean * above + std * density
        return (mean.square() + std.square()) * above + mean * std * density


def largest(scores: Tensor, number: int) -> Tensor:
    """Where the ``number`` largest scores of each row are; all, if there are fewer."""
    best = scores.topk(min(number, scores.shape[-1]), dim=-1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True)
