"""Trajectories, drawn point after point."""

from typing import NamedTuple

import torch
from torch import Tensor

from tabattn.batches import PairBatch
from tabattn.inference.mixtures import components, quantiles
from tabattn.inference.options import InferenceOptions
from tabattn.models.pairs import PairNetwork

ROWS = 1024
"""Trajectories that are drawn at once; more wait for their turn."""


class Trajectories(NamedTuple):
    """What a network makes of the targets of tasks; NaN for a target that a task does not have.

    Attributes:
        batch: The tasks as they were laid out.
        mean: The trajectory that goes on from predicted means, ``(batch, targets)``; None where none was asked for.
        samples: Drawn trajectories, ``(samples, batch, targets)``.
        quantiles: Quantiles of each target at ``LEVELS``, ``(levels, batch, targets)``: those of the mixture of the
            densities that the drawn trajectories met, of the mean trajectory's where none was drawn.
    """

    batch: PairBatch
    mean: Tensor | None
    samples: Tensor
    quantiles: Tensor


@torch.no_grad()
def trajectories(
    network: PairNetwork,
    batch: PairBatch,
    options: InferenceOptions,
    generator: torch.Generator | None = None,
    rows: int = ROWS,
) -> Trajectories:
    """Draw trajectories of the targets, all tasks and all samples side by side.

    Args:
        network: Predicts one point after the other.
        batch: Tasks as ``lay_out`` returns them.
        options: What to draw.
        generator: Source of randomness; None = torch's own.
        rows: Most trajectories to draw at once: a bound on memory that changes no number.

    Returns:
        Values of the targets, in the order of the batch.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    x, member = batch.x[:, batch.context :], batch.member[:, batch.context :]
    there = member != options.given_member
    shape = (options.samples + options.mean, *x.shape)
    device = x.device if generator is None else generator.device
    chance = torch.rand((2, *shape), generator=generator, device=device).to(x)
    normal = torch.randn(shape, generator=generator, device=device).to(x)
    path = _paths(x, chance[1], there, options).flatten(0, 1)
    noise = torch.stack([chance[0], normal]).flatten(1, 2)
    noise[:, options.samples * len(x) :] = torch.nan  # The last trajectory, of means, draws nothing.
    parts = [
        _draw(network, batch, path[chosen], noise[:, chosen], chosen % len(x))
        for chosen in torch.arange(len(path), device=x.device).split(rows)
    ]
    values, weights, means, stds = (torch.cat(part).unflatten(0, shape[:2]) for part in zip(*parts, strict=True))
    values = values.masked_fill(~there, torch.nan)
    met = slice(options.samples) if options.samples else slice(None)
    bands = quantiles(*(part[met].movedim(0, 2).flatten(2) for part in (weights, means, stds)))
    return Trajectories(
        batch=batch,
        mean=values[-1] if options.mean else None,
        samples=values[: options.samples],
        quantiles=bands.masked_fill(~there, torch.nan),
    )


def _paths(x: Tensor, chance: Tensor, there: Tensor, options: InferenceOptions) -> Tensor:
    """Targets in the order in which they are predicted, ``(trajectories, batch, targets)``; padding comes last."""
    if options.path == "random":
        key = chance
    elif options.path == "left_to_right":
        key = x.expand_as(chance)
    else:
        key = torch.zeros_like(chance)
    return key.masked_fill(~there, torch.inf).argsort(dim=2, stable=True)


def _draw(
    network: PairNetwork, batch: PairBatch, path: Tensor, noise: Tensor, task: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw trajectories along paths ``(rows, targets)``, each through a task of its own.

    Returns:
        Values ``(rows, targets)``, and weights, means and deviations of the densities they come from,
        ``(rows, targets, components)``, in the order of the batch.
    """
    x, y, member = batch.x[task], batch.y[task], batch.member[task]
    context = batch.context
    sampler = network.sampler(x[:, :context], y[:, :context], member[:, :context], context)
    x, member, noise = (
        part.gather(-1, path.expand(part.shape)) for part in (x[:, context:], member[:, context:], noise)
    )
    steps = []
    for step in range(path.shape[1]):
        density = sampler.step(x[:, step], member[:, step])
        weights, means, stds = components(density)
        picked = (noise[0, :, step, None] > weights.cumsum(-1)[:, :-1]).sum(-1, keepdim=True)
        drawn = (means.gather(1, picked) + stds.gather(1, picked) * noise[1, :, step, None])[:, 0]
        values = torch.where(noise[1, :, step].isnan(), density.mean, drawn)
        steps.append((values, weights, means, stds))
        if step + 1 < path.shape[1]:
            sampler.append(values)
    back = path.argsort(1)
    values, *densities = (torch.stack(part, 1) for part in zip(*steps, strict=True))
    weights, means, stds = (part.gather(1, back[..., None].expand_as(part)) for part in densities)
    return values.gather(1, back), weights, means, stds
