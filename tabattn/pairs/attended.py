"""Attention of a network along an inferred trajectory."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tabattn.attention import Mechanism
from tabattn.attention.capture import capture
from tabattn.nn.rows import ContextAttention
from tabattn.pairs.network import PairNetwork
from tabattn.pairs.trajectories import Trajectories


class Attended(NamedTuple):
    """Attention of a layer when it predicted one target.

    Attributes:
        step: Number of the target in the order of prediction, from 1.
        layer: Module path of the mechanism.
        weights: Attention weights, ``(heads, points)``, of the context points, then of the targets predicted before, in
            the order of prediction.
    """

    step: int
    layer: str
    weights: Tensor


def target_layers(network: PairNetwork, layers: str | None = None) -> dict[str, Mechanism]:
    """Mechanisms by which targets attend to known points, by module path.

    Args:
        network: The network.
        layers: Regular expression searched in module paths; None = the last layer alone.

    Raises:
        ValueError: It matches none.
    """
    modules = list(network.named_modules())
    outside = {id(module.outsiders) for _, module in modules if isinstance(module, ContextAttention)}
    found = {
        path: each for path, each in modules if isinstance(each, Mechanism) and (not outside or id(each) in outside)
    }
    chosen = list(found)[-1:] if layers is None else [path for path in found if re.search(layers, path)]
    if not chosen:
        raise ValueError(f"layers={layers!r} matches no layer in which targets attend; there are: {', '.join(found)}")
    return {path: found[path] for path in chosen}


@torch.no_grad()
def attended(
    network: PairNetwork, found: Trajectories, task: int, steps: int | Sequence[int], layers: str | None = None
) -> list[Attended]:
    """Record the attention of steps along the mean trajectory of a task, or along its first sample.

    Args:
        network: Network that drew the trajectories.
        found: The trajectories.
        task: Index of the task in the batch.
        steps: Most steps to record, from the first on; or the numbers of those to record, from 1, of which those behind
            the last target are left out.
        layers: Regular expression searched in module paths; None = the last layer.

    Returns:
        One entry for each step and layer, in this order.
    """
    values = (found.samples[0] if found.mean is None else found.mean)[task]
    path = found.path[task, : int(values.isfinite().sum())]
    wanted = set(range(1, steps + 1) if isinstance(steps, int) else steps)
    context = found.batch.context
    x, y, member = (part[task, None] for part in (found.batch.x, found.batch.y, found.batch.member))
    sampler = network.sampler(x[:, :context], y[:, :context], member[:, :context], context)
    paths = target_layers(network, layers)
    seen = []
    for step, target in enumerate(path.tolist()[: max(wanted, default=0)], 1):
        with capture(network, ("weights",) if step in wanted else (), items=1) as maps:
            sampler.step(x[:, context + target], member[:, context + target])
        for layer in paths if step in wanted else ():
            weights = maps[layer][-1].weights
            assert weights is not None
            seen.append(Attended(step, layer, weights[0, :, -1, : context + step - 1]))
        sampler.append(values[target, None])
    return seen
