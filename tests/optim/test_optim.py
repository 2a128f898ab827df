"""The schedule of the learning rate."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from tabattn.optim import FlatCosine, WarmupCosine


def make(total_steps: int | None = 10, **arguments: Any) -> WarmupCosine:
    return WarmupCosine(SGD([nn.Parameter(torch.zeros(1))], lr=2.0), total_steps, **arguments)


def flat(total_steps: int | None = 100, **arguments: Any) -> FlatCosine:
    return FlatCosine(SGD([nn.Parameter(torch.zeros(1))], lr=1e-3), total_steps, **arguments)


def rates(schedule: FlatCosine | WarmupCosine, steps: int) -> list[float]:
    """Return the learning rate of each step."""
    seen = []
    for _ in range(steps):
        seen.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return seen


def test_rate_warms_up_and_decays() -> None:
    seen = rates(make(10, warmup=0.4, final=0.1), 11)
    assert seen[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert seen[7] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert seen[10] == pytest.approx(0.2)
    assert all(before > after for before, after in pairwise(seen[4:]))


def test_without_warmup_it_is_a_cosine_decay() -> None:
    expected = [1.0 + math.cos(math.pi * step / 10) for step in range(11)]
    assert rates(make(10, warmup=0.0), 11) == pytest.approx(expected)


def test_rate_stays_final_after_the_last_step() -> None:
    assert rates(make(3, warmup=0.0, final=0.25), 6)[3:] == [0.5] * 3


def test_flat_then_anneal() -> None:
    """Values of the original, whose rates were recorded after each step: 69 is the rate of the step behind it."""
    after = rates(flat(100), 101)[1:]
    assert after[:69] == [1e-3] * 69
    assert after[69] == pytest.approx(9.972609476841367e-4)
    assert after[80] == pytest.approx(6.545084971874737e-4)
    assert after[97] == pytest.approx(2.739052315863e-6)
    assert after[98:] == pytest.approx([0.0, 0.0])  # The last step, and behind the end.


@pytest.mark.parametrize(
    ("total_steps", "share", "expected"),
    [(10, 0.5, [1, 1, 1, 1, 1, 0.9045, 0.6545, 0.3455, 0.0955, 0]), (4, 1.0, [1, 1, 1, 1]), (2, 0.0, [0.5, 0.0])],
)
def test_flat_shares(total_steps: int, share: float, expected: list[float]) -> None:
    seen = rates(flat(total_steps, flat=share), total_steps)
    assert seen == pytest.approx([1e-3 * factor for factor in expected], abs=1e-7)


def test_a_resumed_flat_schedule_follows_its_own_curve() -> None:
    whole, first, second = flat(20, flat=0.5), flat(10), flat(20, flat=0.5)
    rates(whole, 9)
    rates(first, 9)
    assert set(first.state_dict()).isdisjoint({"total_steps", "flat"})
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert rates(second, 12) == rates(whole, 12)
    planned = flat(None, flat=0.5)
    planned.plan(20)
    assert rates(planned, 20) == rates(flat(20, flat=0.5), 20)


def test_planned_equals_given() -> None:
    planned = make(None, warmup=0.4)
    planned.plan(10)
    assert planned.get_last_lr() == make(10, warmup=0.4).get_last_lr()
    assert rates(planned, 11) == rates(make(10, warmup=0.4), 11)


def test_a_length_is_needed_after_the_first_step() -> None:
    with pytest.raises(ValueError, match="total_steps must be known before the second step, got None"):
        rates(make(None), 2)


def test_resumed_schedule_continues() -> None:
    whole = rates(make(10), 10)
    first, second = make(10), make(10)
    assert rates(first, 4) == whole[:4]
    second.load_state_dict(first.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert rates(second, 6) == whole[4:]


@pytest.mark.parametrize("changes", [{"total_steps": 20}, {"warmup": 0.5}, {"final": 0.5}], ids=str)
@pytest.mark.parametrize("all_said", [False, True], ids=["", "of a file that says all"])
def test_a_resumed_run_follows_its_own_curve(changes: dict[str, Any], all_said: bool) -> None:
    whole, first, second = make(**changes), make(), make(**changes)
    rates(whole, 4)
    rates(first, 4)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict() | ({"total_steps": 10, "warmup": 0.05, "final": 0.0} if all_said else {}))
    assert second.get_last_lr() == whole.get_last_lr()
    assert rates(second, 7) == rates(whole, 7)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"total_steps": 0}, "total_steps must be at least 1, got 0"),
        ({"warmup": -0.1}, r"warmup must be in \[0, 1\], got -0.1"),
        ({"final": 1.5}, r"final must be in \[0, 1\], got 1.5"),
    ],
)
def test_bounds(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make(**arguments)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_flat_bounds(share: float) -> None:
    with pytest.raises(ValueError, match=rf"flat must be in \[0, 1\], got {share}"):
        flat(flat=share)
