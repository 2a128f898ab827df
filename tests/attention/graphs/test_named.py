"""Patterns by name, of blocks of tokens or of keys, and what is kept beside them."""

import pytest
import torch

from tabattn.attention import Sparsefinder
from tabattn.attention.graphs import PATTERNS, Blocks, innermost, named, pattern_named
from tabattn.attention.graphs.extras import always, ends, near


def test_a_name_says_its_block() -> None:
    assert named("kmeans") == ("kmeans", None)
    assert (named("kmeans/8").tokens, named("kmeans").tokens, named("pages/8").tokens) == (8, 1, 1)
    for name, kind in PATTERNS.items():
        assert type(pattern_named(name)) is type(innermost(pattern_named(f"{name}/3"))) is kind
    assert pattern_named("pages/3", 2).page == pattern_named("tree_pages/3").page == pattern_named("gate/3").block == 3
    assert pattern_named("pages").page == pattern_named("gate").block == 16
    made = pattern_named("fixed/4", 2)
    assert isinstance(made, Blocks)
    assert (made.size, made.knob, pattern_named("fixed/1").knob) == (4, 2, PATTERNS["fixed"]().knob)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kmean/8", "grouping must be one of fixed, .*, gate, got 'kmean/8'"),
        ("kmeans/0", "the block of a grouping must be a whole number of at least 1, such as kmeans/8, got 'kmeans/0'"),
        ("pages/", "such as pages/8, got 'pages/'"),
        ("window/-2", "such as window/8, got 'window/-2'"),
        ("window/2.5", "such as window/8, got 'window/2.5'"),
    ],
)
def test_other_names_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        named(text)
    with pytest.raises(ValueError, match=said):
        Sparsefinder(2, 4, mode="gather", grouping=text)


@pytest.mark.parametrize("name", PATTERNS)
def test_blocks_are_of_the_kind_of_their_pattern(name: str) -> None:
    made = pattern_named(f"{name}/2")
    for fact in ("projected", "one_sequence", "learned"):
        assert getattr(made, fact) == getattr(PATTERNS[name], fact)


def test_what_is_kept_is_of_blocks() -> None:
    keys = (torch.arange(11) < 8)[None, None, None]
    block = torch.arange(11) // 3
    expected = (block - block[:, None]).abs() <= 1
    # The first block, and the last with a visible key.
    end = (block == 0) | (block == 2)
    assert torch.equal(always(11, 3, 2, keys, 3, keys.device)[0, 0], expected | end | end[:, None])
    assert torch.equal(always(11, 0, 1, None, 3, keys.device), (block == 0) | (block == 0)[:, None])
    assert torch.equal(always(11, 3, 2, keys, 1, keys.device), near(11, 3) | ends(11, 2, keys))
    assert torch.equal(always(11, 3, 0, keys, 1, keys.device), near(11, 3))


@pytest.mark.parametrize("grouping", ["fixed/4", "cos/4", "window/4", "pages/8", "topk/4"])
def test_a_mechanism_scores_the_blocks_of_its_graph(grouping: str) -> None:
    made = Sparsefinder(2, 8, mode="gather", grouping=grouping, window=1, ends=1)
    q, k, v = (torch.randn(1, 2, 530, 8) for _ in range(3))
    graph = made.graph(q, k)
    tokens = named(grouping).tokens
    keys = 8 if grouping == "pages/8" else tokens
    blocks = graph[..., 8:496, 8:496].unflatten(-1, (-1, keys)).unflatten(-3, (-1, tokens))
    if grouping != "pages/8":
        assert torch.equal(blocks.any(-1).any(-2), blocks.all(-1).all(-2))
    dense = Sparsefinder(2, 8, mode="mask", grouping=grouping, window=1, ends=1)
    dense.load_state_dict(made.state_dict())
    torch.testing.assert_close(made(q, k, v), dense(q, k, v))
    assert graph.any(-1).all()
