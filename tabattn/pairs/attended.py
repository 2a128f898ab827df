"""What a network looks at while it infers a sequence."""

from typing import NamedTuple

import torch
from torch import Tensor

from tabattn.attention.capture import capture
from tabattn.pairs.network import PairNetwork
from tabattn.pairs.trajectories import Trajectories


class Attended(NamedTuple):
    """What the last layer looked at when it predicted one point.

    Attributes:
        layer: Module path of its mechanism.
        weights: Weight of every known point, ``(heads, points)``: those of the context in their order, then those
            predicted before in the order of the path.
    """

    layer: str
    weights: Tensor


@torch.no_grad()
def attended(network: PairNetwork, found: Trajectories, task: int, steps: int) -> list[Attended]:
    """Follow the mean trajectory of a task, or its first sample where there is none, and watch every step of its path.

    Args:
        network: The network that drew the trajectories.
        found: The trajectories.
        task: Which task of the batch.
        steps: Most steps to watch, counted from the first.

    Returns:
        One entry for each step; the points it knew are the context and those predicted before.
    """
    values = (found.samples[0] if found.mean is None else found.mean)[task]
    path = found.path[task, : min(steps, int(values.isfinite().sum()))]
    context = found.batch.context
    x, y, member = (part[task, None] for part in (found.batch.x, found.batch.y, found.batch.member))
    sampler = network.sampler(x[:, :context], y[:, :context], member[:, :context], context)
    seen = []
    for step, target in enumerate(path.tolist()):
        with capture(network, items=1) as maps:
            sampler.step(x[:, context + target], member[:, context + target])
        layer, records = [(path, records) for path, records in maps.items() if records][-1]
        weights = records[-1].weights
        assert weights is not None
        seen.append(Attended(layer, weights[0, :, -1, : context + step]))
        sampler.append(values[target, None])
    return seen
