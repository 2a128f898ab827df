import itertools

import pytest
import torch

from tabattn.attention import Local, Sparse
from tests.attention.cases import HEAD_DIM, HEADS, Inputs, gradients, inputs, leaves

close = torch.testing.assert_close


def naive(x: Inputs, window: int, mask: torch.Tensor) -> torch.Tensor:
    """One query at a time, over the neighbours it can see."""
    batch, heads, length, _ = x.q.shape
    mask = mask.expand(batch, heads, length, length)
    rows = []
    for b in range(batch):
        for h in range(heads):
            for i in range(length):
                near = [j for j in range(length) if abs(i - j) <= window and mask[b, h, i, j]]
                weights = torch.stack(
                    [x.q[b, h, i] @ x.k[b, h, j] / HEAD_DIM**0.5 for j in near] or [x.q.new_zeros(())]
                )
                mixed = weights.softmax(0) @ x.v[b, h, near] if near else x.v[b, h, :0].sum(0)
                rows.append(mixed)
    return torch.stack(rows).view(batch, heads, length, -1)


MASKS = {
    "none": lambda n: torch.ones(n, dtype=torch.bool),
    "keys": lambda n: torch.rand(2, 1, 1, n) > 0.3,
    "keys of heads": lambda n: torch.rand(1, HEADS, 1, n) > 0.3,
    "queries": lambda n: torch.rand(n, 1) > 0.3,
    "both": lambda n: torch.rand(2, HEADS, n, n) > 0.3,
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("length", "window"), [(1, 3), (5, 8), (6, 2), (7, 2), (9, 1), (10, 3), (13, 3)])
def test_equals_a_loop_over_neighbours(length, window, mask):
    torch.manual_seed(0)
    x = leaves(inputs("Local", keys=length, dtype=torch.float64))
    seen = MASKS[mask](length)
    got, want = Local(HEADS, HEAD_DIM, window=window)(*x, seen), naive(x, window, seen)
    close(got, want)
    for ours, theirs in zip(gradients(got, *x), gradients(want, *x), strict=True):
        close(ours, theirs)


def naive_zero_edges(x: Inputs, window: int, mask: torch.Tensor) -> torch.Tensor:
    """One query at a time, over 2 window + 1 scores: of the neighbours it can see, and 0 for those beyond an end."""
    batch, heads, length, _ = x.q.shape
    mask = mask.expand(batch, heads, length, length)
    out = torch.zeros_like(x.v)
    for b, h, i in itertools.product(range(batch), range(heads), range(length)):
        around = range(i - window, i + window + 1)
        near = [j for j in around if 0 <= j < length and mask[b, h, i, j]]
        beyond = sum(not 0 <= j < length for j in around)
        shares = [(x.q[b, h, i] @ x.k[b, h, j] / HEAD_DIM**0.5).exp() for j in near]
        for j, share in zip(near, shares, strict=True):
            out[b, h, i] = out[b, h, i] + share / (sum(shares) + beyond) * x.v[b, h, j]
    return out


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("length", "window"), [(1, 3), (5, 8), (6, 2), (7, 2), (9, 1), (10, 3), (13, 3)])
def test_zero_edges_equal_a_loop_that_counts_them(length, window, mask):
    torch.manual_seed(0)
    x = leaves(inputs("Local", keys=length, dtype=torch.float64))
    seen = MASKS[mask](length)
    got, want = Local(HEADS, HEAD_DIM, window=window, edges="zero")(*x, seen), naive_zero_edges(x, window, seen)
    close(got, want)
    for ours, theirs in zip(gradients(got, *x), gradients(want, *x), strict=True):
        close(ours, theirs)


def test_zero_edges_take_weight_near_the_ends_only():
    torch.manual_seed(0)
    x = inputs("Local", keys=20)
    zero, exact = Local(HEADS, HEAD_DIM, window=3, edges="zero"), Local(HEADS, HEAD_DIM, window=3)
    weights = zero.weights(x.q, x.k)
    close(weights @ x.v, zero(*x))
    assert weights.sum(-1)[:, :, [0, 1, 2, 17, 18, 19]].lt(0.999).all()
    close(zero(*x)[:, :, 3:17], exact(*x)[:, :, 3:17])


def test_reaches_twice_as_far_as_sparse():
    torch.manual_seed(0)
    x = inputs("Local", keys=29)
    close(Local(HEADS, HEAD_DIM, window=3)(*x), Sparse(HEADS, HEAD_DIM, window=6)(*x))


def test_keys_beyond_the_window_have_no_influence():
    torch.manual_seed(0)
    x = leaves(inputs("Local", keys=20))
    out = Local(HEADS, HEAD_DIM, window=4)(*x)
    for grad in gradients(out[:, :, 9:10], x.k, x.v):
        near = torch.arange(20).sub(9).abs() <= 4
        assert grad[:, :, ~near].eq(0).all()
        assert grad[:, :, near].ne(0).all()
