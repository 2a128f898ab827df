"""Groupings of projected queries and keys: graphs as the published implementation of Sparsefinder finds them."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tabattn.attention import Entmax
from tabattn.attention.graphs import PATTERNS, HeadProjection
from tabattn.attention.graphs.extras import ends, near

LENGTHS = (20, 13, 17)

CENTROIDS = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(7))


class Case(NamedTuple):
    """Projected tokens and what entmax of the whole ones sees."""

    q: Tensor
    k: Tensor
    keys: Tensor
    queries: Tensor
    gold: Tensor


@pytest.fixture(scope="module")
def case() -> Case:
    generator = torch.Generator().manual_seed(0)
    q, k = (2 * torch.randn(3, 2, 20, 16, generator=generator) for _ in range(2))
    visible = torch.arange(20) < torch.tensor(LENGTHS)[:, None]
    keys, queries = visible[:, None, None, :], visible[:, None, :, None]
    projection = HeadProjection(2, 16, shared=True)
    with torch.no_grad():
        projection.q.w.copy_(torch.randn(2, 16, 4, generator=generator) / 4)
        projection.q.b.zero_()
        projected = projection(q, k)
    return Case(*projected, keys, queries, Entmax(2, 16).weights(q, k, keys) > 0)


def scores(found: Tensor, case: Case) -> list[list[float]]:
    """Recall, sparsity and share of exact queries, for each head: means over items."""
    pairs = case.keys & case.queries
    found, gold = found & pairs, case.gold & pairs
    recall = (found & gold).sum((2, 3)) / gold.sum((2, 3))
    sparsity = 1 - found.sum((2, 3)) / pairs.sum((2, 3))
    exact = (((gold & ~found).sum(-1) == 0) & case.queries[..., 0]).sum(-1) / torch.tensor(LENGTHS)[:, None]
    return [each.mean(dim=0).tolist() for each in (recall, sparsity, exact)]


def test_gold_graph(case: Case) -> None:
    assert scores(case.gold, case)[1] == pytest.approx([0.8756, 0.8712], abs=1e-4)


# Figures of the published code, at https://github.com/deep-spin/sparsefinder.
FIGURES: list[tuple[str, float, dict[str, Any], list[list[float]]]] = [
    ("fixed", 5, {}, [[0.8764, 0.8121], [0.2840, 0.2694], [0.7765, 0.6602]]),
    ("dynamic", 5, {"padded": True}, [[0.8588, 0.8875], [0.2731, 0.2378], [0.7400, 0.8219]]),
    ("kmeans", 4, {}, [[0.3828, 0.3950], [0.7165, 0.7326], [0.2024, 0.2737]]),
    ("kmeans", 4, {"top": 2, "match": "rank"}, [[0.5194, 0.5226], [0.5695, 0.5820]]),
    ("cos", 0.7, {}, [[0.5749, 0.5079], [0.6423, 0.7193]]),
    ("euclidean", 2.5, {}, [[0.1163, 0.1290], [0.9238, 0.9141]]),
    ("l2", 6, {}, [[0.1163, 0.1179], [0.9254, 0.9201]]),
    ("min", 0.02, {}, [[0.1897, 0.1929], [0.8667, 0.8272]]),
]


@pytest.mark.parametrize(("name", "knob", "own", "expected"), FIGURES)
def test_figures(name: str, knob: float, own: dict[str, Any], expected: list[list[float]], case: Case) -> None:
    pattern = PATTERNS[name](knob, **own)
    if name == "kmeans":
        pattern.centroids = CENTROIDS
    found = scores(pattern.edges(case.q, case.k, case.keys, case.queries), case)
    for ours, theirs in zip(found, expected, strict=False):
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_figures_with_a_window_and_the_first_token(case: Case) -> None:
    found = PATTERNS["fixed"](5).edges(case.q, case.k, case.keys, case.queries) | near(20, 3)
    expected = [[0.8935, 0.8343], [0.2374, 0.2253]]
    for ours, theirs in zip(scores(found, case), expected, strict=False):
        assert ours == pytest.approx(theirs, abs=1e-4)
    expected = [[0.9030, 0.8431], [0.2083, 0.1996]]
    for ours, theirs in zip(scores(found | ends(20, 1), case), expected, strict=False):
        assert ours == pytest.approx(theirs, abs=1e-4)
