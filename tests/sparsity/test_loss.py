"""Hinge loss of projected queries and keys: by hand, beside Sparsefinder's own, its negatives, gradients and memory."""

from collections import Counter
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from tabattn.compare.clocks import peak_bytes
from tabattn.sparsity import loss
from tabattn.sparsity.loss import graph_loss
from tests.sparsity import peer

KINDS = list(product(("l2", "min"), ("query", "pair")))


def graph(*rows: list[int]) -> Tensor:
    """Graph of one item and one head."""
    return torch.tensor(rows, dtype=torch.bool)[None, None]


def drawn(
    items: int = 2,
    heads: int = 2,
    queries: int = 5,
    keys: int = 6,
    share: float = 0.4,
    dtype: torch.dtype = torch.double,
) -> dict[str, Any]:
    """Arguments of a random graph, of which some keys are hidden."""
    source = torch.Generator().manual_seed(0)
    q, k = (torch.randn(items, heads, length, 3, generator=source, dtype=dtype) for length in (queries, keys))
    gold, seen = (
        torch.rand(items, count, queries, keys, generator=source) < bound for count, bound in ((heads, share), (1, 0.8))
    )
    return {"q": q.requires_grad_(), "k": k.requires_grad_(), "gold": gold, "seen": seen}


@pytest.mark.parametrize(("kind", "expected"), list(zip(KINDS, (3.0, 2.25, 1.0, 0.75), strict=True)))
def test_by_hand(kind: tuple[Any, Any], expected: float) -> None:
    """Each query has no choice of negatives; the third sees nothing."""
    q = torch.tensor([[[[0.0, 0.0], [1.0, 1.0], [9.0, 9.0]]]])
    k = torch.tensor([[[[1.0, 0.0], [0.0, 2.0], [2.0, 0.0]]]])
    # l2: (1 + 4 - 1) and (1 + 1 + 2 - 2), or in pairs (1 + 1 - 2) and (1 + 2 - 2), as the one negative serves twice;
    # min: (1 + 0 - 0) and (1 + 0 + 1 - 1), or in pairs (1 + 0 - 1) and (1 + 1 - 1).
    gold, seen = graph([0, 1, 1], [1, 1, 0], [1, 1, 1]), graph([1, 1, 0], [1, 1, 1], [0, 0, 0])
    distance, hinge = kind
    assert graph_loss(q, k, gold, seen, distance=distance, hinge=hinge).tolist() == [expected]
    # Another item that has no query does not count.
    q, k, gold, seen = (torch.cat([x, y]) for x, y in ((q, q), (k, k), (gold, gold), (seen, seen & False)))
    assert graph_loss(q, k, gold, seen, distance=distance, hinge=hinge).tolist() == [expected]


def test_a_query_without_negatives() -> None:
    q, k, everything = torch.zeros(1, 1, 1, 1), torch.tensor([[[[1.0], [2.0]]]]), graph([1, 1])
    assert graph_loss(q, k, everything, everything, margin=0.5).tolist() == [5.5]
    assert graph_loss(q, k, everything, everything, hinge="pair").tolist() == [0.0]


def test_heads_are_apart_and_items_count_alike() -> None:
    given = drawn(share=0.9)  # no choice of negatives
    both = graph_loss(**given)
    for head in range(2):
        own = {name: x if x.shape[1] == 1 else x[:, head : head + 1] for name, x in given.items()}
        torch.testing.assert_close(graph_loss(**own), both[head : head + 1])
    each = [graph_loss(**{name: x[i : i + 1] for name, x in given.items()}) for i in range(2)]
    torch.testing.assert_close(torch.stack(each).mean(0), both)
    shared = given | {"gold": given["gold"][:, :1]}
    expanded = given | {"gold": given["gold"][:, :1].expand(-1, 2, -1, -1), "seen": given["seen"].expand(-1, 2, -1, -1)}
    torch.testing.assert_close(graph_loss(**shared), graph_loss(**expanded))


