"""Masking: which cells of a table are hidden from the network, and which are in the loss."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from datamodules.reconstruction.options import MaskOptions
from datamodules.reconstruction.splits import TEST, TRAIN, VAL

STAGES = {"train": TRAIN, "val": VAL, "test": TEST}


class Masks(NamedTuple):
    """Masks of a table, ``(rows, columns)`` boolean each.

    Attributes:
        hidden: Cells whose mask slot is set.
        random: Cells that get a random value instead.
        scored: Cells in the loss.
    """

    hidden: Tensor
    random: Tensor
    scored: Tensor


def mask_cells(
    present: Tensor,
    targets: Tensor,
    roles: Tensor,
    stage: str,
    options: MaskOptions,
    generator: Generator,
    *,
    told: bool = False,
    groups: Tensor | None = None,
) -> Masks:
    """Mask the cells of a table for a stage: Kossen et al. 2021 (arXiv 2106.02584), section 2.3 and appendix C.

    In training, feature cells are drawn with probability ``options.features``, and target cells of training rows with
    probability ``options.targets``; of the drawn ones a share ``options.randomised`` gets a random value, the rest its
    mask slot. Targets of validation and test rows are always hidden, but for those of validation rows in the test where
    ``told`` names them. A probability of 1 hides the targets of all rows in every stage. Cells with a random
    value are scored too; missing cells are hidden, and never scored.

    Args:
        present: Cells that are not missing, ``(rows, columns)``.
        targets: Which columns are targets, ``(columns,)``.
        roles: Role of each row, ``(rows,)``.
        stage: ``train``, ``val`` or ``test``: the role whose targets are in the loss.
        options: Probabilities.
        generator: Source of randomness.
        told: Whether the targets of validation rows are seen in the test.
        groups: Number of the group of each column, ``(columns,)``, whose cells are drawn together; None = each is drawn
            apart.
    """
    role = STAGES[stage]
    feature = present & ~targets
    target = present & targets
    drawn = torch.zeros_like(present)
    seen = (roles == TRAIN) | (roles == VAL) if stage == "test" and told else roles == TRAIN
    later = target & ~seen[:, None]
    if stage == "train":
        drawn = feature & (_draws(present, groups, generator) < (options.features or 0.0))
        drawn |= _draw_targets(target & (roles == TRAIN)[:, None], options.targets, generator)
    elif options.targets == 1:
        later = target
    random = drawn & (_draws(present, groups, generator) < options.randomised)
    if options.targets == 1:
        random &= ~targets
    scored = drawn if stage == "train" else target & (roles == role)[:, None]
    return Masks(~present | later | (drawn & ~random), random, scored)


def _draws(cells: Tensor, groups: Tensor | None, generator: Generator) -> Tensor:
    """Uniform draw for each cell, the same for the cells of a row in one group, ``(rows, columns)``."""
    if groups is None:
        return torch.rand(cells.shape, generator=generator)
    return torch.rand(len(cells), int(groups.max()) + 1, generator=generator)[:, groups]


def _draw_targets(candidates: Tensor, probability: float, generator: Generator) -> Tensor:
    """Draw target cells; at least one, so that every batch has a loss, unless the probability is 0."""
    draws = torch.rand(candidates.shape, generator=generator)
    drawn = candidates & (draws < probability)
    if probability and not drawn.any():
        drawn = candidates & (draws == draws[candidates].min()) if candidates.any() else drawn
    return drawn
