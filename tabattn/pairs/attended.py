"""Attention of a network along an inferred trajectory."""

from typing import NamedTuple

import torch
from torch import Tensor

from tabattn.attention.capture import capture
from tabattn.pairs.network import PairNetwork
from tabattn.pairs.trajectories import Trajectories


class Attended(NamedTuple):
    """Attention of the last layer when it predicted one target.

    Attributes:
        layer: Module path of its mechanism.
        weights: Attention weights, ``(heads, points)``, of the context points, then of the targets predicted before, in
            the order of prediction.
    """

    layer: str
    weights: Tensor


@torch.no_grad()
def attended(network: PairNetwork, found: Trajectories, task: int, steps: int) -> list[Attended]:
    """Record the attention of each step along the mean trajectory of a task, or along its first sample.

    Args:
        network: Network that drew the trajectories.
        found: The trajectories.
        task: Index of the task in the batch.
        steps: Most steps to record, from the first on.

    Returns:
        One entry for each step.
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
