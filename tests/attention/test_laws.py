"""Laws of every mechanism: shapes, attention maps, masks, permutations."""

import pytest
import torch

from tabattn.attention import MECHANISMS
from tests.attention.cases import (
    CASES,
    HEAD_DIM,
    HEADS,
    Inputs,
    drops,
    every,
    gradients,
    inputs,
    key_mask,
    leaves,
    make,
    one_length,
    query_mask,
    static,
    where,
)

close = torch.testing.assert_close


def crosses(case: str) -> bool:
    return make(case).cross


@every
def test_keys_are_read_or_it_is_declared(case):
    mechanism, given = make(case).eval(), inputs(case)
    other = mechanism(given.q, given.k.flip(-1) + 1, given.v.flip(-2) - 1)
    assert torch.equal(mechanism(given.q, given.k, given.v), other) != mechanism.reads_keys
    assert (mechanism.weights(given.q, given.k).shape[-1] == given.k.shape[-2]) == mechanism.reads_keys


def approximate(case: str) -> bool:
    """Whether the map comes from an iteration, which may leave weights a little below zero."""
    return "iterations" in make(case).arguments()


def test_registry_names_are_class_names():
    assert all(cls.__name__ == name for name, cls in MECHANISMS.items())


@every
@pytest.mark.parametrize("length", [1, 7, 63])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_shapes(case, length, batch):
    mechanism = make(case)
    for queries in {length, 5}:
        x = leaves(inputs(case, batch, queries, length))
        out = mechanism(*x)
        assert out.shape == (*x.q.shape[:3], HEAD_DIM)
        assert all(grad.isfinite().all() for grad in gradients(out, *x))


@every
@pytest.mark.parametrize("masked", [False, True])
def test_without_keys_there_are_zeros(case, masked):
    x = leaves(inputs(case, 2, 0 if one_length(case) else 5, 0))
    out = make(case)(*x, torch.ones(1, 1, 1, 0, dtype=torch.bool) if masked else None)
    assert out.shape == (*x.q.shape[:3], HEAD_DIM)
    assert all(torch.equal(part, torch.zeros_like(part)) for part in (out, *gradients(out, *x)))


@where(static, False)
def test_values_of_any_width(case):
    x = inputs(case)
    v = torch.randn(2, HEADS, 11, 3)
    mechanism = make(case)
    close(mechanism(x.q, x.k, v), mechanism.weights(x.q, x.k) @ v, atol=1e-5, rtol=1e-4)


@where(one_length)
def test_mechanisms_of_positions_refuse_unequal_lengths(case):
    assert not make(case).cross
    q, k = torch.randn(1, HEADS, 5, HEAD_DIM), torch.randn(1, HEADS, 7, HEAD_DIM)
    with pytest.raises(ValueError, match=r"one length, got 5 and 7"):
        make(case)(q, k, k)


@where(lambda case: make(case).query_masks)
def test_query_masks_are_obeyed_if_declared(case):
    x = inputs(case, queries=11)
    mask, mechanism = query_mask(11, 11), make(case)
    mask[:, :, 0] = False
    weights, free = mechanism.weights(x.q, x.k, mask), mechanism.weights(x.q, x.k)
    if static(case):
        # Keys that are not read cannot be hidden one by one; a query that may see nothing yields zeros all the same.
        sees = mask.any(-1, keepdim=True)
        close(weights, free.masked_fill(~sees, 0.0), atol=0, rtol=0)
    else:
        close(weights.masked_fill(mask, 0.0), torch.zeros_like(weights), atol=0, rtol=0)
        assert (weights - free)[:, :, 1:].abs().max() > 1e-2


@where(lambda case: not make(case).query_masks)
def test_query_masks_are_refused_if_not_declared(case):
    x = inputs(case)
    with pytest.raises(ValueError, match=r"query dimension 1, got a mask of shape \(1, 1, 9, 11\)"):
        make(case)(*x, torch.ones(9, 11, dtype=torch.bool))


@every
@pytest.mark.parametrize("masked", [False, True])
def test_weights_times_values_equals_forward(case, masked):
    mechanism = make(case, **({"dropout": 0.5} if drops(case) else {})).train()
    x = inputs(case)
    mask = key_mask() if masked else None
    weights = mechanism.weights(x.q, x.k, mask)
    assert mechanism.training
    values = mechanism.memory_values if static(case) else x.v
    close(weights @ values, mechanism.eval()(*x, mask), atol=1e-5, rtol=1e-4)


@every
@pytest.mark.parametrize("masked", [False, True])
def test_rows_sum_to_one(case, masked):
    settings = {"iterations": 30} if approximate(case) else {}
    mechanism = make(case, **settings).double()
    x = inputs(case, dtype=torch.float64)
    mask = torch.arange(11) % 4 != 1 if masked else None
    weights = mechanism.weights(x.q, x.k, mask)
    close(weights.sum(-1), torch.ones_like(weights[..., 0]), atol=1e-6, rtol=0)
    if not approximate(case):
        assert (weights >= 0).all()


