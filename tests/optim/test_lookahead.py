"""LAMB with Lookahead: the formulas of its papers, and exact resume."""

import copy
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tabattn.optim import LookaheadLamb
from tabattn.training.cli import main
from tests.helpers import MeanData, MeanTask

__all__ = ["MeanData", "MeanTask"]


def parameters() -> list[nn.Parameter]:
    """Draw a wide matrix, whose norm is above the bound, a small one, and a bias of zeros, whose norm is 0."""
    torch.manual_seed(0)
    made = [torch.randn(30, 20), 0.1 * torch.randn(4, 3), torch.zeros(5)]
    return [nn.Parameter(each.double()) for each in made]


def gradients(step: int, params: list[nn.Parameter]) -> list[Tensor]:
    source = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, generator=source, dtype=p.dtype) * 10.0 ** (step % 3 - 1) for p in params]


def run(optimizer: LookaheadLamb, params: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        for parameter, gradient in zip(params, gradients(step, params), strict=True):
            parameter.grad = gradient
        optimizer.step()


def by_hand(params: list[nn.Parameter], steps: int, lr: float, decay: float, alpha: float, k: int) -> list[Tensor]:
    """LAMB without bias correction, and Lookahead whose slow weights begin at the initial ones."""
    fast = [p.detach().clone() for p in params]
    slow = [w.clone() for w in fast]
    first, second = ([torch.zeros_like(w) for w in fast] for _ in range(2))
    for step in range(steps):
        for i, g in enumerate(gradients(step, params)):
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g**2
            u = first[i] / (second[i].sqrt() + 1e-6) + decay * fast[i]
            norms = min(fast[i].norm().item(), 10.0), u.norm().item()
            fast[i] = fast[i] - lr * (norms[0] / norms[1] if all(norms) else 1.0) * u
        if (step + 1) % k == 0:
            for i, w in enumerate(fast):
                slow[i] = slow[i] + alpha * (w - slow[i])
                fast[i] = slow[i].clone()
    return fast


@pytest.mark.parametrize(
    ("decay", "alpha", "k", "steps"), [(0.0, 0.5, 6, 30), (0.0, 0.5, 6, 5), (0.1, 0.8, 2, 9), (0.0, 0.3, 1, 4)]
)
def test_it_follows_the_formulas(decay: float, alpha: float, k: int, steps: int) -> None:
    params = parameters()
    run(LookaheadLamb(params, 0.01, weight_decay=decay, alpha=alpha, k=k), params, range(steps))
    for got, want in zip(params, by_hand(parameters(), steps, 0.01, decay, alpha, k), strict=True):
        torch.testing.assert_close(got.detach(), want, rtol=0, atol=1e-6)


def test_the_defaults_are_those_of_the_paper() -> None:
    params = parameters()
    run(LookaheadLamb(params), params, range(8))
    for got, want in zip(params, by_hand(parameters(), 8, 1e-3, 0.0, 0.5, 6), strict=True):
        torch.testing.assert_close(got.detach(), want, rtol=0, atol=1e-7)


@pytest.mark.parametrize("at", [1, 5, 6, 9])
def test_a_restored_state_continues_exactly(at: int) -> None:
    whole, first = parameters(), parameters()
    run(LookaheadLamb(whole), whole, range(14))
    optimizer = LookaheadLamb(first)
    run(optimizer, first, range(at))
    second = copy.deepcopy(first)
    resumed = LookaheadLamb(second)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(resumed, second, range(at, 14))
    for a, b in zip(whole, second, strict=True):
        assert torch.equal(a, b)


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    params = parameters()
    before = params[1].detach().clone()
    optimizer = LookaheadLamb(params, k=1)
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    assert torch.equal(params[1].detach(), before)
    assert not torch.equal(params[0].detach(), parameters()[0].detach())


def test_a_closure_is_called_with_gradients() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = LookaheadLamb([weight])

    def closure() -> Any:
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 3.0
    assert (weight < 1).all()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"lr": -1.0}, "lr must be at least 0, got -1.0"),
        ({"eps": -1.0}, "eps must be at least 0, got -1.0"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
        ({"betas": (1.0, 0.9)}, r"betas\[0\] must be in \[0, 1\), got 1.0"),
        ({"betas": (0.9, -0.1)}, r"betas\[1\] must be in \[0, 1\), got -0.1"),
        ({"alpha": 1.5}, r"alpha must be in \[0, 1\], got 1.5"),
        ({"k": 0}, "k must be at least 1, got 0"),
    ],
)
def test_bounds(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        LookaheadLamb(parameters(), **arguments)


def test_without_the_package_it_names_the_extra(monkeypatch: Any, capfd: Any, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    flags = ["fit", "--model=MeanTask", "--data=MeanData", "--trainer.accelerator=cpu"]
    assert main([*flags, "--optimizer=tabattn.optim.LookaheadLamb"]) == 2
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert said == "error: the package pytorch_optimizer is missing: pip install 'tabattn[optim]'"
