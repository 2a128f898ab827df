"""Laws of every mechanism in training, copying, casting and compilation."""

import copy

import pytest
import torch

from tabattn.attention import Entmax, Linear, Nystrom, Scratch, TopK
from tests.attention.cases import CASES, Inputs, drops, every, gradients, inputs, key_mask, leaves, make, where

close = torch.testing.assert_close


@where(drops)
def test_dropout_acts_in_training_only(case):
    x = leaves(inputs(case))
    mechanism = make(case, dropout=0.3).eval()
    calm = mechanism(*x)
    close(mechanism(*x), calm, atol=0, rtol=0)
    mechanism.train()
    draws = torch.stack([mechanism(*x) for _ in range(100)]).detach()
    assert not torch.equal(draws[0], draws[1])
    spread = draws.std(dim=0) / 100**0.5
    assert ((draws.mean(0) - calm).abs() <= 5 * spread + 1e-4).float().mean() > 0.95


@where(drops)
def test_dropout_is_the_same_in_backward(case):
    x = leaves(inputs(case, batch=1, queries=5, keys=5, dtype=torch.float64))
    mechanism = make(case, dropout=0.3).double().train()

    def again(q, k, v):
        torch.manual_seed(5)
        return mechanism(q, k, v)

    assert torch.autograd.gradcheck(again, tuple(x), atol=1e-5)


@where(drops, False)
def test_mechanisms_without_a_weight_matrix_have_no_dropout(case):
    x = inputs(case)
    mechanism = make(case).train()
    close(mechanism(*x), mechanism.eval()(*x), atol=0, rtol=0)


@pytest.mark.parametrize("case", [case for case in CASES if list(make(case).parameters())])
def test_every_parameter_learns(case):
    mechanism = make(case)
    grads = gradients(mechanism(*inputs(case)), *mechanism.parameters())
    for grad in grads:
        assert grad.isfinite().all()
        assert grad.ne(0).all()


@every
def test_gradients_are_exact(case):
    mechanism = make(case).double()
    x = leaves(inputs(case, batch=1, queries=5, keys=7, dtype=torch.float64))
    names = [name for name, _ in mechanism.named_parameters()]
    mask = torch.arange(7) != 2

    def call(q, k, v, *parameters):
        return torch.func.functional_call(mechanism, dict(zip(names, parameters, strict=True)), (q, k, v, mask))

    assert torch.autograd.gradcheck(call, (*x, *mechanism.parameters()))


@every
def test_bfloat16_autocast_is_finite_and_near(case):
    mechanism = make(case)
    x = leaves(inputs(case))
    half = leaves(Inputs(*(part.bfloat16() for part in x)))
    want = mechanism(*x, key_mask())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = mechanism(*half, key_mask())
    assert got.dtype is torch.bfloat16
    # Rounded scores may swap near ties at the edge of a support, which the means of the errors forgive.
    assert (got - want).abs().mean() < 0.02
    for rough, fine in zip(gradients(got, *half), gradients(want, *x), strict=True):
        assert rough.isfinite().all()
        assert (rough - fine).abs().mean() < 0.05


@where(lambda case: isinstance(make(case), (Entmax, Linear, Nystrom, Scratch, TopK)))
def test_autocast_rounds_nothing_but_the_result(case):
    """Of mechanisms that compute scores themselves; fused kernels keep theirs."""
    mechanism = make(case)
    q, k, v = inputs(case, queries=20, keys=24)
    half = Inputs(4 * q.bfloat16(), 4 * k.bfloat16(), v.bfloat16())
    want = mechanism(*(part.float() for part in half))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = mechanism(*half)
    close(got, want.bfloat16(), atol=0, rtol=0)


@every
def test_copies_and_checkpoints_are_the_same_mechanism(case):
    mechanism, other = make(case), make(case)
    x = inputs(case)
    want = mechanism(*x)
    close(copy.deepcopy(mechanism)(*x), want, atol=0, rtol=0)
    other.load_state_dict(mechanism.state_dict())
    close(other(*x), want, atol=0, rtol=0)


# The compiler makes an autograd function's context in a way that torch itself has deprecated.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@every
def test_compiles_without_graph_breaks(case):
    torch._dynamo.reset()
    mechanism = make(case)
    x = leaves(inputs(case, queries=5))
    compiled = torch.compile(mechanism, fullgraph=True, backend="eager")
    got, want = compiled(*x, key_mask()), mechanism(*x, key_mask())
    close(got, want, atol=1e-6, rtol=1e-6)
    for ours, theirs in zip(gradients(got, *x), gradients(want, *x), strict=True):
        close(ours, theirs, atol=1e-5, rtol=1e-5)
