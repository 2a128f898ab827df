"""Regimes: named splits of the points of a task into context and targets, and their order."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

FEW = 1
"""Fewest points of the sequence to infer that are context where training draws every number of them."""

Regime = Literal["shuffle", "full_infer", "half_half", "forecast", "interp", "mix"]

MIXTURES: dict[str, tuple[str, ...]] = {
    "half_half": ("full_infer", "shuffle"),
    "mix": ("shuffle", "forecast", "interp"),
}
"""Regimes that choose one of others for each batch, all equally likely."""


class Layout(NamedTuple):
    """Order of the points of each task.

    Attributes:
        order: Index of the point at each position, ``(batch, points)`` long.
        context: Number of leading points that are context.
    """

    order: Tensor
    context: int


class Drawn(NamedTuple):
    """Points to split by a regime.

    Attributes:
        x: Locations, ``(batch, points)``.
        member: Member of each point, ``(batch, points)``.
        inferred: Mask of the points of the sequences to infer, ``(batch, points)``; as many in each task.
        chance: Uniform random numbers, ``(batch, points)``.
        shown: Number of context points of each sequence to infer.
        total: Number of context points where these are of all sequences; None = on average ``shown`` of each.
    """

    x: Tensor
    member: Tensor
    inferred: Tensor
    chance: Tensor
    shown: int
    total: int | None = None


def choose(regimes: tuple[str, ...], source: Generator) -> str:
    """Draw the regime of a batch: one of several, and of a mixed one its component."""
    while regimes[0] in MIXTURES or len(regimes) > 1:
        regime = regimes[int(torch.randint(len(regimes), (), generator=source))]
        regimes = MIXTURES.get(regime, (regime,))
    return regimes[0]


def shuffle(drawn: Drawn, members: int) -> Layout:
    """Context: random points of all sequences, on average ``shown`` of each."""
    context = drawn.shown * members if drawn.total is None else drawn.total
    return Layout(drawn.chance.argsort(1), context)


def forecast(drawn: Drawn, members: int) -> Layout:
    """Context: the other sequences, then the first points of those to infer. Targets: their later points, in order."""
    return _complete(drawn, drawn.x, members)


def interp(drawn: Drawn, members: int) -> Layout:
    """Context: the other sequences, then random points of those to infer. Targets: their other points, in order."""
    return _complete(drawn, drawn.chance, members)


def full_infer(drawn: Drawn, members: int) -> Layout:
    """Forecast in causal order: all sequences up to the last context point, the rest of the others, the targets."""
    shown = _shown(drawn, drawn.x, members)
    last = drawn.x.where(shown, -torch.inf).amax(1, keepdim=True)
    stage = torch.where(drawn.x <= last, 0, 1).masked_fill(drawn.inferred & ~shown, 2)
    return _staged(drawn, stage, 2)


REGIMES: dict[str, Callable[[Drawn, int], Layout]] = {
    "shuffle": shuffle,
    "forecast": forecast,
    "interp": interp,
    "full_infer": full_infer,
}
"""Regimes by name: functions of ``Drawn`` and the number of members."""


def _shown(drawn: Drawn, key: Tensor, members: int) -> Tensor:
    """Mask of the context of each sequence to infer: its points with the smallest keys."""
    shown = torch.zeros_like(drawn.inferred)
    for member in range(members):
        own = drawn.inferred & (drawn.member == member)
        rank = key.where(own, torch.inf).argsort(1).argsort(1)
        shown |= own & (rank < drawn.shown)
    return shown


def _complete(drawn: Drawn, key: Tensor, members: int) -> Layout:
    """Layout: complete sequences one after the other, then the context of those to infer, then the targets."""
    shown = _shown(drawn, key, members)
    stage = drawn.member.masked_fill(drawn.inferred, members + 1).masked_fill(shown, members)
    return _staged(drawn, stage, members + 1)


def _staged(drawn: Drawn, stage: Tensor, last: int) -> Layout:
    """Layout: points by stage, sorted by location within each; the last stage are the targets."""
    order = drawn.x.argsort(1)
    order = order.gather(1, stage.gather(1, order).argsort(dim=1, stable=True))
    return Layout(order, int((stage[0] < last).sum()))
