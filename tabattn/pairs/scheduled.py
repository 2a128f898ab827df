"""Scheduled sampling: training on context that the network predicted itself, as trajectories have."""

import torch

from tabattn.contract.batches import PairBatch
from tabattn.pairs.network import PairNetwork

LONG = 32
"""Fewest targets of a batch that is changed: over fewer, trajectories hardly drift."""


@torch.no_grad()
def scheduled(network: PairNetwork, batch: PairBatch, probability: float) -> PairBatch:
    """Scheduled sampling: with some probability, turn the first targets of a batch into context of predicted values.

    Their number is drawn from 1 to all but one, and their values from the densities that the network predicts for them
    in one pass. The remaining targets keep their true values. Bengio et al. 2015 (arXiv 1506.03099).

    Args:
        network: Network that predicts.
        batch: Tasks, with true values.
        probability: Probability that a batch is changed, between 0 and 1; one with fewer than ``LONG`` targets is
            not.

    Returns:
        The batch, with more context; missing values and padding stay missing.
    """
    targets = batch.x.shape[1] - batch.context
    if targets < LONG or torch.rand(()) >= probability:
        return batch
    context = batch.context + int(torch.randint(1, targets, ()))
    start = slice(batch.context, context)
    density = network(batch.x[:, :context], batch.y[:, :context], batch.member[:, :context], batch.context)
    y = batch.y.clone()
    y[:, start] = torch.where(y[:, start].isnan(), torch.nan, density.sample().to(y))
    return batch._replace(y=y, context=context)
