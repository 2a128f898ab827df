"""Distances of projected queries and keys: their formulas, thresholds and what they do not depend on."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tabattn.attention import Entmax
from tabattn.attention.graphs import PATTERNS


def unit(x: Tensor, p: float) -> Tensor:
    return x / x.abs().pow(p).sum(dim=-1, keepdim=True).pow(1 / p)


def norm(x: Tensor, p: float = 2.0) -> Tensor:
    return x.abs().pow(p).sum(dim=-1).pow(1 / p)


FORMULAS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "cos": lambda q, k, p: 1 - (unit(q, 2) * unit(k, 2)).sum(dim=-1),
    "euclidean": lambda q, k, p: norm(q - k),
    "l2": lambda q, k, p: norm(q - k) ** 2,
    "direction": lambda q, k, p: norm(unit(q, p) - unit(k, p), p),
    "minkowski": lambda q, k, p: norm(q - k, p),
    "min": lambda q, k, p: ((q - k) ** 2).amin(dim=-1),
    "min_norm": lambda q, k, p: ((unit(q, p) - unit(k, p)) ** 2).amin(dim=-1),
}

NORMS = ("direction", "minkowski", "min_norm")


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name: str, p: float) -> None:
    q, k = (torch.randn(2, 3, count, 4, dtype=torch.float64) for count in (9, 30))
    expected = FORMULAS[name](q[..., :, None, :], k[..., None, :, :], p)
    own = {"p": p} if name in NORMS else {}
    torch.testing.assert_close(PATTERNS[name](**own).distance(q, k), expected)
    threshold = expected.median().item()
    found = PATTERNS[name](threshold, **own).edges(q, k)
    sure = (expected - threshold).abs() > 1e-9
    assert torch.equal(found & sure, (expected < threshold) & sure)


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0])
def test_entmax_of_projected_tokens(alpha: float) -> None:
    q, k = torch.randn(2, 3, 9, 4), torch.randn(2, 3, 12, 4)
    keys = torch.rand(2, 1, 1, 12) < 0.7
    keys[0] = False
    expected = Entmax(3, 4, alpha=alpha).weights(q, k, keys) > 0
    assert torch.equal(PATTERNS["entmax"](alpha).edges(q, k, keys), expected)
    assert torch.equal(PATTERNS["entmax"](alpha).edges(q, k), Entmax(3, 4, alpha=alpha).weights(q, k) > 0)


@pytest.mark.parametrize("name", [*FORMULAS, "entmax"])
def test_permuted_tokens_padding_and_lengths(name: str) -> None:
    pattern = PATTERNS[name]()
    assert pattern.equivariant
    assert pattern.projected
    q, k = torch.randn(2, 2, 13, 4), torch.randn(2, 2, 40, 4)
    found = pattern.edges(q, k)
    some, other = torch.randperm(13), torch.randperm(40)
    assert torch.equal(pattern.edges(q[:, :, some], k[:, :, other]), found[:, :, some][..., other])
    keys = torch.arange(47).view(1, 1, 1, 47) < 40
    longer = pattern.edges(q, torch.cat((k, 9 * torch.randn(2, 2, 7, 4)), dim=2), keys)
    assert torch.equal(longer[..., :40], found)
    assert pattern.codes(q, k) is None
    for batch, queries, count in ((0, 3, 4), (2, 0, 4), (2, 3, 0)):
        sizes = torch.randn(batch, 2, queries, 4), torch.randn(batch, 2, count, 4)
        assert pattern.edges(*sizes).shape == (batch, 2, queries, count)


@pytest.mark.parametrize("name", [*FORMULAS, "entmax"])
def test_blocks_of_queries_do_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, keys = torch.randn(2, 2, 13, 4), torch.randn(2, 2, 20, 4), torch.rand(2, 1, 1, 20) < 0.7
    whole = PATTERNS[name]().edges(q, k, keys)
    for pairs in (1, 300):
        monkeypatch.setattr("tabattn.attention.graphs.pattern.PAIRS", pairs)
        assert torch.equal(PATTERNS[name]().edges(q, k, keys), whole)


@pytest.mark.parametrize("name", ["cos", "direction", "min_norm"])
def test_vectors_of_norm_zero(name: str) -> None:
    q, k = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    found = PATTERNS[name]().distance(q, k)[0, 0, 0].tolist()
    assert found == {"cos": [1.0, 1.0], "direction": [1.0, 0.0], "min_norm": [0.0, 0.0]}[name]


@pytest.mark.parametrize("name", FORMULAS)
def test_half_precision_is_that_of_the_same_numbers(name: str) -> None:
    q, k = torch.randn(1, 2, 9, 4).half(), torch.randn(1, 2, 9, 4).half()
    assert torch.equal(PATTERNS[name]().edges(q, k), PATTERNS[name]().edges(q.float(), k.float()))


@pytest.mark.parametrize("name", FORMULAS)
def test_thresholds_are_at_least_zero(name: str) -> None:
    x = torch.randn(1, 1, 5, 4)
    assert not PATTERNS[name](0).edges(x, x + 1).any()
    assert PATTERNS[name](math.inf).edges(x, x).all()
    for knob in (-0.1, math.nan):
        with pytest.raises(ValueError, match=f"knob must be at least 0, got {knob}"):
            PATTERNS[name](knob)


def test_other_arguments_are_checked() -> None:
    for knob in (1.0, 2.1, math.nan):
        with pytest.raises(ValueError, match=rf"knob must be in \(1, 2\], got {knob}"):
            PATTERNS["entmax"](knob)
    for name in NORMS:
        for p in (0.0, -1.0, math.nan):
            with pytest.raises(ValueError, match=f"p must be above 0, got {p}"):
                PATTERNS[name](p=p)
