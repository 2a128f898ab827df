"""Attention patterns from scores and from bounds and estimates of them."""

from typing import ClassVar

import torch
from torch import Tensor

from tabattn.attention.graphs.knobs import whole
from tabattn.attention.graphs.pattern import Pattern
from tabattn.attention.scores import full_precision


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
        best = scores.topk(min(whole(self.knob), k.shape[-2]), dim=-1).indices
        return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True)
