"""Projections of layers: gold weights, centroids, and predicted graphs."""

import numpy as np
import pytest
import torch
from entmax import entmax_bisect

from tabattn.attention import Entmax, Sparsefinder
from tabattn.attention.graphs.projection import Shared
from tabattn.contract.queries_keys import LayerBatch
from tabattn.sparsity.options import ClusterOptions, GraphOptions
from tabattn.sparsity.predicted import NeedsSequence, pattern_of, predicted
from tabattn.sparsity.projections import LayerMaps, cluster, entmax_weights
from tests.sparsity.recorded import FIRST, SECOND, batch, items

FEW = ClusterOptions(clusters=3)


def maps(layer: object = FIRST, clusters: ClusterOptions = FEW, shared: Shared = True) -> LayerMaps:
    torch.manual_seed(0)
    return LayerMaps(layer, 3, None, shared, clusters)  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", [FIRST, SECOND])
def test_gold_weights_are_those_of_the_mechanism_and_of_entmax(layer: object) -> None:
    made = maps(layer)
    given = batch(made.layer, cross=True)
    weights = made.weights(given)
    for head, alpha in enumerate(made.layer.alpha):
        mechanism = Entmax(1, made.layer.head_dim, alpha=alpha)
        expected = mechanism.weights(given.q[:, head : head + 1], given.k[:, head : head + 1], given.seen)
        assert torch.allclose(weights[:, head], expected[:, 0], atol=1e-5)
        own = given.q[0, head, :5] @ given.k[0, head].mT * made.layer.scale
        assert torch.allclose(weights[0, head, :5], entmax_bisect(own, alpha), atol=1e-5)
    assert not weights[~given.seen.expand_as(weights)].any()
    assert torch.allclose(weights.sum(-1)[given.queries[:, None].expand(-1, made.layer.heads, -1)], torch.ones(()))


def test_a_query_that_sees_nothing_has_no_weight() -> None:
    weights = entmax_weights(torch.randn(1, 1, 2, 3), torch.tensor([[[[True, True, False], [False] * 3]]]), (1.5,))
    assert weights[0, 0, 0].sum() == pytest.approx(1.0)
    assert not weights[0, 0, 1].any()
    assert entmax_weights(torch.zeros(0, 1, 0, 0), torch.zeros(0, 1, 0, 0, dtype=torch.bool), (1.5,)).shape[0] == 0


@pytest.mark.parametrize("shared", [False, True])
def test_factors_of_scores_are_those_of_the_tokens_there_are(shared: bool) -> None:
    made, expected = maps(shared=shared), maps(shared=shared)
    padded = batch()
    mask = torch.rand(padded.seen[:, 0].shape) < 0.7
    mask[0, 0] = False
    given = padded._replace(mask=mask)
    made.approximate(given)
    counted = given.seen[:, 0].any(dim=-1)
    tokens = []
    for x, some in ((given.q, counted), (given.k, given.keys), (made.weights(given) @ given.k, counted)):
        tokens.append(torch.stack([x[:, head][some] for head in range(2)]))
    expected.projection.approximate(*tokens[: 2 if shared else 3])
    for name, value in made.projection.state_dict().items():
        assert torch.allclose(value, expected.projection.state_dict()[name], atol=1e-5)
    assert not counted[0, 0]


def test_centroids_are_those_of_the_tokens_there_are() -> None:
    made, given = maps(), batch()
    found = made.clusters(given, ClusterOptions(clusters=1, runs=2))
    assert found.shape == (2, 2, 1, 3)
    q, k = made(given)
    for head in range(2):
        tokens = torch.cat([q[:, head][given.queries], k[:, head][given.keys]])
        # Padding, whose projection is the bias, takes no part.
        assert torch.allclose(found[head, 0, 0], tokens.mean(0), atol=1e-5)
    with pytest.raises(ValueError, match=r"clusters must be at most 52, the queries and keys of network\.0, got 60"):
        made.clusters(given, ClusterOptions(clusters=60))


def test_runs_are_independent_and_seeded() -> None:
    points = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    first, again = (cluster(points, ClusterOptions(clusters=5, runs=2)) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, cluster(points, ClusterOptions(clusters=5, runs=2, seed=4)))


