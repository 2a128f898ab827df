"""Dropout by fast random numbers: shares, independence, and the weights that are kept."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tabattn.attention import Softmax
from tabattn.attention.dropout import LEVELS, Dropout, dropped, keep
from tabattn.attention.fused import attend

CPU = torch.device("cpu")
SHAPES = ((5, 4), (6, 4), (6, 3))
"""Rows and widths of queries, keys and values."""


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_shares_at_every_place_of_a_word(probability: float) -> None:
    torch.manual_seed(0)
    mask, share = keep((40_000, 4), probability, CPU)
    assert share == pytest.approx(1 - probability, abs=1 / LEVELS)
    for place in range(4):
        assert mask[:, place].float().mean().item() == pytest.approx(share, abs=0.01)
    centred = mask.double() - share
    covariance = centred.T @ centred / len(mask)
    torch.testing.assert_close(covariance, torch.eye(4).double() * share * (1 - share), rtol=0, atol=0.006)


@pytest.mark.parametrize("shape", [(), (1,), (3, 0), (2, 3, 5)])
def test_shapes(shape: tuple[int, ...]) -> None:
    assert keep(shape, 0.5, CPU)[0].shape == shape


def test_the_largest_probability_keeps_a_share_above_zero() -> None:
    mask, share = keep((1000,), 1 - 1e-9, CPU)
    assert share == 1 / LEVELS
    assert mask.float().mean() < 0.01
    mask, share = keep((1000,), 0.0, CPU)
    assert share == 1.0
    assert mask.all()


def test_kept_elements_are_scaled() -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, requires_grad=True)
    y = dropped(x, 0.25)
    assert sorted(set(y.tolist())) == pytest.approx([0.0, 1 / 0.75])
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_the_module_acts_in_training_only() -> None:
    module, x = Dropout(0.5), torch.ones(100)
    assert (module(x) == 0).any()
    assert torch.equal(module.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert isinstance(module, nn.Dropout)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_softmax_drops_weights_and_scales_the_others(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k = (torch.randn(2, 3, 16, 5, dtype=dtype) for _ in range(2))
    mechanism = Softmax(3, 5, dropout=0.25).train()
    found = mechanism(q, k, torch.eye(16, dtype=dtype).expand(2, 3, 16, 16))
    kept = found != 0
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.05)
    wanted = mechanism.weights(q, k) / 0.75
    torch.testing.assert_close(found[kept], wanted[kept], rtol=2e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)


def reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention with dropout in the terms of autograd."""
    weights = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1)
    kept, share = keep(weights.shape, 0.3, weights.device)
    return (weights * kept) @ v / share


def seeded(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(*given: Tensor) -> Tensor:
        torch.manual_seed(3)
        return function(*given)

    return call


def test_attention_with_dropout_has_the_gradients_of_autograd() -> None:
    x = [torch.randn(2, 2, size, width, dtype=torch.float64, requires_grad=True) for size, width in SHAPES]
    ours, theirs = seeded(lambda q, k, v: attend(q, k, v, dropout=0.3))(*x), seeded(reference)(*x)
    assert torch.equal(ours, theirs)
    grad = torch.randn_like(ours)
    for one, other in zip(torch.autograd.grad(ours, x, grad), torch.autograd.grad(theirs, x, grad), strict=True):
        torch.testing.assert_close(one, other)


def test_attention_with_dropout_has_second_derivatives() -> None:
    x = [torch.randn(1, 1, size, width, dtype=torch.float64, requires_grad=True) for size, width in SHAPES]
    assert torch.autograd.gradgradcheck(seeded(lambda q, k, v: attend(q, k, v, dropout=0.3)), x)
