"""Metrics of predicted attention graphs: worked out by hand, beside Sparsefinder's own, and over ranks."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_sum

from tabattn.attention import Entmax
from tabattn.sparsity.metrics import NAMES, GraphScores
from tests.sparsity import peer

FIGURES = {
    "fixed": (lambda: peer.fixed(5), (0.8764, 0.8121), (0.2840, 0.2694), (0.7765, 0.6602)),
    "dynamic": (lambda: peer.dynamic(5), (0.8588, 0.8875), (0.2731, 0.2378), (0.7400, 0.8219)),
    "fixed, window": (lambda: peer.fixed(5) | peer.window(3), (0.8935, 0.8343), (0.2374, 0.2253), None),
    "fixed, window, first": (
        lambda: peer.fixed(5) | peer.window(3) | peer.first(),
        (0.9030, 0.8431),
        (0.2083, 0.1996),
        None,
    ),
    "centroids": (lambda: peer.clusters(1), (0.3828, 0.3950), (0.7165, 0.7326), (0.2024, 0.2737)),
    "centroids, two": (lambda: peer.clusters(2), (0.5194, 0.5226), (0.5695, 0.5820), None),
    "cosine": (lambda: peer.cosine() < 0.7, (0.5749, 0.5079), (0.6423, 0.7193), None),
    "euclidean": (lambda: peer.squares().sum(-1).sqrt() < 2.5, (0.1163, 0.1290), (0.9238, 0.9141), None),
    "l2": (lambda: peer.squares().sum(-1) < 6, (0.1163, 0.1179), (0.9254, 0.9201), None),
    "min": (lambda: peer.squares().amin(-1) < 0.02, (0.1897, 0.1929), (0.8667, 0.8272), None),
}
"""Recall, sparsity and share of exact queries of each head, by Sparsefinder's functions."""


def scores(*items: tuple[Tensor, ...], heads: int = 2) -> dict[str, list[float]]:
    """Scores of updates, as numbers."""
    metric = GraphScores(heads)
    for item in items:
        metric.update(*item)
    return {name: values.tolist() for name, values in metric.compute().items()}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_those_of_sparsefinder(name: str) -> None:
    graph, recall, sparsity, exact = FIGURES[name]
    found = scores((graph(), peer.P, peer.SEEN))
    assert found["gold_sparsity"] == pytest.approx([0.8756, 0.8712], abs=1e-4)
    assert found["recall"] == pytest.approx(recall, abs=1e-4)
    assert found["sparsity"] == pytest.approx(sparsity, abs=1e-4)
    if exact is not None:
        assert found["exact"] == pytest.approx(exact, abs=1e-4)


def test_a_small_graph_by_hand() -> None:
    """Cross-attention of three queries, of which the last is padding, to four keys, of which the last is hidden."""
    p = torch.tensor([[[[0.75, 0.25, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0], [0.25, 0.25, 0.25, 0.25]]]])
    predicted = torch.tensor([[1, 0, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1]], dtype=torch.bool)
    seen = torch.tensor([1, 1, 0]).bool()[:, None] & torch.tensor([1, 1, 1, 0]).bool()
    found = scores((predicted, p, seen[None, None]), heads=1)
    assert found == {
        "sparsity": [0.5],  # 3 of 6 pairs
        "gold_sparsity": [pytest.approx(2 / 6)],  # 4 of 6
        "recall": [0.75],  # 3 of 4
        "precision": [1.0],
        "f1": [pytest.approx(6 / 7)],
        "exact": [0.5],  # the second query
        "dropped_mass": [0.125],  # 0.25 of the first query
    }


def test_the_output_error_by_hand() -> None:
    p = torch.tensor([[[[0.5, 0.5], [1.0, 0.0]]]])
    sparse = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    predicted = sparse > 0
    v = torch.tensor([[3.0], [1.0]])
    seen = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    # Outputs 2 and 3 became 3 and 3.
    assert scores((predicted, p, seen, v, sparse), heads=1)["output_error"] == pytest.approx([1 / 13**0.5])
    # Weights of norms sqrt(0.5) and 1 became (1, 0) and (1, 0).
    identity = scores((predicted, p, seen, torch.eye(2), sparse), heads=1)["output_error"]
    assert identity == pytest.approx([(0.5 / 1.5) ** 0.5])
    hidden = seen & torch.tensor([True, False])[:, None]
    assert scores((predicted, p, hidden, v, sparse), heads=1)["output_error"] == pytest.approx([0.5])


