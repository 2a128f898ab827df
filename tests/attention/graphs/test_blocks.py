"""Graphs of blocks of tokens: which blocks are joined, what hidden tokens may not do, and codes."""

import pytest
import torch
from torch import Tensor

from tabattn.attention.graphs import PATTERNS, Pattern
from tabattn.attention.graphs.blocks import Blocks

HEADS, WIDTH, SIZE = 2, 3, 4


def made(name: str) -> Pattern:
    pattern = PATTERNS[name](5 if name == "kmeans" else None)
    if name == "kmeans":
        generator = torch.Generator().manual_seed(1)
        pattern.centroids = torch.randn(HEADS, 2, 5, SIZE * WIDTH, generator=generator)
    return Blocks(pattern, SIZE)


def tokens(queries: int, keys: int) -> tuple[Tensor, Tensor]:
    return torch.randn(2, HEADS, queries, WIDTH), torch.randn(2, HEADS, keys, WIDTH)


names = pytest.mark.parametrize("name", ["fixed", "dynamic", "kmeans", "l2", "entmax", "window", "topk"])


@names
def test_blocks_are_joined_by_the_vectors_of_their_tokens(name: str) -> None:
    q, k = tokens(22, 22 if name == "window" else 30)
    full = [torch.cat((x, torch.zeros(2, HEADS, -x.shape[2] % SIZE, WIDTH)), dim=2) for x in (q, k)]
    joined = [torch.stack([part.flatten(2) for part in x.split(SIZE, dim=2)], dim=2) for x in full]
    pattern = made(name)
    blocks = pattern.pattern.edges(*joined).expand(2, HEADS, joined[0].shape[2], joined[1].shape[2])
    query, key = torch.arange(22)[:, None] // SIZE, torch.arange(k.shape[2]) // SIZE
    assert torch.equal(pattern.edges(q, k).expand(2, HEADS, 22, -1), blocks[..., query, key])


@names
def test_hidden_tokens_change_nothing(name: str) -> None:
    q, k = tokens(23, 23)
    pattern = made(name)
    graph = pattern.edges(q, k)
    longer = [torch.cat((x, 9 * other), dim=2) for x, other in zip((q, k), tokens(10, 10), strict=True)]
    visible = (torch.arange(33)[:, None] < 23).expand(2, 1, 33, 1)
    assert torch.equal(pattern.edges(*longer, visible.mT, visible)[..., :23, :23], graph)


@names
def test_codes_are_in_common_where_there_is_an_edge(name: str) -> None:
    q, k = tokens(23, 23)
    keys, queries = torch.rand(2, 1, 1, 23) < 0.5, torch.rand(2, 1, 23, 1) < 0.5
    keys[..., 4:8] = False
    pattern = made(name)
    codes = pattern.codes(q, k, keys, queries)
    assert (codes is None) == (name not in ("fixed", "dynamic", "kmeans"))
    if codes is not None:
        common = (codes[0][..., :, None, :, None] == codes[1][..., None, :, None, :]).flatten(-2).any(dim=-1)
        assert torch.equal(common, pattern.edges(q, k, keys, queries) & keys & queries)


@names
def test_a_block_of_one_token_is_the_pattern(name: str) -> None:
    q, k = tokens(23, 23)
    pattern = made(name).pattern
    if name == "kmeans":
        pattern.centroids = pattern.centroids[..., :WIDTH]
    alone = Blocks(pattern, 1)
    assert torch.equal(alone.edges(q, k), pattern.edges(q, k))
    assert (alone.equivariant, alone.projected) == (pattern.equivariant, pattern.projected)
    assert not Blocks(pattern, 2).equivariant


def test_sizes_and_weights_of_files() -> None:
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        Blocks(PATTERNS["fixed"](), 0)
    pattern, other = made("kmeans"), Blocks(PATTERNS["kmeans"](), SIZE)
    other.load_state_dict(pattern.state_dict())
    q, k = tokens(9, 17)
    assert torch.equal(other.edges(q, k), pattern.edges(q, k))
    assert other.edges(q[:0], k[:0]).shape == (0, HEADS, 9, 17)