@pytest.mark.parametrize(
    "options",
    [
        GraphOptions("fixed", 2),
        GraphOptions("kmeans", 3, window=3),
        GraphOptions("kmeans", ends=2),
        GraphOptions("fixed/2", 1, window=1),
        GraphOptions("fixed/3", 1, ends=1),
        GraphOptions("euclidean/3", 4.0),
    ],
)
def test_a_predicted_graph_is_that_of_the_mechanism(options: GraphOptions) -> None:
    made, given = maps(shared=False), batch()
    made.centroids.copy_(made.clusters(given, FEW))
    graph = predicted(pattern_of(options, {"centroids": made.centroids}), options, given, made(given))
    asked = {"grouping": options.grouping, "knob": options.knob, "top": options.top}
    mechanism = Sparsefinder(2, 6, mode="mask", **asked, window=options.window, ends=options.ends, width=3)  # type: ignore[arg-type]
    assert mechanism.projection is not None
    assert mechanism.pattern is not None
    mechanism.projection.load_state_dict(made.projection.state_dict())
    if options.grouping == "kmeans":
        mechanism.pattern.centroids = made.centroids
    assert torch.equal(graph, mechanism.graph(given.q, given.k, given.seen))
    assert 0 < graph.sum() <= given.seen.expand_as(graph).sum()


def test_masks_are_kept() -> None:
    causal = [item._replace(mask=torch.ones(5, 5, dtype=torch.bool).tril()) for item in items(FIRST, 1)]
    from datamodules.sparsity.batches import padded

    given: LayerBatch = padded(FIRST, causal)
    options = GraphOptions("euclidean", 1e9)
    made = maps()
    graph = predicted(pattern_of(options), options, given, made(given))
    assert torch.equal(graph[0, 1], causal[0].mask)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [GraphOptions("window", 3), GraphOptions("fixed", 2, window=3)])
def test_graphs_of_sequences_need_one(options: GraphOptions) -> None:
    made, given = maps(), batch(cross=True)
    with pytest.raises(NeedsSequence, match="compares positions, and queries and keys have other lengths"):
        predicted(pattern_of(options), options, given, made(given))


def test_both_of_a_token_together_draw_the_reverse_of_a_pair_near() -> None:
    made, given = maps(shared="concat"), batch()
    weights = made.weights(given)
    gold, seen = made.gold(weights, given.seen), given.seen.expand_as(weights)
    expected = ((weights > 0) | (weights > 0).mT) & seen
    assert torch.equal(gold, expected)
    assert gold.sum() > (weights > 0).sum()
    assert torch.equal(maps().gold(weights, given.seen), weights > 0)
    with pytest.raises(ValueError, match=r"network\.0: shared=concat projects .* are not the same tokens"):
        made(batch(cross=True))


def test_clusters_of_blocks_are_those_of_whole_blocks() -> None:
    """Hidden tokens are zeros of a block, and a block without tokens is no point."""
    given = batch()
    options = ClusterOptions(clusters=3, block=2)
    made = maps(clusters=options, shared=False)
    found = made.clusters(given, options)
    assert found.shape == made.centroids.shape == (2, 1, 3, 6)
    points = []
    for x, there in zip(made(given), (given.queries, given.keys), strict=True):
        for tokens, count in zip(x[:, 0], there.sum(-1).tolist(), strict=True):
            rows = [*tokens[:count], *([torch.zeros(3)] * (count % 2))]
            points += [torch.cat((one, other)) for one, other in zip(rows[::2], rows[1::2], strict=True)]
    order = [torch.stack(points).detach().numpy()]
    inside = np.linalg.norm(cluster(order[0], options)[0][:, None] - order[0], axis=-1).min(0).sum()
    own = np.linalg.norm(found[0, 0].numpy()[:, None] - order[0], axis=-1).min(0).sum()
    assert own == pytest.approx(inside, rel=0.05)
    with pytest.raises(
        ValueError, match=r"clusters must be at most \d+, the blocks of 2 queries or keys of network\.0"
    ):
        made.clusters(given, ClusterOptions(clusters=99, block=2))


def test_both_of_a_token_together_are_one_point_of_a_cluster() -> None:
    made, given = maps(shared="concat"), batch(count=1)
    with pytest.raises(ValueError, match="clusters must be at most 5, the queries and keys"):
        made.clusters(given, ClusterOptions(clusters=6))