def test_all_gold_pairs_leave_the_outputs_as_they_are() -> None:
    mechanism, v = Entmax(2, 16), torch.randn(3, 2, peer.LENGTH, 5)
    for predicted, exact in (((peer.P > 0) | peer.fixed(5), True), (peer.fixed(5), False)):
        sparse = mechanism.weights(peer.Q, peer.K, predicted & peer.SEEN)
        found = scores((predicted, peer.P, peer.SEEN, v, sparse))
        assert (max(found["output_error"]) < 1e-6) == exact
        assert (found["exact"] == found["recall"] == [1.0, 1.0]) == exact
        assert (found["dropped_mass"] == [0.0, 0.0]) == exact


@pytest.mark.parametrize("causal", [False, True])
def test_padding_changes_nothing_and_items_count_alike(causal: bool) -> None:
    visible = torch.ones(peer.LENGTH, peer.LENGTH, dtype=torch.bool).tril() if causal else peer.REAL[0, 0]
    seen = peer.SEEN & visible
    p, predicted = Entmax(2, 16).weights(peer.Q, peer.K, seen), peer.fixed(5)
    together = scores((predicted, p, seen))
    lengths = peer.REAL.sum(1).tolist()
    alone = [tuple(x[i : i + 1, :, :n, :n] for x in (predicted, p, seen)) for i, n in enumerate(lengths)]
    apart, each = scores(*alone), [scores(item) for item in alone]
    for name, values in together.items():
        assert apart[name] == pytest.approx(values)
        assert torch.tensor([item[name] for item in each]).mean(0).tolist() == pytest.approx(values)
    if causal:
        pairs = sum(n * (n + 1) / 2 for n in lengths)
        assert int(seen.sum()) == pairs


def test_what_is_not_there_is_not_scored() -> None:
    none = torch.zeros(1, 2, 3, 4)
    everything = torch.ones(1, 1, 3, 4, dtype=torch.bool)
    for items in ((none[:0] > 0, none[:0], everything[:0]), (none > 0, none + 0.25, ~everything)):
        found = scores(items)
        assert found.keys() == {*NAMES} - {"output_error"}
        assert all(value != value for values in found.values() for value in values)
    # A predicted graph without pairs has no precision, and finds nothing.
    empty, full = ((graph, none + 0.25, everything) for graph in (none > 0, everything))
    found = scores(empty)
    assert {name: values[0] for name, values in found.items() if name != "precision"} == {
        "sparsity": 1.0,
        "gold_sparsity": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "exact": 0.0,
        "dropped_mass": 1.0,
    }
    assert found["precision"][0] != found["precision"][0]
    assert scores(empty, full)["precision"] == [1.0, 1.0]
    assert scores(empty, full)["f1"] == [0.5, 0.5]


def test_arguments() -> None:
    p = torch.ones(1, 3, 1, 1)
    with pytest.raises(ValueError, match="p must have 2 heads, got 3"):
        GraphScores(2).update(p > 0, p, p > 0)
    with pytest.raises(ValueError, match="needs sparse"):
        GraphScores(3).update(p > 0, p, p > 0, v=p)


def test_copies_go_on() -> None:
    """A head alone keeps its axis."""
    p = torch.eye(2)[None, None]
    metric = GraphScores(1)
    for copied in (metric, copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        batch = copied(p > 0, p, p >= 0)
        copied.update(p < 1, p, p >= 0)
        assert batch["recall"].tolist() == [1.0]
        assert copied.compute()["recall"].tolist() == [0.5]
        copied.reset()
        copied.update(p < 1, p, p >= 0)
        assert copied.compute()["recall"].tolist() == [0.0]


def of_rank(rank: int, ranks: int) -> GraphScores:
    """Scores of every ``ranks``-th item; the last of the three is without values."""
    metric = GraphScores(2)
    for item in range(rank, 3, ranks):
        one = slice(item, item + 1)
        predicted = peer.fixed(3 + item)[one]
        sparse = Entmax(2, 16).weights(peer.Q[one], peer.K[one], predicted & peer.SEEN[one])
        values = (peer.Q[one], sparse) if item < 2 else ()
        metric.update(predicted, peer.P[one], peer.SEEN[one], *values)
    return metric


def compare(rank: int, ranks: int, address: str) -> None:
    """Compare the scores of all ranks with those of one process."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=ranks)
    torch.testing.assert_close(of_rank(rank, ranks).compute(), of_rank(0, 1).compute(), rtol=1e-12, atol=0)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_score_as_one_process_does(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(compare, (2, f"file://{tmp_path}/store"), nprocs=2)


@pytest.mark.parametrize("ranks", [2, 4])
def test_states_of_ranks_add_up(ranks: int) -> None:
    """One of four ranks has no item."""
    parts, one = [of_rank(rank, ranks) for rank in range(ranks)], of_rank(0, 1)
    for name in ("sums", "counts"):
        assert one._reductions[name] is dim_zero_sum
        torch.testing.assert_close(sum(getattr(part, name) for part in parts), getattr(one, name))