@pytest.mark.parametrize(
    ("case", "by_query"),
    [
        (case, by_query)
        for case in CASES
        for by_query in (False, True)
        if not static(case) and (make(case).query_masks or not by_query)
    ],
)
def test_hidden_keys_have_no_influence(case, by_query):
    x = leaves(inputs(case, queries=11))
    mask = query_mask(11, 11) if by_query else key_mask()
    mechanism = make(case)
    weights = mechanism.weights(x.q, x.k, mask)
    close(weights.masked_fill(mask, 0.0), torch.zeros_like(weights), atol=0, rtol=0)

    hidden = ~mask.expand(2, HEADS, 11, 11).any(dim=2)
    assert hidden.any()
    out = mechanism(*x, mask)
    noise = 100 * torch.randn_like(x.k) * hidden[..., None]
    close(mechanism(x.q, x.k + noise, x.v - noise, mask), out, atol=1e-6, rtol=1e-6)
    for grad in gradients(out, x.k, x.v):
        assert grad[hidden].eq(0).all()
        assert grad[~hidden].ne(0).any()


@every
def test_queries_that_may_see_nothing_yield_zeros(case):
    x = leaves(inputs(case, queries=11))
    mechanism = make(case)
    masks = [torch.tensor([True, False])[:, None, None, None].expand(2, 1, 1, 11)]
    if mechanism.query_masks:
        masks.append(query_mask(11, 11) & (torch.arange(11) != 3)[:, None])
    for mask in masks:
        out = mechanism(*x, mask)
        blind = ~mask.any(-1).expand(out.shape[:3])
        assert blind.any()
        assert out[blind].eq(0).all()
        assert out[~blind].ne(0).any()
        wanted = gradients(out, *x, *mechanism.parameters())
        assert all(grad.isfinite().all() for grad in wanted)
        assert wanted[0][blind].eq(0).all()


@every
def test_masks_broadcast_in_every_dimension(case):
    x = inputs(case)
    mechanism = make(case)
    row = torch.arange(11) > 2
    want = mechanism(*x, row.expand(2, HEADS, 1, 11))
    for mask in (row, row[None], row[None, None], row.expand(1, HEADS, 1, 11), row.expand(2, 1, 1, 11)):
        close(mechanism(*x, mask), want, atol=1e-6, rtol=1e-6)


@where(crosses)
def test_cross_attention_ignores_order_of_keys_and_other_queries(case):
    x = leaves(inputs(case))
    order = torch.randperm(11)
    shuffled = Inputs(x.q, x.k[:, :, order], x.v[:, :, order])
    mechanism = make(case)
    out, again = mechanism(*x), mechanism(*shuffled)
    close(again, out, atol=1e-5, rtol=1e-4)
    for got, want in zip(gradients(again, *x), gradients(out, *x), strict=True):
        close(got, want, atol=1e-5, rtol=1e-4)
    close(mechanism(x.q[:, :, 4:6], x.k, x.v), out[:, :, 4:6], atol=1e-5, rtol=1e-4)
    assert (mechanism(x.q, x.k, x.v + 1) - out).abs().min() > 1e-2


@where(crosses, False)
def test_a_mechanism_without_cross_attention_depends_on_order_or_ignores_values(case):
    """Order matters, or other queries do, or values are not read."""
    x = inputs(case, queries=40, keys=40)
    order = torch.randperm(40)
    mechanism = make(case)
    out = mechanism(*x)
    by_order = (mechanism(x.q, x.k[:, :, order], x.v[:, :, order]) - out).abs().max()
    others = Inputs(torch.cat([x.q[:, :, :1], torch.randn_like(x.q[:, :, 1:])], dim=2), x.k, x.v)
    by_queries = (mechanism(*others) - out)[:, :, 0].abs().max()
    assert max(by_order, by_queries) > 1e-2 or torch.equal(mechanism(x.q, x.k, x.v + 1), out)


@every
def test_batch_elements_are_independent(case):
    x = inputs(case, batch=3)
    mask = torch.rand(3, 1, 1, 11) > 0.3
    mechanism = make(case)
    together = mechanism(*x, mask)
    for i in range(3):
        close(mechanism(*(part[i : i + 1] for part in x), mask[i : i + 1]), together[i : i + 1], atol=1e-5, rtol=1e-4)


@every
def test_heads_are_independent(case):
    x = leaves(inputs(case))
    for grad in gradients(make(case)(*x)[:, :1], *x):
        assert grad[:, 1:].eq(0).all()
