"""Mode exact of Sparsefinder: equal to dense entmax for every row, by the certificate."""

import pytest
import torch
from entmax import entmax_bisect
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tabattn.attention import Entmax, Sparsefinder, certificate, sparsefinder
from tabattn.attention.certificate import Bounds, certified_tiles
from tabattn.attention.point_tree import principal_directions, tree_order

WIDTH = 8


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The certificate on short sequences, several tiles of several blocks."""
    monkeypatch.setattr(sparsefinder, "LEAST", 1)
    monkeypatch.setattr(certificate, "LEAF", 4)
    monkeypatch.setattr(certificate, "ROWS", 8)
    monkeypatch.setattr(certificate, "BEST", 2)


def clusters(
    rows: int, keys: int, spread: float = 0.05, heads: int = 2, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys of eight tight clusters, of which a query needs one or two; and values."""
    generator = torch.Generator().manual_seed(seed)
    centres = 4 * torch.randn(heads, 8, WIDTH, generator=generator, dtype=torch.float64)

    def points(count: int) -> Tensor:
        near = torch.randint(8, (count,), generator=generator)
        return centres[:, near] + spread * torch.randn(heads, count, WIDTH, generator=generator, dtype=torch.float64)

    return (
        points(rows)[None],
        points(keys)[None],
        torch.randn(1, heads, keys, 3, generator=generator, dtype=torch.float64),
    )


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [each.clone().requires_grad_() for each in tensors]


def check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, alpha: float = 1.5) -> float:
    """Compare outputs and gradients with dense entmax, in float64 and float32; return the share of keys scored."""
    compare(q, k, v, mask, alpha, 1e-9)
    q, k, v = q.float(), k.float(), v.float()
    # Scores of either computation are rounded, the more so the larger they are.
    largest = max(1.0, float((q.norm(dim=-1).amax() * k.norm(dim=-1).amax()) * q.shape[-1] ** -0.5))
    return compare(q, k, v, mask, alpha, 1e-6 * largest)


def compare(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, alpha: float, near: float) -> float:
    """Compare outputs and gradients with dense entmax; return the share of keys scored."""
    heads = q.shape[1]
    ours = Sparsefinder(heads, q.shape[-1], alpha=alpha)
    got, want = leaves(q, k, v), leaves(q, k, v)
    out, dense = ours(*got, mask), Entmax(heads, q.shape[-1], alpha=alpha)(*want, mask)
    torch.testing.assert_close(out, dense, atol=near, rtol=near)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    grads = torch.autograd.grad((out * weight).sum(), got), torch.autograd.grad((dense * weight).sum(), want)
    # The gradient of sparsemax jumps where a weight becomes zero, which rounding decides.
    for mine, theirs in zip(*grads, strict=True) if alpha < 2 or q.dtype == torch.float64 else ():
        torch.testing.assert_close(
            mine, theirs, atol=50 * near * max(1.0, float(theirs.abs().max()), float(k.abs().max())), rtol=0
        )
    tiles = [tile for head in ours.tiles(q, k, mask) for tile in head]
    scored = sum(len(tile.rows) * (k.shape[2] if tile.keys is None else len(tile.keys)) for tile in tiles)
    return scored / (q.shape[0] * heads * q.shape[2] * k.shape[2])


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0])
@pytest.mark.parametrize("masked", [None, "keys", "pairs"])
def test_clusters_are_exact_and_sparse(alpha, masked):
    q, k, v = clusters(60, 100)
    generator = torch.Generator().manual_seed(2)
    size = {None: None, "keys": (1, 1, 1, 100), "pairs": (1, 2, 60, 100)}[masked]
    mask = None if size is None else torch.rand(size, generator=generator) > 0.3
    share = check(q, k, v, mask, alpha)
    assert share < (0.45 if masked is None else 0.6)


def test_ten_thousand_random_rows_are_exact():
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        q, k, v = (torch.randn(5, 2, size, WIDTH, generator=generator) for size in (100, 150, 150))
        compare(q, k, v, None, 1.5, 1e-6)
        check((10.0 * seed * q).double(), k.double(), v.double())


@pytest.mark.parametrize(
    "k",
    [
        torch.zeros(1, 1, 40, WIDTH),
        torch.ones(1, 1, 40, WIDTH).mul(100.0),
        torch.randn(1, 1, 2, WIDTH, generator=torch.Generator().manual_seed(0)).repeat(1, 1, 20, 1),
        torch.randn(1, 1, 1, WIDTH, generator=torch.Generator().manual_seed(0)),
        torch.linspace(-1, 1, 40)[None, None, :, None].expand(1, 1, 40, WIDTH),
        torch.eye(WIDTH).mul(50).repeat(5, 1)[None, None],
    ],
    ids=["zeros", "equal", "ties", "one", "line", "axes"],
)
def test_adversarial_keys_are_exact(k):
    q = torch.randn(1, 1, 20, WIDTH, generator=torch.Generator().manual_seed(1))
    v = torch.randn(1, 1, k.shape[2], 3, generator=torch.Generator().manual_seed(2))
    check(q.double(), k.double(), v.double())
    check(torch.zeros_like(q).double(), k.double(), v.double())


