"""Sparsefinder: entmax attention that scores predicted keys, or by a certificate every key of positive weight."""

from functools import partial
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from tabattn.attention.certificate import certified_tiles, gathered_tiles, near_one_another, of_one_group
from tabattn.attention.entmax import Entmax
from tabattn.attention.entmax_rows import EntmaxRows
from tabattn.attention.graphs import PATTERNS, HeadProjection, Pattern, named, pattern_named
from tabattn.attention.graphs.extras import always
from tabattn.attention.graphs.projection import Shared
from tabattn.attention.kernels import by_adasplash, by_flex
from tabattn.attention.mechanism import Mechanism, check_at_least, check_same_length, with_attributes
from tabattn.attention.scores import four_dimensional, full_precision, without_keys
from tabattn.attention.sparse_rows import SparseRows, Tile

Mode = Literal["exact", "gather", "flex", "mask"]

LEAST = 512
"""Keys from which some are left out of the computation; fewer are all scored, which is faster."""

BLOCK = 128
"""Queries computed at a time on a GPU."""


class Sparsefinder(Mechanism):
    """Sparsefinder: alpha-entmax attention on a predicted graph, or exact where bounds prove the rest to be zero.

    In mode ``exact`` the output is that of Entmax, for any prediction: the threshold of some keys is a lower bound of a
    row's, so that a block of keys whose scores are bounded below it has weights of exactly zero. Keys and queries are
    ordered by a tree, and only the blocks that may have a weight are scored, forward and backward. It is faster where
    heads have structure: low rank, clusters, large scores. Isotropic keys, fewer than 512 keys and GPUs get the dense
    computation. In mode ``gather`` only predicted keys are scored, where there are 512 keys or more: on a GPU by
    FlexAttention over blocks of groups, where it can and agrees with torch operations. ``flex`` is FlexAttention in any
    case, ``mask`` a dense mask.

    Cost: linear in the keys scored, and queries x keys / 16 bounds (exact) or comparisons (gather).
    Exactness: equals Entmax (exact); equals it for each query whose predicted keys hold all of its support (gather).
    Source: Treviso et al. 2022, arXiv 2109.12188; for exact, bounds as of Quest, Tang et al. 2024, arXiv 2406.10774.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
        mode: ``exact``, ``gather``, ``flex`` or ``mask``.
        grouping: Predictor of the graph, a name in ``tabattn.attention.graphs.PATTERNS``, as ``kmeans/8`` of blocks of
            8 consecutive tokens (``pages/32``, ``gate/32``: of keys); None = by bounds of the scores, in mode exact.
        knob: The predictor's number, such as clusters or keys of a bucket; None = its default.
        top: Nearest clusters of each token, for ``kmeans``.
        window: Neighbouring keys that are always predicted, in a sequence; of blocks, blocks.
        ends: Whether the first token (1), or the first and the last (2), see and are seen by all; of blocks, blocks.
        width: Dimensions of the projected queries and keys; None = they are not projected.
        hidden: Width of the projection's hidden layer; None = linear.
        shared: Whether queries and keys have one projection; ``concat`` = one of both of a token together.
        alpha: Sparsity of entmax, above 1 to 2 (sparsemax); one number, or one for each head.

    Raises:
        ValueError: An argument is out of its range, or ``grouping`` is missing for a mode that predicts.
    """

    def __init__(
        self,
        heads: int,
        head_dim: int,
        *,
        mode: Mode = "exact",
        grouping: str | None = None,
        knob: float | None = None,
        top: int = 1,
        window: int = 0,
        ends: int = 0,
        width: int | None = 4,
        hidden: int | None = None,
        shared: Shared = False,
        alpha: float | list[float] = 1.5,
    ) -> None:
        super().__init__(heads, head_dim)
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be exact, gather, flex or mask, got {mode!r}")
        if mode != "exact" and grouping is None:
            raise ValueError(f"grouping must be one of {', '.join(PATTERNS)} for mode {mode}, got None")
        check_at_least(0, window=window, ends=ends)
        if ends > 2:
            raise ValueError(f"ends must be at most 2, got {ends}")
        if grouping is None:
            _check_default(knob=(knob, None), top=(top, 1), window=(window, 0), ends=(ends, 0), hidden=(hidden, None))
        self.mode, self.grouping, self.knob, self.top = mode, grouping, knob, top
        self.window, self.ends = window, ends
        self.alpha, self.alphas = alpha, _of_heads(alpha, heads)
        self.width, self.hidden, self.shared = width, hidden, shared
        self.pattern = None if grouping is None else self._made(grouping)
        self.projection: HeadProjection | None = None
        if self.pattern is not None and self.pattern.projected:
            self.projection = HeadProjection(heads, head_dim, width=width, hidden=hidden, shared=shared)
            # Trained apart, by the sparsity task: no gradient of a task passes through a grouping.
            self.projection.requires_grad_(False)

    @classmethod
    def like(cls, trained: Entmax, **arguments: Any) -> Self:
        """Sparsefinder in place of a trained entmax attention, with the alpha of each of its heads.

        Args:
            trained: Entmax attention, whose alpha may be learned.
            arguments: Arguments of Sparsefinder, but alpha.

        Raises:
            ValueError: Its alpha is 1, that is Softmax, which has no zeros.
        """
        alphas = trained.alpha if isinstance(trained.alpha, Tensor) else torch.full((trained.heads,), trained.alpha)
        # A decimal that was given comes back as it was.
        own = [round(alpha, 6) for alpha in alphas.tolist()]
        return cls(trained.heads, trained.head_dim, alpha=own[0] if len(set(own)) == 1 else own, **arguments)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        if not k.shape[-2]:
            return without_keys(q, k, v)
        seen = None if mask is None else four_dimensional(mask)
        with torch.autocast(q.device.type, enabled=False):
            queries, keys, values = full_precision(q), full_precision(k), full_precision(v)
            if (fused := self._fused(q, k, v, seen)) is not None:
                return fused
            if self._dense(keys):
                if self.mode != "exact":
                    seen = self.graph(queries, keys, seen)
                arguments = (queries * self.scale, keys, values, self._own_alpha(queries), seen, BLOCK, 0.0, 0)
                out: Tensor = EntmaxRows.apply(*arguments)  # type: ignore[no-untyped-call]
                return out.to(v.dtype)
            tiles = self.tiles(queries.detach(), keys.detach(), seen)
            queries, keys, values = (x.flatten(0, 1) for x in (queries * self.scale, keys, values))
            orders = [alpha - 1 for alpha in self.alphas] * len(q)
            out = SparseRows.apply(queries, keys, values, orders, tiles)  # type: ignore[no-untyped-call]
            return out.view(*q.shape[:-1], v.shape[-1]).to(v.dtype)

    @torch.no_grad()
    def graph(self, q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predicted graph: which keys of each query are taken to have a weight, of those that may be seen.

        Args:
            q: Queries, ``(batch, heads, queries, head_dim)``.
            k: Keys, ``(batch, heads, keys, head_dim)``.
            mask: Boolean, broadcastable to ``(batch, heads, queries, keys)``; True = may be seen.

        Returns:
            Boolean, ``(batch, heads, queries, keys)``.

        Raises:
            ValueError: There is no predictor, or one that reads the order of tokens is given keys of other tokens.
        """
        if self.pattern is None:
            raise ValueError(f"grouping must be one of {', '.join(PATTERNS)} to predict a graph, got None")
        mask = None if mask is None else four_dimensional(mask)
        keys, queries = _visible(mask)
        points = self._points(q, k)
        found = self.pattern.edges(*points, keys, queries)
        if self.window or self.ends:
            block = named(str(self.grouping)).tokens
            count = check_same_length(self, q, k)
            found = found | always(count, self.window, self.ends, keys, block, q.device)
        found = found if mask is None else found & mask
        return found.expand(*q.shape[:-1], k.shape[-2])

    @torch.no_grad()
    def tiles(self, q: Tensor, k: Tensor, mask: Tensor | None = None) -> list[list[Tile]]:
        """Keys that are scored for each query, of each item's each head: predicted, or by the certificate.

        Arguments as of ``graph``.
        """
        mask = None if mask is None else four_dimensional(mask).expand(*q.shape[:2], -1, -1)
        if not q.numel():
            return [[] for _ in range(q.shape[0] * q.shape[1])]
        if self.mode != "exact":
            return self._gathered(q, k, mask)
        predicted = None if self.pattern is None else self.graph(q, k, mask).flatten(0, 1)
        seen = None if mask is None else mask.flatten(0, 1)
        found = []
        for number, (own, keys) in enumerate(zip(q.flatten(0, 1) * self.scale, k.flatten(0, 1), strict=True)):
            visible, probe = (None if part is None else part[number] for part in (seen, predicted))
            order = self.alphas[number % self.heads] - 1
            found.append(certified_tiles(own, keys, order, visible, probe))
        return found

    def _gathered(self, q: Tensor, k: Tensor, mask: Tensor | None) -> list[list[Tile]]:
        """Predicted keys of each item's each head.

        Of groupings the numbers of groups of a few queries at a time are compared, so that memory is linear.
        """
        codes = self._codes(q, k, mask)
        if codes is None:
            graphs = self.graph(q, k, mask).flatten(0, 1)
            near = [near_one_another(own) for own in self._points(q, k)[0].flatten(0, 1)]
            return [gathered_tiles(parts, graph.__getitem__) for parts, graph in zip(near, graphs, strict=True)]
        own, theirs = (each.flatten(0, 1) for each in codes)
        seen = None if mask is None else mask.flatten(0, 1)
        found = []
        for number, (one, other) in enumerate(zip(own, theirs, strict=True)):
            visible = None if seen is None else seen[number]
            edges = partial(_shared_code, one, other, visible)
            found.append(gathered_tiles(of_one_group(one[:, 0]), edges))
        return found

    @torch.no_grad()
    def _codes(self, q: Tensor, k: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Codes of queries and keys, of which a pair of the graph has one in common; None where there are none."""
        if self.pattern is None or self.window or self.ends:
            return None
        return self.pattern.codes(*self._points(q, k), *_visible(mask))

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor | None:
        """Output by a GPU kernel, where it is chosen; None = torch operations are to compute it."""
        if self.mode == "exact":
            return by_adasplash("auto", q, k, v, mask, self._own_alpha(q))
        if self.mode == "mask" or (self.mode == "gather" and k.shape[-2] < LEAST):
            return None
        kernel = "flex" if self.mode == "flex" else "auto"
        return by_flex(
            kernel, q, k, v, mask, self.alphas, lambda: self._codes(full_precision(q), full_precision(k), mask)
        )

    def _own_alpha(self, like: Tensor) -> Tensor | float:
        """Alpha as the dense computation takes it: a number, or one for each head."""
        if len(set(self.alphas)) == 1:
            return self.alphas[0]
        return torch.tensor(self.alphas, dtype=like.dtype, device=like.device)[:, None, None]

    @torch.no_grad()
    def weights(self, q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attention map, ``(batch, heads, queries, keys)``, by torch operations in mode flex, too."""
        # FlexAttention takes no values as wide as there are keys.
        plain = with_attributes(self, mode="gather") if self.mode == "flex" else self
        return Mechanism.weights(plain, q, k, mask)

    def _made(self, grouping: str) -> Pattern:
        if named(grouping).name == "kmeans":
            return pattern_named(grouping, self.knob, top=self.top)
        if self.top != 1:
            raise ValueError(f"top must be 1 for grouping {grouping}, got {self.top}")
        return pattern_named(grouping, self.knob)

    def _points(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys as the pattern compares them."""
        if self.projection is None:
            return q, k
        own, theirs = self.projection(q, k)
        return own, theirs

    def _dense(self, k: Tensor) -> bool:
        """Whether all keys are scored: in mode mask, where they are few, and in mode exact on a GPU."""
        if self.mode == "mask" or k.shape[-2] < LEAST:
            return True
        return self.mode == "exact" and (k.device.type != "cpu" or torch.compiler.is_compiling())


def _of_heads(alpha: float | list[float], heads: int) -> tuple[float, ...]:
    """Alpha of each head, or ValueError if one is out of its range or they are not as many as heads."""
    alphas = (float(alpha),) * heads if isinstance(alpha, (int, float)) else tuple(map(float, alpha))
    if len(alphas) != heads:
        raise ValueError(f"alpha must be one number or one for each of {heads} heads, got {len(alphas)}")
    if outside := [each for each in alphas if not 1.0 < each <= 2.0]:
        raise ValueError(f"alpha must be in (1, 2], got {outside[0]}")
    return alphas


def _check_default(**given: tuple[float | None, float | None]) -> None:
    """Raise ValueError if an argument, given with its default, is not left at it where nothing is predicted."""
    for name, (value, default) in given.items():
        if value != default:
            raise ValueError(f"{name} needs a grouping, one of {', '.join(PATTERNS)}, got {name} {value}")


def _visible(mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Keys that any query may see, and queries that may see any key."""
    return (None, None) if mask is None else (mask.any(dim=-2, keepdim=True), mask.any(dim=-1, keepdim=True))


def _shared_code(own: Tensor, theirs: Tensor, seen: Tensor | None, rows: Tensor) -> Tensor:
    """Which keys share a code with some queries, ``(rows, keys)``, of those that may be seen.

    Args:
        own: Codes of the queries, ``(queries, codes)``.
        theirs: Codes of the keys, ``(keys, codes)``.
        seen: ``(queries or 1, keys)``; None = all.
        rows: Numbers of the queries.
    """
    found = torch.zeros(len(rows), len(theirs), dtype=torch.bool, device=own.device)
    for one in own[rows].unbind(-1):
        for other in theirs.unbind(-1):
            found |= one[:, None] == other
    if seen is not None:
        found &= seen if len(seen) == 1 else seen[rows]
    return found
