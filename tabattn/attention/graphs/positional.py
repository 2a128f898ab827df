"""Fixed attention patterns, which read positions alone: sliding window, BigBird, Longformer, Sparse Transformer.

Queries and keys are the tokens of one sequence. Random keys have a generator of their own, so that a pattern is the
same for equal shapes, on every device, and for a sequence that is padded at its end.
"""

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from tabattn.attention.graphs.extras import ends, near
from tabattn.attention.graphs.knobs import whole
from tabattn.attention.graphs.pattern import PAIRS, Pattern
from tabattn.attention.mechanism import check_at_least, check_same_length
from tabattn.attention.scores import four_dimensional

Plan = Literal["uniform", "upstream"]


class Window(Pattern):
    """Sliding window: the keys around each query.

    Source: Beltagy et al. 2020, arXiv 2004.05150.

    Args:
        knob: Keys of a query, at least 0; fewer at the borders.
    """

    default: ClassVar[float] = 11

    equivariant = False

    one_sequence = True

    def __init__(self, knob: float | None = None) -> None:
        super().__init__(knob)
        whole(self.knob, 0)

    def edges(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        return near(check_same_length(self, q, k), whole(self.knob, 0), q.device)


class BigBird(Pattern):
    """BigBird: the neighbours of each query, the first and the last token as global ones, and random keys.

    Global tokens are seen by all and see all; a window is of 3 keys. Random keys are apart for each head.

    Source: Zaheer et al. 2020, arXiv 2007.14062, with blocks of one token.

    Args:
        knob: Random keys of a query, at least 0, among those that are not kept anyway.
        plan: Where they are drawn: ``uniform`` = among all; ``upstream`` = as in the authors' programs, which for
            sequences longer than ``2 knob + 5`` draw all among the first ``2 knob + 5``, and of shorter ones half among
            the first ``knob + 5``; padding counts.
        seed: Seed of the draw.

    Raises:
        ValueError: ``knob`` or ``plan`` is out of its range.
    """

    default: ClassVar[float] = 3

    equivariant = False

    one_sequence = True

    def __init__(self, knob: float | None = None, *, plan: Plan = "uniform", seed: int = 0) -> None:
        super().__init__(knob)
        whole(self.knob, 0)
        check_at_least(0, seed=seed)
        if plan not in get_args(Plan):
            raise ValueError(f"plan must be uniform or upstream, got {plan!r}")
        self.plan = plan
        self.seed = seed

    @torch.no_grad()
    def edges(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        count = check_same_length(self, q, k)
        shape = (-1, q.shape[1], -1, -1)
        found = four_dimensional(near(count, 3, q.device) | ends(count, 2, keys, q.device)).expand(shape).clone()
        seeds = torch.randint(2**31, (q.shape[1],), generator=torch.Generator().manual_seed(self.seed))
        size = max(1, PAIRS // max(1, len(found) * count))
        for head, seed in enumerate(seeds.tolist()):
            for rows in torch.arange(count).split(size):
                graph = found[:, head, rows[0] : rows[-1] + 1]
                free = ~graph if keys is None else ~graph & keys[:, min(head, keys.shape[1] - 1)]
                draws = _draws(seed, rows, count).to(q.device)
                for columns, links in self._parts(rows.to(q.device), count):
                    graph |= _chosen(draws, free & columns, links)
        return found

    def _parts(self, rows: Tensor, count: int) -> list[tuple[Tensor, int]]:
        """Columns that may be drawn, for each of some queries, and how many of them."""
        links = whole(self.knob, 0)
        place = torch.arange(count, device=rows.device)
        if self.plan == "uniform":
            return [(place >= 0, links)]
        if count > 2 * links + 5:
            parts = [(0, 2 * links + 5, links)]
        elif count > links + 5:
            parts = [(0, links + 5, links // 2), (links + 5, count, links - links // 2)]
        else:
            parts = [(0, count, links)]
        row = rows[:, None]
        found = []
        for start, stop, part in parts:
            # The last column of a range, and two more for the rows at its ends, are left out by the authors.
            left_out = ((row == 1) & (place == stop - 2)) | ((row == stop - 2) & (place == 1))
            found.append(((place >= start) & (place < stop - 1) & ~left_out, part))
        return found


class Longformer(Pattern):
    """Longformer: each token itself, and random global tokens, which are seen by all and see all.

    The same tokens are global for all heads and all items of a batch, but where they may not be seen. A window is added
    apart.

    Source: Beltagy et al. 2020, arXiv 2004.05150; random global tokens, Treviso et al. 2022, arXiv 2109.12188.

    Args:
        knob: Global tokens, at least 0.
        seed: Seed of the draw.
    """

    default: ClassVar[float] = 4

    equivariant = False

    one_sequence = True

    def __init__(self, knob: float | None = None, *, seed: int = 0) -> None:
        super().__init__(knob)
        whole(self.knob, 0)
        check_at_least(0, seed=seed)
        self.seed = seed

    @torch.no_grad()
    def edges(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        count = check_same_length(self, q, k)
        draws = torch.rand(1, count, generator=torch.Generator().manual_seed(self.seed)).to(q.device)
        visible = torch.ones(1, count, dtype=torch.bool, device=q.device) if keys is None else keys
        tokens = _chosen(draws, visible, whole(self.knob, 0))
        return near(count, 1, q.device) | tokens | tokens.mT


class Strided(Pattern):
    """Fixed pattern of Sparse Transformers: a query's own stride, and a summary of every stride, its last keys.

    The summary ends with the first key of the next stride, to which the own stride extends too. A causal mask is added
    apart.

    Source: Child et al. 2019, arXiv 1904.10509, in both directions as in fairseq.

    Args:
        knob: Keys of a stride, at least 1.
        summary: Last keys of every stride that all see; as many as in a stride, or more, show everything.

    Raises:
        ValueError: ``knob`` or ``summary`` is out of its range.
    """

    default: ClassVar[float] = 16

    equivariant = False

    one_sequence = True

    def __init__(self, knob: float | None = None, *, summary: int = 2) -> None:
        super().__init__(knob)
        whole(self.knob)
        check_at_least(0, summary=summary)
        self.summary = summary

    def edges(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        count, stride = check_same_length(self, q, k), whole(self.knob)
        place = torch.arange(count, device=q.device)
        # Strides hold the key that follows them, so that their first belongs to two of them.
        first = ((place - 1).clamp(min=0) // stride * stride)[:, None]
        own = (place >= first) & (place <= first + stride)
        return own | (place % stride >= stride - self.summary) | ((place % stride == 0) & (place > 0))


def _draws(seed: int, rows: Tensor, count: int) -> Tensor:
    """Uniform draws of each of some rows, ``(rows, count)``, each row with a generator of its own.

    So the draws of a padded sequence begin with those of the sequence.
    """
    source = torch.Generator()
    return torch.stack([torch.rand(count, generator=source.manual_seed(seed + row)) for row in rows.tolist()])


def _chosen(draws: Tensor, allowed: Tensor, most: int) -> Tensor:
    """Where ``allowed``, the places of the ``most`` least draws of each row, or all if there are fewer."""
    draws = draws.expand(allowed.shape).masked_fill(~allowed, torch.inf)
    least = draws.topk(min(most, draws.shape[-1]), dim=-1, largest=False).indices
    return torch.zeros_like(allowed).scatter_(-1, least, True) & allowed