def test_hidden_rows_and_items_are_zero():
    q, k, v = clusters(20, 30)
    mask = torch.ones(1, 1, 20, 30, dtype=torch.bool)
    mask[:, :, 3] = False
    check(q, k, v, mask)
    assert (Sparsefinder(2, WIDTH)(q, k, v, mask)[:, :, 3] == 0).all()
    check(q, k, v, torch.zeros(1, 1, 1, 30, dtype=torch.bool))
    assert (Sparsefinder(2, WIDTH)(q, k, v, torch.zeros(1, dtype=torch.bool)) == 0).all()


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 30),
    keys=st.integers(1, 40),
    scale=st.sampled_from([0.0, 0.1, 1.0, 30.0]),
    seed=st.integers(0, 99),
)
def test_any_sizes_are_exact(rows, keys, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 1, size, 3, generator=generator, dtype=torch.float64) for size in (rows, keys, keys))
    mask = torch.rand(2, 1, rows, keys, generator=generator) > 0.3
    check(scale * q, k, v, mask)


def test_a_query_that_may_see_none_of_the_best_keys_gets_all_that_it_may_see():
    q, k, v = clusters(16, 64)
    best = (q @ k.mT).topk(40, dim=-1).indices
    mask = torch.ones(1, 2, 16, 64, dtype=torch.bool).scatter_(-1, best, value=False)
    check(q, k, v, mask)
    check(q - 100, k + 1, v, mask)


def test_what_is_not_a_number_reaches_the_output():
    q, k, v = clusters(16, 64)
    k[0, 0, 7, 0] = torch.nan
    q[0, 1, 3, 0] = torch.nan
    ours, dense = Sparsefinder(2, WIDTH)(q, k, v), Entmax(2, WIDTH)(q, k, v)
    assert ours[0, 0].isnan().all()
    assert (ours.isnan() == dense.isnan()).all()


@pytest.mark.parametrize("sizes", [(0, 9), (2, 0)], ids=["items", "queries"])
def test_nothing_gives_nothing(sizes):
    batch, rows = sizes
    q, k, v = (torch.randn(batch, 2, size, WIDTH) for size in (rows, 9, 9))
    for ours in (Sparsefinder(2, WIDTH), Sparsefinder(2, WIDTH, mode="gather", grouping="topk", knob=2)):
        assert ours(q, k, v).shape == q.shape


def test_bounds_are_above_every_score():
    generator = torch.Generator().manual_seed(0)
    for scale in (1e-3, 1.0, 1e3):
        q, k = (scale * torch.randn(50, WIDTH, generator=generator), torch.randn(48, WIDTH, generator=generator))
        bounds = Bounds.around(k.view(-1, 4, WIDTH)).above(q)
        assert (bounds[..., None] >= (q @ k.mT).view(50, -1, 4)).all()


def test_equal_keys_have_a_tight_bound():
    k = torch.randn(5, 1, WIDTH).expand(-1, 4, -1)
    q = torch.randn(7, WIDTH)
    torch.testing.assert_close(Bounds.around(k).above(q), q @ k[:, 0].mT, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 33, 64])
def test_a_tree_orders_every_point_once(count):
    points = torch.randn(3, count, 2, generator=torch.Generator().manual_seed(0))
    order = tree_order(points, 4)
    assert order.shape[1] % 4 == 0
    for own in order:
        assert sorted(own[own < count].tolist()) == list(range(count))


def test_leaves_of_a_tree_are_small():
    generator = torch.Generator().manual_seed(0)
    line = torch.randn(64, 1, generator=generator) @ torch.randn(1, 5, generator=generator)
    order = tree_order(line[None], 4)[0]
    along = line[order, 0].view(16, 4)
    high, low = along.amax(dim=1), along.amin(dim=1)
    # The leaves of points on a line are intervals that do not overlap.
    order = low.argsort()
    assert (high[order][:-1] <= low[order][1:]).all()


def test_each_head_has_the_certificate_of_its_alpha():
    q, k, v = clusters(40, 64)
    ours = Sparsefinder(2, WIDTH)
    for alphas in ((2.0, 1.1), (1.1, 2.0)):
        ours.alphas = alphas
        for head, alpha in enumerate(alphas):
            want = Entmax(2, WIDTH, alpha=alpha)(q, k, v)[:, head]
            torch.testing.assert_close(ours(q, k, v)[:, head], want, atol=1e-9, rtol=1e-9)


def test_a_prediction_of_any_keys_leaves_the_result_exact():
    q, k, _ = clusters(40, 64)
    scale, order = WIDTH**-0.5, 0.5
    for share in (0.0, 0.1, 1.0):
        probe = torch.rand(40, 64, generator=torch.Generator().manual_seed(0)) < share
        tiles = certified_tiles(q[0, 0] * scale, k[0, 0], order, None, probe)
        support = entmax_bisect(q[0, 0] @ k[0, 0].mT * scale, 1.5) > 1e-6
        for tile in tiles:
            if tile.keys is not None:
                outside = torch.ones(64, dtype=torch.bool)
                outside[tile.keys] = False
                assert not support[tile.rows][:, outside].any()


def test_principal_directions_are_near_those_of_the_covariance():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(20, 200, 3, generator=generator) * torch.tensor([3.0, 1.5, 1.0])
    rotation = torch.linalg.qr(torch.randn(20, 3, 3, generator=generator)).Q
    points = points @ rotation
    found = principal_directions(points).squeeze(-1)
    want = torch.linalg.eigh(torch.stack([own.T.cov() for own in points])).eigenvectors[..., -1]
    assert (found * want).sum(dim=-1).abs().min() > 0.999
    assert (principal_directions(torch.ones(1, 5, 3)) == 0).all()
