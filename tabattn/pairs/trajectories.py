"""Trajectories: autoregressive inference of sequences."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tabattn.contract.batches import PairBatch
from tabattn.pairs.mixtures import components, quantiles
from tabattn.pairs.network import PairNetwork
from tabattn.pairs.options import InferenceOptions

CELLS = 2**25
"""Most entries of the attention maps of one head, over all trajectories of a forward pass."""


class Trajectories(NamedTuple):
    """Inferred trajectories of the targets of a batch; NaN where a task has no such target.

    Attributes:
        batch: The tasks as they were laid out.
        path: Order in which targets were predicted in the trajectory of means (of the first sample without one),
            ``(batch, targets)``: their indices, padding last.
        mean: Trajectory of means, ``(batch, targets)``; None if not requested.
        samples: Sampled trajectories, ``(samples, batch, targets)``.
        quantiles: Quantiles of each target at ``LEVELS``, ``(levels, batch, targets)``, of the mixture of the densities
            predicted along the sampled trajectories, or along that of means without samples.
    """

    batch: PairBatch
    path: Tensor
    mean: Tensor | None
    samples: Tensor
    quantiles: Tensor

    def select(self, tasks: Sequence[int]) -> "Trajectories":
        """Return the trajectories of some tasks of the batch, by their indices there."""
        chosen, batch = list(tasks), self.batch
        parts: dict[str, Any] = {name: part for name, part in batch._asdict().items() if isinstance(part, Tensor)}
        laid = batch._replace(**{name: part[chosen] for name, part in parts.items()}, oracle=None)
        mean = None if self.mean is None else self.mean[chosen]
        return Trajectories(laid, self.path[chosen], mean, self.samples[:, chosen], self.quantiles[:, chosen])


@torch.no_grad()
def trajectories(
    network: PairNetwork,
    batch: PairBatch,
    options: InferenceOptions,
    generator: torch.Generator | None = None,
    rows: int | None = None,
) -> Trajectories:
    """Infer trajectories of the targets, all tasks and samples in one batch.

    Args:
        network: Network that predicts one target after another.
        batch: Tasks as ``lay_out`` returns them.
        options: Options of inference.
        generator: Random generator; None = torch's global one.
        rows: Most trajectories per forward pass, which bounds memory and changes no result; None = by the size of
            attention maps.

    Returns:
        The trajectories, with targets in the order of the batch.
    """
    if rows is not None and rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    rows = rows or max(1, CELLS // batch.x.shape[1] ** 2)
    path, noise = _plan(batch, options, generator)
    parts = [
        _draw(network, batch, path[chosen], noise[:, chosen], chosen % len(batch.x))
        for chosen in torch.arange(len(path), device=path.device).split(rows)
    ]
    values, *densities = (torch.cat(part).unflatten(0, (-1, len(batch.x))) for part in zip(*parts, strict=True))
    exists = asked(batch)
    values = values.masked_fill(~exists, torch.nan)
    drawn = slice(options.samples) if options.samples else slice(None)
    bands = quantiles(*(part[drawn].movedim(0, 2).flatten(2) for part in densities))
    return Trajectories(
        batch=batch,
        path=path[-len(batch.x) :] if options.mean else path[: len(batch.x)],
        mean=values[-1] if options.mean else None,
        samples=values[: options.samples],
        quantiles=bands.masked_fill(~exists, torch.nan),
    )


def asked(batch: PairBatch) -> Tensor:
    """Mask of the targets that are not padding, ``(batch, targets)`` boolean."""
    targets = batch.x[:, batch.context :]
    return torch.ones_like(targets, dtype=torch.bool) if batch.padding is None else ~batch.padding[:, batch.context :]


def _plan(batch: PairBatch, options: InferenceOptions, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Draw everything random in the trajectories: for each one, the order of prediction and the noise, for all tasks.

    Returns:
        Targets in the order in which they are predicted, ``(trajectories, targets)``, padding last; and the noise
        of each value, ``(2, trajectories, targets)``: a uniform number that selects a mixture component, and a normal
        one. NaN = the mean is taken.
    """
    x = batch.x[:, batch.context :]
    exists = asked(batch)
    shape = (options.samples + options.mean, *x.shape)
    device = x.device if generator is None else generator.device
    uniform, order = torch.rand((2, *shape), generator=generator, device=device).to(x)
    normal = torch.randn(shape, generator=generator, device=device).to(x)
    normal[options.samples :] = torch.nan
    if options.path != "random":
        order = (x if options.path == "left_to_right" else torch.zeros_like(x)).expand(shape)
    path = order.masked_fill(~exists, torch.inf).argsort(dim=2, stable=True)
    return path.flatten(0, 1), torch.stack([uniform, normal]).flatten(1, 2)


def _draw(
    network: PairNetwork, batch: PairBatch, path: Tensor, noise: Tensor, task: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw a trajectory for each row, along paths ``(rows, targets)``, in the tasks ``task``.

    Returns:
        Values ``(rows, targets)``, and weights, means and standard deviations of the densities they come from, ``(rows,
        targets, components)``, in the order of the batch.
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
