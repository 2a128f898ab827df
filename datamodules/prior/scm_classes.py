"""Class labels of synthetic tables: intervals of one score, or regions of several nodes."""

import torch
from torch import Generator, Tensor

from datamodules.draws import integer, uniform
from datamodules.prior.scm_layers import standardise
from datamodules.prior.scm_options import ClassOptions

FEWEST = 4
"""Rows of a class below which its classes are made more equal."""


def cut_classes(score: Tensor, classes: int, generator: Generator, options: ClassOptions) -> Tensor:
    """Ordered classes: a score is cut into intervals of random size, some classes getting several."""
    pieces = classes
    if uniform(0, 1, generator) < 0.3:
        pieces = classes * integer(1, 3, generator)
    share = torch.exp(uniform(0, options.imbalance, generator) * torch.randn(pieces, generator=generator))
    edges = (share.cumsum(0) / share.sum())[:-1]
    score = score + 1e-6 * torch.randn(score.shape, generator=generator)
    bounds = torch.quantile(score, edges)
    piece = torch.bucketize(score, bounds)
    deal = torch.cat([torch.randperm(classes, generator=generator) for _ in range(pieces // classes)])
    return deal[piece]


def region_classes(nodes: Tensor, classes: int, generator: Generator, options: ClassOptions) -> Tensor:
    """Unordered classes: each row gets the class with the largest of several scores.

    The scores are random projections of a few nodes, or closeness to prototypes that are rows of the table.

    Args:
        nodes: All nodes of a random network, ``(rows, nodes)``.
        classes: Number of classes.
        generator: Source of all randomness.
        options: Options of the prior, of which ``imbalance`` is used.

    Returns:
        Class indices, ``(rows,)``.
    """
    rows, total = nodes.shape
    picked = torch.randperm(total, generator=generator)[: integer(2, max(2, min(total, 12)), generator)]
    space = standardise(nodes[:, picked])
    if uniform(0, 1, generator) < 0.5:
        scores = standardise(space @ torch.randn(len(picked), classes, generator=generator))
    else:
        each = integer(1, 3, generator)
        prototypes = space[torch.randint(0, rows, (each * classes,), generator=generator)]
        closeness = -(space[:, None] - prototypes).square().sum(2)
        scores = standardise(closeness.unflatten(1, (each, classes)).amax(1))
    scores = scores + uniform(0, 0.3, generator) ** 2 * torch.randn(scores.shape, generator=generator)
    favour = uniform(0, 0.5 * options.imbalance, generator) * torch.randn(classes, generator=generator)
    y = (scores + favour).argmax(1)
    # A class that hardly ever wins would make the table be drawn anew.
    return y if int(torch.bincount(y, minlength=classes).min()) >= FEWEST else scores.argmax(1)
