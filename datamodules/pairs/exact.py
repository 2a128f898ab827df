"""Exact density of the targets of synthetic tasks, however these are laid out."""

from collections.abc import Iterable

import torch

from datamodules.pairs.gaussian import predict
from datamodules.pairs.kernels import Process
from tabattn.contract.batches import PairBatch
from tabattn.contract.views import ExactDensity


def exact(processes: Iterable[Process], batch: PairBatch) -> ExactDensity:
    """Posterior predictive density of each target given the context, by Gaussian process regression.

    Args:
        processes: Equally likely processes, each of all tasks, which are weighted by the likelihood of the context.
        batch: The tasks, on the CPU. A context point without a value is not read, padding is not predicted.

    Returns:
        The densities, NaN for padding.
    """
    known = list(processes)
    context, points = batch.context, batch.x.shape[1]
    there = torch.ones_like(batch.x, dtype=torch.bool) if batch.padding is None else ~batch.padding
    there = there & (batch.y.isfinite() | (torch.arange(points) >= context))
    means = torch.full((len(batch.x), points - context, len(known)), torch.nan, dtype=torch.double)
    stds, weights = means.clone(), torch.empty(len(batch.x), len(known), dtype=torch.double)
    for task, mine in enumerate(there):
        x, y, member = (part[task, None, mine] for part in (batch.x, batch.y.nan_to_num(), batch.member))
        count, one = int(mine[:context].sum()), slice(task, task + 1)
        found = [predict(process.tasks(one), x, y, member, count) for process in known]
        weights[task] = torch.cat([each.evidence for each in found]).softmax(0)
        means[task, mine[context:]] = torch.cat([each.mean for each in found]).T
        stds[task, mine[context:]] = torch.cat([each.variance for each in found]).sqrt().T
    return ExactDensity(weights, means, stds)
