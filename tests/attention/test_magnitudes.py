"""Numbers of any magnitude: outputs and gradients are finite, and near those in double precision."""

import pytest
import torch
from torch import Tensor

from tabattn.attention import Entmax, Linear, Scratch, Softmax
from tests.attention.cases import HEAD_DIM, HEADS, Inputs, every, gradients, inputs, leaves, make

LARGE = {torch.float16: 200.0, torch.bfloat16: 1e4, torch.float32: 1e4}
"""Coordinates whose scores leave the range of float16, or of the digits of float32."""


def scaled(x: Inputs, kind: str, large: float) -> Inputs:
    q, k, v = x
    if kind == "large":
        return Inputs(q * large, k * large, v)
    if kind == "tiny":
        return Inputs(q * 1e-6, k * 1e-6, v * 1e-3)
    if kind == "equal":
        return Inputs(torch.full_like(q, large), torch.full_like(k, large), v)
    if kind == "negative":
        return Inputs(-q.abs() * large - 300, -k.abs() * large - 300, v)
    # No coordinate is large for a query and for a key.
    q, k = torch.full_like(q, -300.0), torch.full_like(k, -300.0)
    q[..., 0], k[..., 1] = 0, 0
    return Inputs(q, k, v)


@every
@pytest.mark.parametrize("kind", ["large", "tiny", "equal", "negative", "opposed"])
@pytest.mark.parametrize("dtype", LARGE)
def test_outputs_and_gradients_are_finite_and_outputs_near(case: str, kind: str, dtype: torch.dtype) -> None:
    x = leaves(Inputs(*(part.to(dtype) for part in scaled(inputs(case), kind, LARGE[dtype]))))
    mechanism = make(case).to(dtype)
    out = mechanism(*x)
    assert out.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(out, *x))
    exact = make(case).double()
    exact.load_state_dict(mechanism.state_dict())
    expected = exact(*(part.detach().double() for part in x))
    torch.testing.assert_close(out.double(), expected, rtol=0.02, atol=0.02 * expected.abs().max().item())


@every
@pytest.mark.parametrize("sharp", [1.0, 4.0])
@pytest.mark.parametrize(("dtype", "far"), [(torch.float16, 0.01), (torch.bfloat16, 0.04)])
def test_gradients_in_half_precision_are_those_of_single(
    case: str, dtype: torch.dtype, far: float, sharp: float
) -> None:
    """With values near the largest of float16: what fits its range is finite and near, whatever is between."""
    for seed in range(4):
        torch.manual_seed(seed)
        q, k, v = inputs(case)
        half = leaves(Inputs(*(x.to(dtype) for x in (q * sharp, k * sharp, v / v.abs().max() * 6e4))))
        single = leaves(Inputs(*(x.float() for x in half)))
        mechanism = make(case).to(dtype)
        same = make(case)
        same.load_state_dict(mechanism.state_dict())
        found = gradients(mechanism(*half), *half, *mechanism.parameters())
        for got, want in zip(found, gradients(same(*single), *single, *same.parameters()), strict=True):
            fits = want.abs() < 0.95 * torch.finfo(dtype).max
            top = want[fits].abs().max().item()
            torch.testing.assert_close(got[fits].float(), want[fits], rtol=0, atol=far * top + 1e-4)


@pytest.mark.parametrize("top", [65504.0, 3e4])
def test_scratch_mixes_large_values_in_half_precision_as_softmax_does(top: float) -> None:
    q, k, _ = (part.half() for part in inputs("Scratch"))
    v = torch.full((2, HEADS, 11, HEAD_DIM), top, dtype=torch.float16)
    for mechanism in (Scratch(HEADS, HEAD_DIM), Softmax(HEADS, HEAD_DIM)):
        torch.testing.assert_close(mechanism(q, k, v), torch.full_like(q, top), rtol=1e-3, atol=0)


def linear_in_double(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Its definition, where exp(-700) is still a number."""
    phi_q, phi_k = (torch.where(x > 0, x + 1, x.clamp(max=0).exp()) for x in (q, k))
    weights = phi_q @ phi_k.transpose(-2, -1)
    return weights @ v / weights.sum(-1, keepdim=True)


@pytest.mark.parametrize("low", [-50.0, -90.0, -200.0])
def test_linear_attention_does_not_underflow(low: float) -> None:
    x = inputs("Linear", dtype=torch.float64)
    double = leaves(Inputs(x.q + low, x.k + low, x.v))
    single = leaves(Inputs(*(part.float() for part in double)))
    expected = linear_in_double(*double)
    out = Linear(HEADS, HEAD_DIM)(*single)
    torch.testing.assert_close(out, expected.float(), rtol=1e-3, atol=1e-4)
    for found, right in zip(gradients(out, *single), gradients(expected.float(), *double), strict=True):
        torch.testing.assert_close(found, right.float(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0])
def test_entmax_depends_on_differences_of_scores_alone(alpha: float) -> None:
    x = inputs("Entmax")
    q = torch.cat([x.q[..., :1], torch.ones_like(x.q[..., :1])], dim=-1)
    near, far = (torch.cat([x.k[..., :1], torch.full_like(x.k[..., :1], shift)], dim=-1) for shift in (0.0, 1e4))
    mechanism = Entmax(HEADS, 2, alpha=alpha)
    torch.testing.assert_close(mechanism(q, far, x.v), mechanism(q, near, x.v), atol=5e-3, rtol=0)
    torch.testing.assert_close(mechanism.weights(q, far).sum(-1), torch.ones(2, HEADS, 9))
