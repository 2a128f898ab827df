"""Small networks and tasks of sequence pairs."""

from inspect import signature
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily

from tabattn.pairs import NETWORKS, PairNetwork, TokenOptions

SIZES = {"dim": 16, "heads": 2, "hidden": 24, "layers": 3, "members": 3}


def choices(name: str, option: str, *values: object) -> list[dict[str, object]]:
    """Each value of an option that a network may have; nothing to choose where it has none."""
    return [{option: value} for value in values] if option in signature(NETWORKS[name]).parameters else [{}]


NORMS = {name: choices(name, "norm", "after", "before") for name in NETWORKS}
"""Which layers each network can have."""
CENTRED = {name: choices(name, "centred", False, True) for name in NETWORKS}
"""Which heights each network can count values from."""


class Task(NamedTuple):
    x: Tensor
    y: Tensor
    member: Tensor
    context: int


def task(points: int = 12, context: int = 7, batch: int = 2) -> Task:
    x = 4 * torch.rand(batch, points) - 2
    return Task(x, torch.randn(batch, points), torch.randint(0, 3, (batch, points)), context)


def built(name: str, **own: object) -> PairNetwork:
    """A network of small sizes, of which it need not have every one."""
    sizes = {size: value for size, value in SIZES.items() if size in signature(NETWORKS[name]).parameters}
    return NETWORKS[name](**{**sizes, **own})  # type: ignore[arg-type]


def awake(name: str = "TNPD", **own: object) -> PairNetwork:
    """A network whose weights are away from their initial zeros, so that each path carries something.

    Args:
        name: Its class.
        own: Its options; those of its tokens too.
    """
    tokens = {key: own.pop(key) for key in ("member_embed", "fourier", "distances", "relative") if key in own}
    network = built(name, **own, tokens=TokenOptions(**tokens))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def numbers(distribution: Distribution) -> Tensor:
    """All that makes a density, ``(batch, targets, any)``."""
    if isinstance(distribution, MixtureSameFamily):
        parts = distribution.component_distribution
        return torch.cat([distribution.mixture_distribution.probs, parts.loc, parts.scale], dim=-1)
    return torch.stack([distribution.loc, distribution.scale], dim=-1)


def close(a: Distribution, b: Distribution) -> None:
    torch.testing.assert_close(numbers(a), numbers(b), rtol=1e-4, atol=1e-5)


def apart(a: Distribution, b: Distribution) -> Tensor:
    """The largest difference at each target, ``(targets,)``."""
    return (numbers(a) - numbers(b)).abs().amax(dim=(0, 2))
