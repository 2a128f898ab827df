"""Graphs by hashing and clustering: against plain computations, and where they are exact."""

import pytest
import torch
from torch import Tensor

from tabattn.attention.graphs.bounds import TopScores
from tabattn.attention.graphs.hashing import LSH, Clustered, Routing


def clustered_tokens(count: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys in tight clusters of equal size, and which of them share one."""
    centres = torch.nn.functional.normalize(torch.eye(groups, 8) + 0.1 * torch.rand(groups, 8), dim=-1)
    own, theirs = (torch.arange(groups).repeat(count // groups)[torch.randperm(count)] for _ in range(2))
    q, k = (centres[each] + 0.01 * torch.randn(1, 1, count, 8) for each in (own, theirs))
    return q, k, own[:, None] == theirs


def test_buckets_of_pairs_make_a_symmetric_graph():
    q, k = torch.randn(2, 2, 30, 4), torch.randn(2, 2, 30, 4)
    graph = LSH(4, pairs=True).edges(q, k)
    assert torch.equal(graph, graph.mT)
    assert graph.diagonal(dim1=-2, dim2=-1).all()
    assert not torch.equal(LSH(4, pairs=True, seed=1).edges(q, k), graph)
    both = torch.cat((q, k), dim=-1)
    assert torch.equal(LSH(4).edges(both, both), graph)
    # More rounds join more.
    assert LSH(8, rounds=4).edges(q, k).sum() > LSH(8).edges(q, k).sum()


def test_two_buckets_are_the_sides_of_a_plane():
    q, k = torch.randn(1, 1, 30, 4), torch.randn(1, 1, 20, 4)
    direction = torch.randn(1, 4, 1, generator=torch.Generator().manual_seed(5))
    sides = [(x @ direction)[0, 0, :, 0] > 0 for x in (q, k)]
    assert torch.equal(LSH(2, seed=5).edges(q, k)[0, 0], sides[0][:, None] == sides[1])


@pytest.mark.parametrize("overlap", [False, True])
def test_routing_is_the_plain_computation(overlap):
    q, k, centroids = torch.randn(1, 1, 11, 4), torch.randn(1, 1, 17, 4), torch.randn(1, 1, 4, 4)
    pattern = Routing(overlap=overlap)
    pattern.centroids = centroids
    taken = []
    for x in (q[0, 0], k[0, 0]):
        similarity = torch.nn.functional.normalize(x, dim=-1) @ centroids[0, 0].mT
        size = len(x) // 4 + 1
        best = [set(similarity[:, cluster].topk(size).indices.tolist()) for cluster in range(4)]
        clusters = [[cluster for cluster in range(4) if token in best[cluster]] for token in range(len(x))]
        taken.append([set(each if overlap else each[:1]) for each in clusters])
    expected = torch.tensor([[bool(own & theirs) for theirs in taken[1]] for own in taken[0]])
    assert torch.equal(pattern.edges(q, k)[0, 0], expected)
    own, theirs = pattern.codes(q, k)
    assert torch.equal((own[..., :, None, :, None] == theirs[..., None, :, None, :]).any(-1).any(-1)[0, 0], expected)


def test_routing_finds_clusters():
    q, k, together = clustered_tokens(60, 5)
    graph = Routing(5, overlap=True).edges(q, k)[0, 0]
    assert (graph & together).sum() == together.sum()
    assert graph.sum() < 1.5 * together.sum()


def test_clusters_of_the_wrong_sizes_are_refused():
    pattern = Routing(3)
    pattern.centroids = torch.randn(2, 1, 4, 4)
    with pytest.raises(ValueError, match="knob must be the clusters of the centroids, 4, got 3"):
        pattern.edges(torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4))
    with pytest.raises(ValueError, match="centroids are of 2 heads and width 4, queries of 2 and 3"):
        pattern.edges(torch.randn(1, 2, 5, 3), torch.randn(1, 2, 5, 3))


def test_centroids_of_a_file_are_loaded_with_their_number():
    saved = Routing()
    saved.centroids = torch.randn(2, 1, 6, 4)
    loaded = Routing()
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(loaded.centroids, saved.centroids)


def test_a_cluster_for_each_query_is_the_oracle():
    q, k = torch.randn(2, 2, 9, 8), torch.randn(2, 2, 30, 8)
    assert torch.equal(Clustered(5, clusters=9).edges(q, k), TopScores(5).edges(q, k))


def test_queries_of_a_cluster_share_keys():
    q, k, together = clustered_tokens(60, 5)
    graph = Clustered(12, clusters=5).edges(q, k)[0, 0]
    assert torch.equal(graph, together)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSH(5), "knob must be an even number of buckets, got 5"),
        (lambda: LSH(4, rounds=0), "rounds must be at least 1, got 0"),
        (lambda: Routing(0), "knob must be a whole number of at least 1, got 0"),
        (lambda: Clustered(0.5), "knob must be a whole number of at least 1, got 0.5"),
        (lambda: Clustered(4, clusters=0), "clusters must be at least 1, got 0"),
    ],
)
def test_bad_arguments_say_value_and_bound(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_pairs_need_as_many_queries_as_keys():
    with pytest.raises(ValueError, match="got 5 and 6; without pairs"):
        LSH(pairs=True).edges(torch.randn(1, 2, 5, 4), torch.randn(1, 2, 6, 4))
