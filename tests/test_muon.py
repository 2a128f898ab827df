"""Muon and AdamW as one optimizer."""

import copy

import pytest
import torch
from torch import nn

from tabattn.optim import MuonAdamW


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
    parts = [torch.optim.Muon([matrix], 0.01, 0.1), torch.optim.AdamW(rest, 0.002, weight_decay=0.0)]
    steps(ours, [MuonAdamW(ours.parameters(), 0.01, 0.002, weight_decay=0.1)], 3)
    steps(theirs, parts, 3)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_saved_state_goes_on_as_if_nothing_had_happened() -> None:
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