@pytest.fixture
def negatives_of_sparsefinder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random numbers that the original gives to keys in the order of their scores."""
    scores = (peer.Q @ peer.K.mT / 4).masked_fill(~peer.REAL[:, None, None], -torch.inf)
    random = torch.rand(scores.shape, generator=torch.Generator().manual_seed(3))
    ordered = torch.empty_like(random).scatter(3, scores.argsort(-1, descending=True), random)
    monkeypatch.setattr(loss, "random_scores", lambda *_: ordered)


@pytest.mark.usefixtures("negatives_of_sparsefinder")
@pytest.mark.parametrize(("distance", "expected"), [("l2", 5.3366), ("min", 1.0137)])
def test_value_is_that_of_sparsefinder(distance: Any, expected: float) -> None:
    found = graph_loss(peer.QUERIES, peer.KEYS, peer.P > 0, peer.SEEN, distance=distance)
    assert float(found.mean()) == pytest.approx(expected, abs=1e-4)


def test_negatives_are_drawn_uniformly_of_the_visible_keys() -> None:
    """Distances are all 1, so the gradient of a key is 2 for a positive and -2 for a negative."""
    trials = 6000
    q, k = torch.zeros(trials, 1, 1, 1), torch.ones(trials, 1, 7, 1, requires_grad=True)
    gold, seen = (x.expand(trials, -1, -1, -1) for x in (graph([0, 1, 0, 0, 0, 1, 1]), graph([1, 1, 1, 0, 1, 1, 0])))
    graph_loss(q, k, gold, seen, margin=9.0).backward()
    assert k.grad is not None
    signs = [tuple(row) for row in (k.grad[:, 0, :, 0] * trials / 2).round().int().tolist()]
    found = Counter(signs)
    # Two positives, and two of the keys 0, 2 and 4; key 3 is hidden, and so is key 6, gold or not.
    assert set(found) == {(0, 1, -1, 0, -1, 1, 0), (-1, 1, 0, 0, -1, 1, 0), (-1, 1, -1, 0, 0, 1, 0)}
    assert all(abs(count / trials - 1 / 3) < 0.03 for count in found.values())


@pytest.mark.parametrize(("distance", "hinge"), KINDS)
@pytest.mark.parametrize("pairs", [48, 2**20])
def test_gradients(distance: Any, hinge: Any, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "PAIRS", pairs)
    given = drawn()

    def function(q: Tensor, k: Tensor) -> Tensor:
        source = torch.Generator().manual_seed(1)
        return graph_loss(q, k, given["gold"], given["seen"], 2.0, distance, hinge, source)

    assert torch.autograd.gradcheck(function, (given["q"], given["k"]))
    assert bool((function(given["q"], given["k"]) > 0).all())


@pytest.mark.parametrize(("distance", "hinge"), KINDS)
def test_a_part_at_a_time_is_the_whole(distance: Any, hinge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for pairs in (2**20, 50, 1):
        monkeypatch.setattr(loss, "PAIRS", pairs)
        given = drawn(share=0.9)  # a query has at most one negative, mostly
        given["gold"][..., 1:] = True
        value = graph_loss(**given, distance=distance, hinge=hinge)
        found.append((value, *torch.autograd.grad(value.sum(), (given["q"], given["k"]))))
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


@pytest.mark.parametrize(("distance", "hinge"), KINDS)
def test_what_is_hidden_changes_nothing(distance: Any, hinge: Any) -> None:
    given = drawn()
    given["seen"] &= torch.tensor([True] * 4 + [False] * 2) & torch.tensor([True] * 3 + [False] * 2)[:, None]

    def value() -> Tensor:
        return graph_loss(**given, distance=distance, hinge=hinge, generator=torch.Generator().manual_seed(1))

    before = value()
    dq, dk = torch.autograd.grad(before.sum(), (given["q"], given["k"]))
    assert not dq[:, :, 3:].any()
    assert not dk[:, :, 4:].any()
    assert dq[:, :, :3].any()
    with torch.no_grad():
        given["q"][:, :, 3:], given["k"][:, :, 4:] = 1e3, -1e3
    torch.testing.assert_close(value(), before, rtol=0, atol=0)
    with torch.no_grad():
        given["q"][:, :, 3:], given["k"][:, :, 4:] = float("nan"), float("inf")
    after = value()
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert torch.equal(torch.autograd.grad(after.sum(), given["q"])[0][:, :, :3], dq[:, :, :3])


def test_the_generator_draws_the_negatives() -> None:
    given = drawn(queries=30, keys=30)

    def values(*seeds: int) -> list[Tensor]:
        return [graph_loss(**given, generator=torch.Generator().manual_seed(seed)).detach() for seed in seeds]

    once, again, other = values(0, 0, 1)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    torch.manual_seed(0)
    assert torch.equal(graph_loss(**given).detach(), once)
    assert graph_loss(**given | {"q": given["q"].detach(), "k": given["k"].detach()}).grad_fn is None


def test_nothing_to_score_is_zero() -> None:
    for sizes in ({"items": 0}, {"queries": 0}, {"keys": 0}):
        given = drawn(**sizes)
        value = graph_loss(**given)
        value.sum().backward()
        assert value.tolist() == [0.0, 0.0]
        assert given["q"].grad.shape == given["q"].shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    given = drawn(share=0.9)
    for name in ("q", "k"):
        given[name] = given[name].detach().to(dtype).requires_grad_()
    value = graph_loss(**given)
    single = graph_loss(**given | {name: given[name].float() for name in ("q", "k")})
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, single)
    value.sum().backward()
    assert given["q"].grad.dtype == dtype


def test_memory_is_linear_beyond_the_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(length: int) -> int:
        given = drawn(items=1, queries=length, keys=length, dtype=torch.float)
        return peak_bytes(lambda: graph_loss(**given).sum().backward(), torch.device("cpu"))

    assert peak(256) / peak(128) > 3.5
    monkeypatch.setattr(loss, "PAIRS", 2**12)
    assert peak(256) / peak(128) < 2.1


def test_arguments() -> None:
    with pytest.raises(ValueError, match="distance must be one of l2, min, got 'cosine'"):
        graph_loss(**drawn(), distance="cosine")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hinge must be one of query, pair, got 'sum'"):
        graph_loss(**drawn(), hinge="sum")  # type: ignore[arg-type]
