"""Fixed attention patterns: exact small matrices, and what random keys depend on."""

import pytest
import torch

from tabattn.attention.graphs import PATTERNS
from tabattn.attention.graphs.extras import near
from tabattn.attention.graphs.positional import BigBird, Longformer, Strided, Window
from tabattn.compare.clocks import peak_bytes

FIXED = ("window", "bigbird", "longformer", "openai")


def tokens(count: int, batch: int = 1, heads: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, heads, count, 4), torch.randn(batch, heads, count, 4)


def row(graph: torch.Tensor, query: int) -> list[int]:
    return graph.reshape(-1, *graph.shape[-2:])[0, query].nonzero().squeeze(1).tolist()


def test_window_of_an_even_width_reaches_further_ahead():
    q, k = tokens(8)
    assert row(Window(3).edges(q, k), 4) == [3, 4, 5]
    assert row(Window(4).edges(q, k), 4) == [3, 4, 5, 6]
    assert row(Window(3).edges(q, k), 0) == [0, 1]
    assert not Window(0).edges(q, k).any()


def test_fixed_pattern_of_sparse_transformers():
    graph = Strided(4).edges(*tokens(16))
    summaries = [2, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15]
    assert row(graph, 0) == row(graph, 4) == sorted({0, 1, 2, 3, 4, *summaries})
    assert row(graph, 5) == row(graph, 8) == sorted({4, 5, 6, 7, 8, *summaries})
    assert row(graph, 15) == sorted({12, 13, 14, 15, *summaries})
    assert Strided(16).edges(*tokens(16)).all()


def test_longformer_has_global_tokens():
    graph = Longformer(2).edges(*tokens(12))
    every = graph.all(dim=0)
    assert every.sum() == 2
    expected = torch.eye(12, dtype=torch.bool) | every | every[:, None]
    assert torch.equal(graph, expected)


def test_bigbird_has_neighbours_ends_and_random_keys():
    graph = BigBird(3).edges(*tokens(20))[0]
    place = torch.arange(20)
    fixed = (place[:, None] - place).abs() <= 1
    fixed[[0, -1]] = fixed[:, [0, -1]] = True
    extra = graph & ~fixed
    assert (graph & fixed == fixed).all()
    assert torch.equal(extra.sum(dim=-1)[:, 1:-1], torch.full((2, 18), 3))
    assert not torch.equal(graph[0], graph[1])
    assert torch.equal(BigBird(0).edges(*tokens(20))[0, 0], fixed)
    assert BigBird(99).edges(*tokens(20)).all()


def random_columns(graph: torch.Tensor) -> set[int]:
    count = graph.shape[-1]
    place = torch.arange(count)
    far = (place[:, None] - place).abs() > 1
    inner = (graph & far)[..., 1:-1, 1:-1].flatten(0, -3).any(dim=0).any(dim=0)
    return {1 + column for column in inner.nonzero().squeeze(1).tolist()}


def test_bigbird_of_the_authors_draws_among_the_first_columns():
    q, k = tokens(64, heads=8)
    assert random_columns(BigBird(3, plan="upstream").edges(q, k)) == set(range(1, 10))
    assert random_columns(BigBird(3).edges(q, k)) == set(range(1, 63))
    # Of 10 tokens, one of 3 random keys is among the first 8, without their last, and two among the other 2.
    q, k = tokens(10, heads=8)
    assert random_columns(BigBird(3, plan="upstream").edges(q, k)) == {*range(1, 7), 8}


@pytest.mark.parametrize("name", ["bigbird", "longformer"])
def test_random_keys_depend_on_the_seed_alone(name):
    q, k = tokens(30)
    pattern = PATTERNS[name](3)
    state = torch.get_rng_state()
    first = pattern.edges(q, k)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(pattern.edges(*tokens(30)), first)
    assert not torch.equal(PATTERNS[name](3, seed=1).edges(q, k), first)


def test_random_keys_of_a_padded_sequence_begin_with_those_of_the_sequence():
    """Of more rows than are drawn at a time, and with keys that only some heads may see."""
    q, k = tokens(700, batch=2)
    keys = torch.rand(2, 2, 1, 700) < 0.5
    keys[..., [0, 599]], keys[..., 600:] = True, False
    padded = BigBird(3).edges(q, k, keys)[..., :600, :600]
    short = [x[..., :600, :] for x in (q, k)]
    assert torch.equal(padded, BigBird(3).edges(*short, keys[..., :600]))
    for item, head in ((0, 1), (1, 0)):
        place = torch.arange(600)
        far = (place[:, None] - place).abs() > 1
        drawn = (padded[item, head] & far)[1:-1, 1:-1]
        assert not drawn[:, ~keys[item, head, 0, 1:599]].any()
        assert set(drawn.sum(dim=-1).tolist()) == {3}


@pytest.mark.parametrize(("name", "of_pair"), [("window", 1.0), ("longformer", 2.0), ("openai", 3.0), ("bigbird", 3.0)])
def test_memory_is_a_few_booleans_of_each_pair(name, of_pair):
    q, k = tokens(2048)
    edges = PATTERNS[name]().edges
    assert peak_bytes(lambda: edges(q, k), torch.device("cpu")) < (of_pair + 0.1) * 2048**2


@pytest.mark.parametrize("window", [0, 1, 2, 3, 6, 40])
def test_neighbours_are_those_of_the_offsets(window):
    place = torch.arange(9)
    offset = place - place[:, None]
    expected = (offset >= -((window - 1) // 2)) & (offset <= window // 2) & (window > 0)
    assert torch.equal(near(9, window), expected)


@pytest.mark.parametrize("name", FIXED)
def test_positions_are_of_one_sequence(name):
    with pytest.raises(ValueError, match=r"compares positions, .* got 5 and 6"):
        PATTERNS[name]().edges(torch.randn(1, 2, 5, 4), torch.randn(1, 2, 6, 4))


@pytest.mark.parametrize("name", FIXED)
def test_an_empty_batch_has_a_graph(name):
    q, k = tokens(6, batch=0)
    graph = PATTERNS[name](2).edges(q, k, torch.ones(0, 1, 1, 6, dtype=torch.bool))
    assert graph.expand(0, 2, 6, 6).shape == (0, 2, 6, 6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Window(-1), "knob must be a whole number of at least 0, got -1"),
        (lambda: Window(2.5), "knob must be a whole number of at least 0, got 2.5"),
        (lambda: Strided(0), "knob must be a whole number of at least 1, got 0"),
        (lambda: Strided(4, summary=-1), "summary must be at least 0, got -1"),
        (lambda: BigBird(3, plan="other"), "plan must be uniform or upstream, got 'other'"),
        (lambda: Longformer(3, seed=-1), "seed must be at least 0, got -1"),
        (lambda: PATTERNS["topk"](0), "knob must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_arguments_say_value_and_bound(make, message):
    with pytest.raises(ValueError, match=message):
        make()
