"""Properties of all predicted graphs, of any sizes: order of tokens, hidden tokens, lengths, and how many edges."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tabattn.attention import Entmax
from tabattn.attention.graphs import PATTERNS, Pattern
from tabattn.attention.graphs.extras import ends, near
from tabattn.attention.graphs.gate import BlockGate
from tabattn.attention.graphs.groups import Clustering

HEADS, WIDTH = 2, 4

any_size = settings(max_examples=12, deadline=None, derandomize=True)

seeds, counts = st.integers(0, 2**32), st.integers(1, 70)

names = pytest.mark.parametrize("name", PATTERNS)


def made(name: str) -> Pattern:
    """A pattern with its default knob, and what it must have learned."""
    pattern = PATTERNS[name]()
    generator = torch.Generator().manual_seed(1)
    if isinstance(pattern, Clustering):
        pattern.centroids = torch.randn(HEADS, 1, int(pattern.knob), WIDTH, generator=generator)
    if isinstance(pattern, BlockGate):
        pattern.of_queries = torch.randn(HEADS, WIDTH, 3, generator=generator)
        pattern.of_keys = torch.randn(HEADS, 3 * WIDTH, 3, generator=generator)
    return pattern


def tokens(seed: int, queries: int, keys: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(2, HEADS, count, WIDTH, generator=generator) for count in (queries, keys))
    return q, k


def edges(pattern: Pattern, q: Tensor, k: Tensor, *visible: Tensor | None) -> Tensor:
    return pattern.edges(q, k, *visible).expand(*q.shape[:-1], k.shape[-2])


def any_hidden(seed: int, count: int) -> Tensor:
    """Visibility of some tokens, ``(2, 1, count, 1)``."""
    return torch.rand(2, 1, count, 1, generator=torch.Generator().manual_seed(seed + 1)) < 0.7


@names
@any_size
@given(seeds, counts)
def test_permuted_tokens_have_the_permuted_graph_where_that_is_said(name: str, seed: int, count: int) -> None:
    pattern = made(name)
    q, k = tokens(seed, count, count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    visible = any_hidden(seed, count)
    both = visible & visible.mT
    graph = edges(pattern, q, k, visible.mT, visible) & both
    moved = visible[:, :, order]
    other = edges(pattern, q[:, :, order], k[:, :, order], moved.mT, moved) & moved & moved.mT
    if pattern.equivariant:
        assert torch.equal(other, graph[:, :, order][..., order])


@pytest.mark.parametrize("name", [name for name in PATTERNS if not made(name).equivariant])
def test_graphs_that_read_the_order_change_with_it(name: str) -> None:
    q, k = tokens(0, 200, 200)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    graph = edges(made(name), q, k)[:, :, order][..., order]
    assert not torch.equal(edges(made(name), q[:, :, order], k[:, :, order]), graph)


@names
@any_size
@given(seeds, counts, st.integers(1, 30))
def test_hidden_tokens_that_are_appended_change_no_edge(name: str, seed: int, count: int, more: int) -> None:
    pattern = made(name)
    q, k = tokens(seed, count, count)
    visible = any_hidden(seed, count)
    graph = edges(pattern, q, k, visible.mT, visible)
    longer = [torch.cat((x, 9 * other), dim=2) for x, other in zip((q, k), tokens(seed + 2, more, more), strict=True)]
    padded = torch.cat((visible, torch.zeros(2, 1, more, 1, dtype=torch.bool)), dim=2)
    found = edges(pattern, *longer, padded.mT, padded)[..., :count, :count]
    assert torch.equal(found & visible & visible.mT, graph & visible & visible.mT)


@names
@any_size
@given(seeds, counts, counts)
def test_queries_and_keys_of_other_lengths_are_served_or_refused(name: str, seed: int, queries: int, keys: int) -> None:
    pattern = made(name)
    q, k = tokens(seed, queries, keys)
    seen, counted = any_hidden(seed, keys).mT, any_hidden(seed + 3, queries)
    if pattern.one_sequence and queries != keys:
        with pytest.raises(ValueError, match=f"{queries} and {keys}"):
            edges(pattern, q, k, seen, counted)
        return
    found = edges(pattern, q, k, seen, counted)
    assert found.dtype == torch.bool
    # What is hidden has no influence, and neither has another item.
    q, k = torch.where(counted, q, 1e3), torch.where(seen.mT, k, -1e3)
    alone = edges(pattern, q[1:], k[1:], seen[1:], counted[1:])
    assert torch.equal(alone & seen[1:] & counted[1:], (found & seen & counted)[1:])


@names
@any_size
@given(seeds, counts)
def test_codes_are_in_common_where_there_is_an_edge(name: str, seed: int, count: int) -> None:
    pattern = made(name)
    q, k = tokens(seed, count, count)
    visible = any_hidden(seed, count)
    codes = pattern.codes(q, k, visible.mT, visible)
    if codes is not None:
        common = (codes[0][..., :, None, :, None] == codes[1][..., None, :, None, :]).flatten(-2).any(dim=-1)
        assert torch.equal(common, edges(pattern, q, k, visible.mT, visible) & visible & visible.mT)


@names
def test_random_numbers_of_others_are_left_alone(name: str) -> None:
    q, k = tokens(0, 40, 40)
    state = torch.get_rng_state()
    first = edges(made(name), q, k)
    assert torch.equal(edges(made(name), q, k), first)
    assert torch.equal(torch.get_rng_state(), state)


@any_size
@given(seeds, counts, counts, st.integers(1, 20))
def test_fixed_buckets_bound_the_keys_of_a_query(seed: int, queries: int, keys: int, size: int) -> None:
    q, k = tokens(seed, queries, keys)
    assert int(edges(PATTERNS["fixed"](size), q, k).sum(dim=-1).max()) <= WIDTH * size


@any_size
@given(st.integers(1, 40), st.integers(0, 45))
def test_a_window_has_as_many_keys_but_at_the_borders(count: int, window: int) -> None:
    found = near(count, window)
    query, key = found.nonzero().unbind(dim=-1)
    assert ((key - query).abs() <= window // 2).all()
    inner = slice(window // 2, max(window // 2, count - window // 2))
    assert (found.sum(dim=-1)[inner] == window).all()
    assert int(found.sum(dim=-1).max()) <= window


@any_size
@given(seeds, st.integers(1, 40))
def test_ends_are_the_first_and_last_visible_tokens(seed: int, count: int) -> None:
    visible = any_hidden(seed, count)[0, 0].mT
    found = ends(count, 2, visible)
    expected = torch.zeros(count, count, dtype=torch.bool)
    for place in visible[0].nonzero().squeeze(1)[[0, -1]].tolist() if visible.any() else []:
        expected[place] = expected[:, place] = True
    assert torch.equal(found, expected)


@any_size
@given(seeds, counts, counts, st.integers(1, 20))
def test_no_graph_of_as_many_keys_finds_more_than_the_oracle(seed: int, queries: int, keys: int, most: int) -> None:
    q, k = tokens(seed, queries, keys)
    gold = Entmax(HEADS, WIDTH).weights(q, k) > 0
    found = (edges(PATTERNS["topk"](most), q, k) & gold).sum(dim=-1)
    assert torch.equal(found, gold.sum(dim=-1).clamp(max=most))


@pytest.mark.parametrize("name", PATTERNS)
def test_what_is_learned_is_missing_at_first(name):
    q, k = torch.randn(1, 2, 6, 4), torch.randn(1, 2, 6, 4)
    if PATTERNS[name].learned:
        with pytest.raises(ValueError, match=r"has no (centroids|weights)"):
            PATTERNS[name]().edges(q, k)
    else:
        PATTERNS[name]().edges(q, k)
