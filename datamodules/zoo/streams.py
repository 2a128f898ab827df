"""Counter-based random numbers in bulk: each is a function of its counters, on any device and in any order."""

import torch
from torch import Tensor

_MIX = -0x61C8864680B583EB
_FIRST, _SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""Constants of SplitMix64 (Steele et al. 2014), as signed numbers."""

INIT, BATCH, DEPTH, WIDTH, ACTIVATION, BIAS, SKIP, SPARSE, RATE = range(9)
"""Uses of randomness in a run, each with a stream of its own."""


def bits(*counters: Tensor | int) -> Tensor:
    """Hash counters of shapes that broadcast, of type long; it is cheapest with the large ones last."""
    state = torch.zeros((), dtype=torch.long)
    for counter in counters:
        if isinstance(counter, Tensor):
            state = state.to(counter.device)
        state = _mixed(state + counter + _MIX)
    return state


def uniform(*counters: Tensor | int) -> Tensor:
    """Return uniform numbers in [0, 1), double."""
    return (_shifted(bits(*counters), 11)).double() * 2.0**-53


def below(bound: Tensor | int, *counters: Tensor | int) -> Tensor:
    """Return uniform whole numbers from 0 to below a bound, long."""
    return _shifted(bits(*counters), 1) % bound


def _mixed(state: Tensor) -> Tensor:
    state = (state ^ _shifted(state, 30)) * _FIRST
    state = (state ^ _shifted(state, 27)) * _SECOND
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, places: int) -> Tensor:
    """Shift to the right, zeros coming in."""
    return (state >> places) & ((1 << (64 - places)) - 1)
