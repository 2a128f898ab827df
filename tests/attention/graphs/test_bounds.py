"""Graphs from scores: page bounds, the Gaussian threshold, and the oracle that no other exceeds."""

import pytest
import torch
from torch import Tensor

from tabattn.attention import Entmax
from tabattn.attention.entmax_solver import solve_rows
from tabattn.attention.graphs import PATTERNS
from tabattn.attention.graphs.bounds import Gaussian, PageBound, Pages, TopScores, TreePages

WIDTH = 8
LEARNED = ("kmeans", "gate")
"""Patterns that predict nothing before they are fitted."""


def tokens(queries: int, keys: int) -> tuple[Tensor, Tensor]:
    return 2 * torch.randn(2, 2, queries, WIDTH), 2 * torch.randn(2, 2, keys, WIDTH)


@pytest.mark.parametrize("make", [Pages, TreePages])
def test_the_bound_of_a_page_is_never_below_a_score(make: type[PageBound]):
    q, k = (x.double() for x in tokens(21, 75))
    visible = torch.rand(2, 2, 75) < 0.8
    visible[0, 0, 16:32] = False
    pattern = make(page=16)
    page = pattern.pages(k, visible)
    bounds = pattern.bounds(q, k, page, visible)
    of_keys = bounds.gather(-1, page[..., None, :].expand(2, 2, 21, 75))
    scores = (q @ k.mT).masked_fill(~visible[..., None, :], -torch.inf)
    assert (of_keys >= scores - 1e-12).all()
    used = torch.zeros(2, 2, 5, dtype=torch.long).scatter_add_(-1, page, visible.long())
    assert (used <= 16).all()
    assert torch.equal((bounds > -torch.inf).all(dim=-2), used > 0)


@pytest.mark.parametrize("make", [Pages, TreePages])
def test_pages_of_one_key_are_the_oracle(make: type[PageBound]):
    q, k = (x.double() for x in tokens(21, 75))
    visible = torch.rand(2, 1, 1, 75) < 0.8
    ours, oracle = make(5, page=1).edges(q, k, visible), TopScores(5).edges(q, k, visible)
    assert torch.equal(ours & visible, oracle & visible)


def test_pages_of_neighbours_hold_more_than_pages_in_any_order():
    centres = 3 * torch.randn(12, WIDTH)
    k = centres[torch.randint(12, (192,))][None, None] + 0.3 * torch.randn(1, 1, 192, WIDTH)
    q = centres[torch.randint(12, (50,))][None, None] + 0.3 * torch.randn(1, 1, 50, WIDTH)
    gold = Entmax(1, WIDTH).weights(q, k) > 0
    recall = [float((make(3).edges(q, k) & gold).sum() / gold.sum()) for make in (Pages, TreePages)]
    assert recall[1] > recall[0] + 0.2


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_the_threshold_of_normal_scores_is_estimated(alpha):
    scores = torch.randn(1, 1, 200, 4096, dtype=torch.float64) / 10
    below = scores - scores.amax(dim=-1, keepdim=True)
    estimate = Gaussian(alpha=alpha)._depth(below, torch.ones(1, 1, 1, 4096, dtype=torch.bool))
    exact = 1 - solve_rows(scores.clone(), alpha - 1).shift
    assert (estimate - exact).abs().mean() < 0.1 * exact.mean()
    assert (estimate - exact).mean().abs() < 0.02 * exact.mean()


def test_keys_of_equal_scores_are_all_above_the_gaussian_threshold():
    q, k = torch.randn(1, 2, 3, WIDTH), torch.randn(1, 2, 1, WIDTH).expand(1, 2, 7, WIDTH)
    assert Gaussian().edges(q, k).all()
    assert Gaussian().edges(q, k[:, :, :1]).all()


def test_a_small_distance_leaves_the_largest_score():
    q, k = tokens(9, 40)
    assert torch.equal(Gaussian(1e-6).edges(q, k), TopScores(1).edges(q, k))
    assert Gaussian(1e6).edges(q, k).all()


@pytest.mark.parametrize("name", [name for name in PATTERNS if name not in LEARNED])
def test_no_graph_with_as_many_keys_of_each_query_has_more_of_the_attended(name):
    q, k = tokens(64, 64)
    p = Entmax(2, WIDTH).weights(q, k)
    graph = PATTERNS[name]().edges(q, k).expand_as(p)
    number = graph.sum(dim=-1, keepdim=True)
    rank = (q @ k.mT).argsort(dim=-1, descending=True).argsort(dim=-1)
    oracle = rank < number
    assert ((oracle & (p > 0)).sum(dim=-1) >= (graph & (p > 0)).sum(dim=-1)).all()
    assert ((p * oracle).sum(dim=-1) >= (p * graph).sum(dim=-1) - 1e-6).all()
    same = number.flatten().unique()
    if len(same) == 1 and same > 0:
        assert torch.equal(TopScores(int(same)).edges(q, k), oracle)


@pytest.mark.parametrize("name", ["window", "bigbird", "longformer", "openai", "lsh", "routing", "pages", "tree_pages"])
def test_the_oracle_has_the_largest_recall_at_equal_sparsity(name):
    q, k = tokens(128, 128)
    gold = Entmax(2, WIDTH).weights(q, k) > 0
    graph = PATTERNS[name]().edges(q, k).expand_as(gold)
    oracle = TopScores(int(graph.sum() / graph[..., 0].numel())).edges(q, k)
    assert oracle.sum() <= graph.sum()
    assert (oracle & gold).sum() > (graph & gold).sum()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopScores(0), "knob must be a whole number of at least 1, got 0"),
        (lambda: Pages(1.5), "knob must be a whole number of at least 1, got 1.5"),
        (lambda: TreePages(2, page=0), "page must be at least 1, got 0"),
        (lambda: Gaussian(0), "knob must be above 0 and finite, got 0"),
        (lambda: Gaussian(1, alpha=1.7), "alpha must be 1.5 or 2, got 1.7"),
    ],
)
def test_bad_arguments_say_value_and_bound(make, message):
    with pytest.raises(ValueError, match=message):
        make()
