"""Buckets and clusters: their sizes and members, visibility, the order of tokens, and codes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tabattn.attention.graphs import Pattern
from tabattn.attention.graphs.groups import Dynamic, Fixed, Grouping, KMeans, Quantile


def clusters(knob: int | None = None, runs: int = 2, count: int = 5, **own: object) -> KMeans:
    pattern = KMeans(knob, **own)
    pattern.centroids = torch.randn(2, runs, count, 3, generator=torch.Generator().manual_seed(1))
    return pattern


MADE: dict[str, Callable[[], Pattern]] = {
    "fixed": lambda: Fixed(4),
    "quantile": lambda: Quantile(4),
    "dynamic": lambda: Dynamic(4, temperature=0.7),
    "kmeans": clusters,
    "kmeans of 2": lambda: clusters(top=2),
    "kmeans by rank": lambda: clusters(top=3, match="rank"),
}


@pytest.fixture(params=MADE)
def pattern(request: pytest.FixtureRequest) -> Pattern:
    return MADE[request.param]()


def tokens(queries: int, keys: int, batch: int = 2) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 2, queries, 3), torch.randn(batch, 2, keys, 3)


def test_permuted_tokens_have_the_permuted_graph(pattern: Pattern) -> None:
    assert pattern.equivariant
    q, k = tokens(17, 23)
    some, other = torch.randperm(17), torch.randperm(23)
    found = pattern.edges(q[:, :, some], k[:, :, other])
    assert torch.equal(found, pattern.edges(q, k)[:, :, some][..., other])


def test_padding_changes_nothing(pattern: Pattern) -> None:
    q, k = tokens(17, 23)
    longer = tokens(21, 40)
    keys, queries = torch.rand(2, 1, 1, 40) < 0, torch.rand(2, 1, 21, 1) < 0
    # Hidden tokens are anywhere, not only at the end.
    seen, asked = torch.randperm(40)[:23].sort().values, torch.randperm(21)[:17].sort().values
    keys[..., seen], queries[:, :, asked] = True, True
    longer[0][:, :, asked], longer[1][:, :, seen] = q, k
    found = pattern.edges(*longer, keys, queries)
    assert torch.equal(found[:, :, asked][..., seen], pattern.edges(q, k))


def test_masks_may_be_broadcast_and_apart_for_each_head(pattern: Pattern) -> None:
    q, k = tokens(9, 11)
    keys = torch.rand(1, 2, 1, 11) < 0.7
    found = pattern.edges(q, k, keys, torch.ones(1, 1, 1, 1, dtype=torch.bool))
    for head in range(2):
        own = slice(head, head + 1)
        alone = pattern.edges(q, k, keys[:, own].expand(2, 2, 1, 11))
        assert torch.equal((found & keys)[:, own], (alone & keys[:, own])[:, own])


def test_nothing_visible_and_no_tokens(pattern: Pattern) -> None:
    q, k = tokens(4, 6)
    hidden = torch.zeros(2, 1, 1, 6, dtype=torch.bool), torch.zeros(2, 1, 4, 1, dtype=torch.bool)
    assert pattern.edges(q, k, *hidden).shape == (2, 2, 4, 6)
    for queries, keys, batch in ((0, 6, 2), (4, 0, 2), (0, 0, 2), (4, 6, 0)):
        assert pattern.edges(*tokens(queries, keys, batch)).shape == (batch, 2, queries, keys)
        assert pattern.codes(*tokens(queries, keys, batch)) is not None


def test_blocks_of_queries_do_not_matter(pattern: Pattern, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = tokens(17, 23)
    whole = pattern.edges(q, k)
    for pairs in (1, 300):
        monkeypatch.setattr("tabattn.attention.graphs.pattern.PAIRS", pairs)
        assert torch.equal(pattern.edges(q, k), whole)


def test_codes_are_in_common_where_there_is_an_edge(pattern: Pattern) -> None:
    q, k = tokens(17, 23)
    keys, queries = torch.rand(2, 1, 1, 23) < 0.7, torch.rand(2, 2, 17, 1) < 0.7
    own, theirs = pattern.codes(q, k, keys, queries)
    common = (own[..., :, None, :, None] == theirs[..., None, :, None, :]).flatten(-2).any(dim=-1)
    assert torch.equal(common, pattern.edges(q, k, keys, queries) & keys & queries)
    assert not own.is_floating_point()
    assert (own.shape[:3], theirs.shape[:3]) == (q.shape[:3], k.shape[:3])


def test_half_precision_is_that_of_the_same_numbers(pattern: Pattern) -> None:
    q, k = (each.half() for each in tokens(17, 23))
    assert torch.equal(pattern.edges(q, k), pattern.edges(q.float(), k.float()))


def test_fixed_buckets_have_as_many_tokens() -> None:
    x = torch.randn(1, 1, 22, 1)
    sizes = Fixed(5).edges(x, x).sum(dim=-1)[0, 0]
    assert sorted(sizes.tolist()) == [2, 2] + [5] * 20
    # By hand: in the order of the numbers, each five.
    order = x[0, 0, :, 0].argsort()
    bucket = torch.empty_like(order).scatter_(0, order, torch.arange(22) // 5)
    assert torch.equal(Fixed(5).edges(x, x)[0, 0], bucket[:, None] == bucket)
    # Equal numbers do not enlarge a bucket.
    assert Fixed(5).edges(0 * x, 0 * x).sum(dim=-1).max() == 5


@pytest.mark.parametrize(("queries", "keys"), [(7, 40), (40, 7), (1, 30), (30, 1), (24, 23)])
@pytest.mark.parametrize("made", [Fixed, Quantile])
def test_fixed_buckets_of_other_lengths(queries: int, keys: int, made: type[Grouping]) -> None:
    q, k = torch.randn(1, 1, queries, 1), torch.randn(1, 1, keys, 1)
    found = made(4).edges(q, k)[0, 0].sum(dim=-1)
    # Every query has a bucket, full but for the last.
    last = keys % 4 or 4
    assert set(found.tolist()) <= {min(4, keys), last}


def test_queries_do_not_depend_on_one_another_but_in_fixed_buckets(pattern: Pattern) -> None:
    q, k = tokens(17, 23)
    alone = torch.cat([pattern.edges(each, k) for each in q.split(1, dim=2)], dim=2)
    assert torch.equal(alone, pattern.edges(q, k)) != isinstance(pattern, Fixed)


def test_quantile_buckets_of_queries_are_those_of_the_greatest_key_below() -> None:
    k = torch.arange(6.0)[None, None, :, None]
    q = torch.tensor([-9.0, 0.0, 1.9, 2.0, 3.5, 3.9, 4.0, 99.0])[None, None, :, None]
    found = Quantile(2).edges(q, k)[0, 0]
    buckets = found.float().argmax(dim=-1) // 2
    assert buckets.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_dynamic_buckets_are_of_equal_width() -> None:
    # 4 intervals of tanh: bounds -0.5, 0 and 0.5.
    x = torch.tensor([-9.0, -0.56, -0.54, -0.01, 0.01, 0.54, 0.56, 9.0])[None, None, :, None]
    bucket = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    assert torch.equal(Dynamic(2).edges(x, x)[0, 0], bucket[:, None] == bucket)
    # A factor of 10 sends all but the smallest to the outer ones.
    bucket = torch.tensor([0, 0, 0, 1, 2, 3, 3, 3])
    assert torch.equal(Dynamic(2, temperature=10).edges(x, x)[0, 0], bucket[:, None] == bucket)


def test_hidden_keys_count_for_dynamic_buckets_only_as_in_the_original() -> None:
    x = torch.tensor([-0.8, -0.1, 0.1, 0.8])[None, None, :, None]
    keys = torch.tensor([True, True, True, False])[None, None, None]
    # 2 intervals of 2 visible keys each, or 1 of 3.
    assert Dynamic(3).edges(x, x, keys).all()
    assert not Dynamic(3, padded=True).edges(x, x, keys)[0, 0, 0, 2]


def test_nearest_clusters() -> None:
    q, k = tokens(9, 11)
    for top in (1, 2):
        centroids = torch.randn(2, 2, 5, 3)
        sets = []
        for x in (q, k):
            distance = ((x[:, :, :, None, None].double() - centroids[:, None]) ** 2).sum(dim=-1)
            sets.append(distance.argsort(dim=-1)[..., :top])
        own, theirs = sets
        shared = own[:, :, :, None, :, :, None] == theirs[:, :, None, :, :, None, :]
        for match, expected in (("any", shared), ("rank", shared.diagonal(dim1=-2, dim2=-1))):
            pattern = KMeans(top=top, match=match)
            pattern.centroids = centroids
            assert torch.equal(pattern.edges(q, k), expected.flatten(4).any(dim=-1))


def test_k_means_needs_centroids_that_fit() -> None:
    x = torch.randn(1, 2, 4, 3)
    with pytest.raises(ValueError, match="no centroids: train projections"):
        KMeans(4).edges(x, x)
    with pytest.raises(ValueError, match="knob must be the clusters of the centroids, 5, got 4"):
        clusters(4).edges(x, x)
    with pytest.raises(ValueError, match="top must be at most 5, the clusters of the centroids, got 6"):
        clusters(top=6).edges(x, x)
    for other in (x[..., :2], x[:, :1]):
        with pytest.raises(ValueError, match="centroids are of 2 heads and width 3, queries of"):
            clusters().edges(other, other)


def test_k_means_is_saved_with_its_centroids() -> None:
    kept = clusters()
    for fresh in (KMeans(), clusters(count=7)):
        fresh.load_state_dict(kept.state_dict())
        assert torch.equal(fresh.centroids, kept.centroids)
        assert fresh.centroids is not kept.centroids
    assert KMeans().state_dict() == {}


@pytest.mark.parametrize("made", [Fixed, Quantile, Dynamic, KMeans])
@pytest.mark.parametrize("knob", [0, -1, 2.5, float("nan"), float("inf")])
def test_knobs_are_whole_numbers(made: type[Pattern], knob: float) -> None:
    with pytest.raises(ValueError, match=f"knob must be a whole number of at least 1, got {knob}"):
        made(knob)


def test_other_arguments_are_checked() -> None:
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"temperature must be above 0 and finite, got {temperature}"):
            Dynamic(temperature=temperature)
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        KMeans(top=0)
    with pytest.raises(ValueError, match="match must be any or rank, got 'all'"):
        KMeans(match="all")
