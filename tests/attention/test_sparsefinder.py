"""Modes of Sparsefinder on a predicted graph: gather equals mask, and a full graph equals Entmax."""

import pytest
import torch
from torch import Tensor

from tabattn.attention import Entmax, Sparsefinder, sparsefinder
from tabattn.attention.graphs import PATTERNS

HEADS, HEAD_DIM = 2, 4
PROJECTED = [name for name, pattern in PATTERNS.items() if pattern.projected and name != "kmeans"]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mode gather scores predicted keys alone of short sequences, too."""
    monkeypatch.setattr(sparsefinder, "LEAST", 1)


def inputs(queries: int = 30, keys: int = 40) -> list[Tensor]:
    torch.manual_seed(0)
    sizes = ((2, HEADS, length, HEAD_DIM) for length in (queries, keys, keys))
    return [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes]


def both(grouping: str, **own: object) -> tuple[Sparsefinder, Sparsefinder]:
    """Modes gather and mask of one prediction."""
    torch.manual_seed(1)
    gather, mask = (Sparsefinder(HEADS, HEAD_DIM, mode=mode, grouping=grouping, **own) for mode in ("gather", "mask"))
    if grouping == "kmeans":
        gather.pattern.load_state_dict({"centroids": torch.randn(HEADS, 2, 5, 4)})
    mask.load_state_dict(gather.state_dict())
    return gather.double(), mask.double()


def check_equal(ours: Sparsefinder, other: torch.nn.Module, x: list[Tensor], mask: Tensor | None) -> None:
    outs = [each(*x, mask) for each in (ours, other)]
    torch.testing.assert_close(*outs, atol=1e-9, rtol=1e-9)
    weight = torch.randn(outs[0].shape, dtype=torch.float64)
    grads = [torch.autograd.grad((out * weight).sum(), x) for out in outs]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("masked", [None, (2, 1, 1, 40), (1, HEADS, 30, 40)], ids=["all", "keys", "pairs"])
@pytest.mark.parametrize("grouping", [*PROJECTED, "kmeans"])
def test_gather_equals_mask(grouping, masked):
    mask = None if masked is None else torch.rand(masked, generator=torch.Generator().manual_seed(3)) > 0.3
    check_equal(*both(grouping), inputs(), mask)


@pytest.mark.parametrize("own", [{"window": 3}, {"ends": 2}, {"window": 4, "ends": 1, "top": 2}])
def test_gather_equals_mask_with_neighbours_and_ends(own):
    x = inputs(40)
    mask = (torch.arange(40) < 33)[None, None, None]
    check_equal(*both("kmeans", **own), x, mask)


def test_a_full_graph_is_entmax():
    gather, _ = both("l2", knob=1e9)
    check_equal(gather, Entmax(HEADS, HEAD_DIM), inputs(), None)


def test_graph_holds_neighbours_and_ends_that_may_be_seen():
    q, k, _ = inputs(40)
    made = Sparsefinder(HEADS, HEAD_DIM, mode="mask", grouping="l2", knob=1e-9, window=3, ends=2)
    mask = (torch.arange(40) < 33)[None, None, None]
    place = torch.arange(40)
    want = ((place - place[:, None]).abs() <= 1) | (place == 0) | (place == 32)
    want = want | want.mT
    assert (made.double().graph(q, k, mask)[0, 0] == (want & mask[0, 0])).all()


def test_only_predicted_keys_are_scored():
    gather, _ = both("kmeans")
    q, k, _ = (part.detach() for part in inputs())
    graph = gather.graph(q, k).flatten(0, 1)
    for own, tiles in zip(graph, gather.tiles(q, k), strict=True):
        found = torch.zeros_like(own)
        for tile in tiles:
            found[tile.rows[:, None], tile.keys] = tile.seen
            assert own[tile.rows][:, tile.keys].any(dim=0).all()
        assert (found == own).all()


def test_few_keys_are_all_scored_with_the_same_result(monkeypatch):
    gather, mask = both("kmeans")
    monkeypatch.setattr(sparsefinder, "LEAST", 41)
    monkeypatch.setattr(sparsefinder.SparseRows, "apply", None)
    check_equal(gather, mask, inputs(), None)


def test_a_query_without_predicted_keys_is_zero():
    gather, mask = both("l2", knob=1e-9)
    x = inputs()
    assert (gather(*x) == 0).all()
    check_equal(gather, mask, x, None)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"alpha": 1.0}, r"alpha must be in \(1, 2\], got 1.0"),
        ({"alpha": [1.5, 2.1]}, r"alpha must be in \(1, 2\], got 2.1"),
        ({"alpha": [1.5]}, "alpha must be one number or one for each of 2 heads, got 1"),
        ({"mode": "sparse"}, "mode must be exact, gather, flex or mask, got 'sparse'"),
        ({"mode": "gather"}, "grouping must be one of fixed, .* for mode gather, got None"),
        ({"grouping": "knn"}, "grouping must be one of fixed, .*, got 'knn'"),
        ({"grouping": "l2", "top": 2}, "top must be 1 for grouping l2, got 2"),
        ({"grouping": "l2", "ends": 3}, "ends must be at most 2, got 3"),
        ({"window": 3}, "window needs a grouping, one of fixed, .* got window 3"),
        ({"top": 2}, "top needs a grouping, one of fixed, .* got top 2"),
        ({"window": -1}, "window must be at least 0, got -1"),
    ],
)
def test_wrong_arguments_are_named(own, message):
    with pytest.raises(ValueError, match=message):
        Sparsefinder(HEADS, HEAD_DIM, **own)


def test_a_graph_needs_a_predictor_and_neighbours_one_length():
    q, k, v = inputs()
    with pytest.raises(ValueError, match="to predict a graph, got None"):
        Sparsefinder(HEADS, HEAD_DIM).graph(q, k)
    with pytest.raises(ValueError, match="must have one length, got 30 and 40"):
        Sparsefinder(HEADS, HEAD_DIM, mode="mask", grouping="l2", window=3).double()(q, k, v)


@pytest.mark.parametrize("mode", ["exact", "gather", "mask"])
def test_in_place_of_trained_entmax_each_head_has_its_alpha(mode, monkeypatch):
    monkeypatch.setattr(sparsefinder, "LEAST", 1)
    trained = Entmax(HEADS, HEAD_DIM, learn_alpha=True)
    with torch.no_grad():
        trained.alpha_logit.copy_(torch.tensor([-2.0, 1.0]))
    ours = Sparsefinder.like(trained, mode=mode, **({} if mode == "exact" else {"grouping": "l2", "knob": 1e9}))
    assert ours.alphas == pytest.approx([1.119203, 1.731059])
    x = inputs()
    torch.testing.assert_close(ours.double()(*x), trained.double()(*x), atol=1e-5, rtol=0)
    again = Sparsefinder(HEADS, HEAD_DIM, **ours.arguments()).double()
    assert again.arguments() == ours.arguments()
    again.load_state_dict(ours.state_dict())
    torch.testing.assert_close(again(*x), ours(*x), atol=0, rtol=0)
    one = Sparsefinder.like(Entmax(HEADS, HEAD_DIM, alpha=1.3))
    assert (one.alphas, one.arguments()["alpha"]) == ((1.3, 1.3), 1.3)
    with pytest.raises(ValueError, match=r"alpha must be in \(1, 2\], got 1.0"):
        Sparsefinder.like(Entmax(HEADS, HEAD_DIM, alpha=1.0))
