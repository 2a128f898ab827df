"""The schedule of the learning rate."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from tabattn.optim import WarmupCosine


def make(total_steps: int | None = 10, **arguments: Any) -> WarmupCosine:
    return WarmupCosine(SGD([nn.Parameter(torch.zeros(1))], lr=2.0), total_steps, **arguments)


def rates(schedule: WarmupCosine, steps: int) -> list[float]:
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
