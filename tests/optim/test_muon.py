"""Muon and AdamW as one optimizer."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tabattn.optim import MuonAdamW
from tabattn.optim.muon import BatchedMuon, orthogonal


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 20), nn.GELU(), nn.Linear(20, 18), nn.GELU(), nn.Linear(18, 2))


def steps(net: nn.Module, optimizers: list[torch.optim.Optimizer], count: int) -> None:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    for _ in range(count):
        net.zero_grad()
        net(x).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()


def test_equals_its_two_parts() -> None:
    ours, theirs = network(), network()
    matrix = theirs[2].weight
    rest = [p for p in theirs.parameters() if p is not matrix]
    parts = [BatchedMuon([matrix], 0.01, 0.1), torch.optim.AdamW(rest, 0.002, weight_decay=0.0, fused=True)]
    steps(ours, [MuonAdamW(ours.parameters(), 0.01, 0.002, weight_decay=0.1)], 3)
    steps(theirs, parts, 3)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def matrices(shapes: list[tuple[int, int]]) -> list[nn.Parameter]:
    torch.manual_seed(0)
    made = [nn.Parameter(torch.randn(shape, dtype=torch.double)) for shape in shapes]
    for matrix in made:
        matrix.grad = torch.randn_like(matrix)
    return made


def by_hand(matrix: Tensor, gradients: list[Tensor], rate: float, decay: float, momentum: float) -> Tensor:
    """Muon as Jordan et al. 2024 write it, one matrix at a time."""
    mean = torch.zeros_like(matrix)
    for gradient in gradients:
        mean = momentum * mean + (1 - momentum) * gradient
        x = (1 - momentum) * gradient + momentum * mean
        rows, columns = x.shape
        x = (x.T if rows > columns else x) / x.norm()
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        step = (x.T if rows > columns else x) * max(1.0, rows / columns) ** 0.5
        matrix = matrix * (1 - rate * decay) - rate * step
    return matrix


def test_matrices_of_one_shape_are_updated_as_one_at_a_time() -> None:
    shapes = [(5, 3), (3, 5), (5, 3), (4, 4), (3, 5)]
    ours, start = matrices(shapes), [matrix.detach().clone() for matrix in matrices(shapes)]
    gradients = [matrix.grad.clone() for matrix in ours]
    optimizer = BatchedMuon(ours, 0.1, 0.2, 0.9)
    for factor in (1.0, -0.5):
        for matrix, gradient in zip(ours, gradients, strict=True):
            matrix.grad = factor * gradient
        optimizer.step()
    for matrix, before, gradient in zip(ours, start, gradients, strict=True):
        expected = by_hand(before, [gradient, -0.5 * gradient], 0.1, 0.2, 0.9)
        torch.testing.assert_close(matrix.detach(), expected, rtol=1e-9, atol=1e-9)


def test_it_equals_torchs_muon() -> None:
    ours, theirs = matrices([(20, 16), (16, 20), (20, 16)]), matrices([(20, 16), (16, 20), (20, 16)])
    for _ in range(2):
        BatchedMuon(ours, 0.1).step()
        torch.optim.Muon(theirs, 0.1).step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0.01)  # theirs is in bfloat16


def test_a_matrix_without_a_gradient_is_left_alone() -> None:
    first, second = matrices([(4, 4), (4, 4)])
    before = second.detach().clone()
    second.grad = None
    BatchedMuon([first, second], 0.1).step()
    torch.testing.assert_close(second.detach(), before, rtol=0, atol=0)


def test_a_restored_state_continues_exactly() -> None:
    whole = network()
    steps(whole, [MuonAdamW(whole.parameters())], 4)
    first = network()
    optimizer = MuonAdamW(first.parameters())
    steps(first, [optimizer], 2)
    second = copy.deepcopy(first)
    resumed = MuonAdamW(second.parameters())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(second, [resumed], 2)
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_schedule_reaches_both_parts() -> None:
    net = network()
    optimizer = MuonAdamW(net.parameters(), 0.02, 0.004)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    before = copy.deepcopy(net.state_dict())
    steps(net, [optimizer], 1)
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.0]
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=0)


def test_a_negative_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="adamw_lr must be at least 0, got -1"):
        MuonAdamW(network().parameters(), adamw_lr=-1)


class NothingIsRead(TorchDispatchMode):
    """Refuses to turn a tensor into a number, which on a GPU waits for all that is queued."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise AssertionError("a tensor was read")
        return func(*args, **(kwargs or {}))


def test_a_rate_that_is_a_tensor_is_never_read() -> None:
    """CUDA graphs change the rate between their replays, and cannot wait for its value."""
    ours, theirs = matrices([(20, 18), (20, 18), (16, 30)]), matrices([(20, 18), (20, 18), (16, 30)])
    optimizer = BatchedMuon(ours, 0.5, 0.1)
    optimizer.param_groups[0]["lr"] = torch.tensor(0.01, dtype=torch.double)
    with NothingIsRead():
        optimizer.step()
    BatchedMuon(theirs, 0.01, 0.1).step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("width", [64, 192])
def test_wide_matrices_keep_their_precision_on_a_cpu(width: int) -> None:
    """bfloat16 took twenty times as long there."""
    x = torch.randn(1, width, width + 8)
    coefficients = 3.4445, -4.775, 2.0315
    exact = orthogonal(x.double(), coefficients, 5, 1e-7)
    torch.testing.assert_close(orthogonal(x, coefficients, 5, 1e-7).double(), exact, rtol=1e-4, atol=1e-4)
