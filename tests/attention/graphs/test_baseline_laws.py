"""Laws of all predicted graphs that read positions or scores: order of tokens, padding, batches, knobs."""

import pytest
import torch

from tabattn.attention.graphs import PATTERNS, Pattern

KNOBS: dict[str, tuple[float, float, float]] = {
    "window": (1, 3, 7),
    "bigbird": (0, 2, 5),
    "longformer": (0, 2, 5),
    "lsh": (16, 6, 2),
    "routing": (10, 5, 1),
    "clustered": (1, 4, 9),
    "pages": (1, 2, 3),
    "tree_pages": (1, 2, 3),
    "gaussian": (0.1, 1, 2),
    "topk": (1, 4, 9),
}
"""Knobs in the order of the edges that they keep."""

NESTED = [name for name in KNOBS if name not in ("lsh", "routing")]
"""Patterns whose edges are all kept as the knob gives more."""

BASELINES = [*KNOBS, "openai"]

CROSS = ["clustered", "gaussian", "lsh", "routing", "topk", "tree_pages"]
"""Patterns that serve any number of queries and keys."""


def tokens(batch: int, queries: int, keys: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, 2, queries, 4), torch.randn(batch, 2, keys, 4)


def edges(pattern: Pattern, q: torch.Tensor, k: torch.Tensor, *visible: torch.Tensor) -> torch.Tensor:
    return pattern.edges(q, k, *visible).expand(*q.shape[:-1], k.shape[-2])


@pytest.mark.parametrize("name", BASELINES)
def test_permuted_tokens_have_the_permuted_graph_where_that_is_said(name):
    pattern = PATTERNS[name]()
    q, k = tokens(2, 90, 90)
    order = torch.randperm(90)
    graph = edges(pattern, q, k)[:, :, order][..., order]
    assert torch.equal(edges(pattern, q[:, :, order], k[:, :, order]), graph) == pattern.equivariant


@pytest.mark.parametrize("name", BASELINES)
def test_padding_changes_nothing(name):
    pattern = PATTERNS[name]()
    q, k = tokens(2, 90, 90)
    graph = edges(pattern, q, k)
    more = [torch.cat((x, 9 * torch.randn(2, 2, 7, 4)), dim=2) for x in (q, k)]
    visible = torch.arange(97).expand(2, 1, 1, 97) < 90
    padded = edges(pattern, *more, visible, visible.mT)[:, :, :90, :90]
    assert torch.equal(padded, graph)


@pytest.mark.parametrize("name", BASELINES)
def test_elements_of_a_batch_do_not_depend_on_one_another(name):
    pattern = PATTERNS[name]()
    q, k = tokens(3, 90, 90)
    visible = torch.rand(3, 1, 1, 90) < 0.8
    graph = edges(pattern, q, k, visible, visible.mT) & visible
    for item in range(3):
        own = slice(item, item + 1)
        assert torch.equal(edges(pattern, q[own], k[own], visible[own], visible[own].mT) & visible[own], graph[own])


@pytest.mark.parametrize("name", BASELINES)
def test_what_is_hidden_has_no_influence(name):
    pattern = PATTERNS[name]()
    q, k = tokens(2, 90, 90)
    visible = torch.rand(2, 1, 1, 90) < 0.7
    graphs = []
    for hidden in (0.0, 1e3):
        own, theirs = (torch.where(visible.mT, x, hidden) for x in (q, k))
        graphs.append(edges(pattern, own, theirs, visible, visible.mT) & visible & visible.mT)
    assert torch.equal(*graphs)
    nothing = torch.zeros(2, 1, 1, 90, dtype=torch.bool)
    assert edges(pattern, q, k, nothing, nothing.mT).shape == (2, 2, 90, 90)


@pytest.mark.parametrize("name", KNOBS)
def test_the_knob_is_monotone(name):
    q, k = tokens(2, 90, 90)
    few, some, many = (edges(PATTERNS[name](knob), q, k) for knob in KNOBS[name])
    assert few.sum() < some.sum() < many.sum()
    if name in NESTED:
        assert not (few & ~some).any()
        assert not (some & ~many).any()


@pytest.mark.parametrize("name", CROSS)
def test_the_graph_of_some_queries_depends_on_keys_in_any_order(name):
    pattern = PATTERNS[name](4)
    q, k = tokens(2, 13, 90)
    order = torch.randperm(90)
    assert torch.equal(edges(pattern, q, k)[..., order], edges(pattern, q, k[:, :, order]))
    assert edges(pattern, q[:, :, :0], k).shape == (2, 2, 0, 90)


@pytest.mark.parametrize("name", BASELINES)
def test_half_precision_and_short_sequences_are_served(name):
    pattern = PATTERNS[name]()
    for count in (1, 2, 3):
        q, k = tokens(2, count, count)
        assert edges(pattern, q.half(), k.half()).dtype == torch.bool
