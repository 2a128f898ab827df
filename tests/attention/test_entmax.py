import pytest
import torch
from entmax import entmax15, entmax_bisect, sparsemax

from tabattn.attention import Entmax, entmax_rows
from tabattn.attention.entmax_solver import solve_rows
from tests.attention.cases import HEAD_DIM, HEADS, Inputs, gradients, inputs, leaves

close = torch.testing.assert_close


def doubles(queries: int = 9) -> Inputs:
    torch.manual_seed(0)
    return leaves(inputs("Entmax", queries=queries, dtype=torch.float64))


def dense(x: Inputs, normalise, mask: torch.Tensor | None = None) -> torch.Tensor:
    scores = x.q @ x.k.transpose(-2, -1) * HEAD_DIM**-0.5
    return normalise(scores if mask is None else scores.masked_fill(~mask, -torch.inf)) @ x.v


@pytest.fixture(params=[11, 44, 11 * 9 * 2, 11 * 9 * HEADS, 10**6], ids=["row", "rows", "heads", "item", "all"])
def tile(request, monkeypatch):
    """Tiles of one row, of some rows, of some heads, of one item, and of everything."""
    monkeypatch.setattr(entmax_rows, "CACHED", request.param)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


@pytest.mark.usefixtures("tile")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("alpha", "normalise"), [(1.5, entmax15), (2.0, sparsemax)])
def test_fixed_alpha_is_the_closed_form(alpha, normalise, masked):
    x = doubles()
    mask = torch.rand(2, 1, 9, 11) > 0.4 if masked else None
    got = Entmax(HEADS, HEAD_DIM, alpha=alpha)(*x, mask)
    want = dense(x, lambda scores: normalise(scores, dim=-1), mask)
    close(got, want, atol=1e-10, rtol=1e-10)
    for ours, theirs in zip(gradients(got, *x), gradients(want, *x), strict=True):
        close(ours, theirs, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("alpha", [1.05, 1.3, 1.7, 1.95])
def test_any_alpha_is_found_by_bisection(alpha):
    x = doubles()
    got = Entmax(HEADS, HEAD_DIM, alpha=alpha)(*x)
    want = dense(x, lambda scores: entmax_bisect(scores, alpha, n_iter=80))
    close(got, want, atol=1e-9, rtol=1e-9)
    for ours, theirs in zip(gradients(got, *x), gradients(want, *x), strict=True):
        close(ours, theirs, atol=1e-9, rtol=1e-9)


@pytest.mark.usefixtures("tile")
def test_learned_alpha_differs_by_head_and_has_the_right_gradient():
    x = doubles()
    mechanism = Entmax(HEADS, HEAD_DIM, learn_alpha=True, block=4).double()
    with torch.no_grad():
        mechanism.alpha_logit.copy_(torch.tensor([-1.5, 2.0]))
    logit = mechanism.alpha_logit.detach().clone().requires_grad_()
    alpha = (1 + logit.sigmoid())[:, None, None]
    got = mechanism(*x)
    want = dense(x, lambda scores: entmax_bisect(scores, alpha.expand(2, -1, 1, 1), n_iter=80))
    close(got, want, atol=1e-9, rtol=1e-9)
    ours, theirs = gradients(got, *x, mechanism.alpha_logit), gradients(want, *x, logit)
    for mine, reference in zip(ours, theirs, strict=True):
        close(mine, reference, atol=1e-8, rtol=1e-8)


def test_learned_alpha_starts_where_told_and_stays_in_its_range():
    mechanism = Entmax(HEADS, HEAD_DIM, alpha=1.2, learn_alpha=True)
    close(mechanism.alpha, torch.full((HEADS,), 1.2))
    with torch.no_grad():
        mechanism.alpha_logit.copy_(torch.tensor([-50.0, 50.0]))
    close(mechanism.alpha, torch.tensor([1.01, 2.0]))
    assert mechanism(*inputs("Entmax")).isfinite().all()


def test_weights_are_sparse():
    torch.manual_seed(0)
    x = inputs("Entmax")
    support = [
        (Entmax(HEADS, HEAD_DIM, alpha=alpha).weights(4 * x.q, x.k) > 0).float().mean() for alpha in (1.0, 1.5, 2.0)
    ]
    assert support[0] == 1.0
    assert support[0] > support[1] > support[2] > 0


@pytest.mark.parametrize("alpha", [1.001, 1.5, 1.9, 2.0])
@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_long_rows_sum_to_one_in_float32(alpha, spread):
    torch.manual_seed(0)
    q, k = spread * torch.randn(1, 1, 4, HEAD_DIM), torch.randn(1, 1, 4096, HEAD_DIM)
    total = Entmax(1, HEAD_DIM, alpha=alpha)(q, k, torch.ones(1, 1, 4096, 1))
    close(total, torch.ones_like(total), atol=1e-4, rtol=0)


def test_shifting_all_scores_changes_nothing():
    x = doubles()
    q, k = (torch.nn.functional.pad(part, (0, 1), value=1.0) for part in (x.q, x.k))
    k[..., -1] = 7.0
    mechanism = Entmax(HEADS, HEAD_DIM + 1)
    q = q * ((HEAD_DIM + 1) / HEAD_DIM) ** 0.5
    close(mechanism(q, k, x.v), Entmax(HEADS, HEAD_DIM)(*x), atol=1e-10, rtol=1e-10)


def test_the_gradient_refuses_to_be_differentiated():
    x = doubles()
    (grad,) = torch.autograd.grad(Entmax(HEADS, HEAD_DIM)(*x).square().sum(), x.q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.usefixtures("tile")
def test_backward_drops_the_weights_that_forward_has_dropped():
    x = doubles()
    out = Entmax(HEADS, HEAD_DIM, dropout=0.4).train()(*x)
    weight = torch.randn(out.shape, dtype=torch.float64)
    (dv,) = torch.autograd.grad((out * weight).sum(), x.v)
    # The output is linear in the values.
    close((dv * x.v).sum(), (out * weight).sum(), atol=1e-9, rtol=1e-9)


def test_tiles_of_a_head_drop_other_weights(monkeypatch):
    monkeypatch.setattr(entmax_rows, "CACHED", 16)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    q, k, v = torch.zeros(1, 1, 8, 4), torch.zeros(1, 1, 16, 4), torch.eye(16)[None, None]
    out = Entmax(1, 4, dropout=0.5).train()(q, k, v)
    assert len(out[0, 0].unique(dim=0)) > 4


@pytest.mark.usefixtures("tile")
def test_tiles_partition_the_rows():
    q, k = torch.empty(2, HEADS, 9, HEAD_DIM), torch.empty(2, HEADS, 11, HEAD_DIM)
    count = torch.zeros(2, HEADS, 9)
    for tile in entmax_rows.tiles(q, k, 4):
        count[tile] += 1
    assert (count == 1).all()


@pytest.mark.parametrize("width", [255, 256, 257, 300])
@pytest.mark.parametrize("largest", [0, 100, 254, -1])
@pytest.mark.parametrize("order", [0.3, 0.5, 1.0])
def test_solver_finds_the_threshold_wherever_the_largest_score_is(width, largest, order):
    torch.manual_seed(0)
    scores = torch.randn(3, width, dtype=torch.float64)
    scores[0, largest] = 6
    scores[1] = 2.0
    scores[2, 7:] = -torch.inf
    rows = solve_rows(order * scores, order)
    torch.testing.assert_close(rows.p, entmax_bisect(scores, 1 + order, n_iter=80), atol=1e-9, rtol=0)
    excess = (order * scores - rows.peak - rows.shift + 1).clamp(min=0) ** (1 / order)
    torch.testing.assert_close(excess, rows.p, atol=1e-9, rtol=0)
