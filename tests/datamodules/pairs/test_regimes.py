"""Regimes: context, targets and their order."""

from typing import NamedTuple

import pytest
import torch

from datamodules.counter import generator
from datamodules.pairs.regimes import REGIMES, Drawn, choose


class Arranged(NamedTuple):
    """Tasks as a regime orders them."""

    x: torch.Tensor
    member: torch.Tensor
    context: int
    drawn: Drawn
    roles: torch.Tensor


def arranged(regime: str, sizes: tuple[int, ...], shown: int, role: int | None = None) -> Arranged:
    tasks, points = 5, sum(sizes)
    member = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).expand(tasks, -1)
    roles = torch.randint(len(sizes), (tasks,)) if role is None else torch.full((tasks,), role)
    inferred = member == roles[:, None]
    drawn = Drawn(torch.rand(tasks, points), member, inferred, torch.rand(tasks, points), shown)
    order, context = REGIMES[regime](drawn, len(sizes))
    assert torch.equal(order.sort(1).values, torch.arange(points).expand(tasks, -1))
    return Arranged(drawn.x.gather(1, order), member.gather(1, order), context, drawn, roles)


@pytest.mark.parametrize("regime", ["forecast", "interp", "full_infer"])
@pytest.mark.parametrize("sizes", [(7, 7), (6, 6, 6), (9,)])
def test_targets_are_the_rest_of_one_sequence_in_order(regime: str, sizes: tuple[int, ...]) -> None:
    x, member, context, _, roles = arranged(regime, sizes, 3)
    assert context == sum(sizes[1:]) + 3
    assert torch.equal(member[:, context:], roles.unsqueeze(1).expand(-1, sizes[0] - 3))
    assert torch.equal(x[:, context:].sort(1).values, x[:, context:])


@pytest.mark.parametrize("regime", ["forecast", "full_infer"])
def test_a_forecast_lies_behind_what_is_shown(regime: str) -> None:
    x, member, context, _, roles = arranged(regime, (8, 8), 3)
    shown = member[:, :context] == roles.unsqueeze(1)
    assert (shown.sum(1) == 3).all()
    last = x[:, :context].where(shown, -torch.inf).amax(1)
    assert (last < x[:, context]).all()


def test_interpolation_asks_between_what_is_shown() -> None:
    x, _, context, *_ = arranged("interp", (40, 40), 20)
    first, last = x[:, context - 20 : context].aminmax(dim=1)
    inside = (x[:, context:] > first.unsqueeze(1)) & (x[:, context:] < last.unsqueeze(1))
    assert inside.float().mean() > 0.7


@pytest.mark.parametrize("regime", ["forecast", "interp"])
def test_context_is_one_sequence_after_the_other(regime: str) -> None:
    x, member, context, *_ = arranged(regime, (5, 6, 7), 2, role=1)
    assert member.tolist() == [[0] * 5 + [2] * 7 + [1] * 6] * 5
    for first, last in ((0, 5), (5, 12), (12, 14)):
        assert torch.equal(x[:, first:last].sort(1).values, x[:, first:last])
    assert context == 14


def test_full_inference_is_causal() -> None:
    x, member, context, drawn, roles = arranged("full_infer", (8, 8), 3)
    for task in range(5):
        role = int(roles[task])
        last = int((member[task, :context] == role).nonzero().max())
        head, rest = x[task, : last + 1], x[task, last + 1 : context]
        assert head.tolist() == sorted(drawn.x[task][drawn.x[task] <= head[-1]].tolist())
        assert rest.tolist() == sorted(rest.tolist())
        assert (member[task, last + 1 : context] != role).all()


def test_shuffle_mixes_all() -> None:
    x, member, context, drawn, _ = arranged("shuffle", (30, 30), 10)
    assert context == 20
    assert ((member[:, :context] == 0).sum(1) > 0).all()
    assert ((member[:, context:] == 0).sum(1) > 0).all()
    assert not torch.equal(x.sort(1).values, x)
    assert torch.equal(x.sort(1).values, drawn.x.sort(1).values)


def test_mixtures_take_each_of_theirs() -> None:
    def taken(*regimes: str) -> set[str]:
        return {choose(regimes, generator(0, i)) for i in range(60)}

    assert taken("forecast") == {"forecast"}
    assert taken("half_half") == {"full_infer", "shuffle"}
    assert taken("mix") == {"shuffle", "forecast", "interp"}
    assert taken("shuffle", "forecast") == {"shuffle", "forecast"}
    assert taken("half_half", "interp") == {"full_infer", "shuffle", "interp"}
