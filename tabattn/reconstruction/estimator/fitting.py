"""Fitting of an ensemble: splits of the rows, trainings, and the contexts of predictions."""

import numpy as np
import torch
from numpy.typing import NDArray

from tabattn.contract.cells import Column
from tabattn.optim.fitting import settled
from tabattn.reconstruction.estimator.batches import BORROWED, HeldOutRows, Hiding, TrainingRows, contexts_of
from tabattn.reconstruction.estimator.cells import held_out
from tabattn.reconstruction.estimator.members import Members
from tabattn.reconstruction.estimator.training import Training, train

SEED_STEP = 1000
"""Distance between the seeds of two members."""


@settled()
def fit_members(
    training: Training,
    columns: tuple[Column, ...],
    cells: NDArray[np.float32],
    labels: list[int],
    classes: NDArray[np.int64] | None,
    share: float,
    members: int,
    context_rows: int,
    seed: int,
) -> tuple[Members, list[list[float]]]:
    """Train the members, each with its own split, initial weights and batches.

    Args:
        training: How they are trained.
        columns: The columns.
        cells: Standardised cells, ``(rows, columns)``; NaN = missing.
        labels: Places of the columns to predict; none = all columns are alike.
        classes: Class of each row; None = there are none.
        share: Share of the rows that validate.
        members: Number of members.
        context_rows: Most rows of a context.
        seed: Seed.

    Returns:
        The members, and the validation losses of each.
    """
    truth = torch.from_numpy(cells)
    codes = None if classes is None else torch.from_numpy(classes)
    settings = training.settings
    asked = torch.zeros(len(columns), dtype=torch.bool)
    asked[labels] = True
    hiding = Hiding.of(truth, settings.hidden, 0.0 if labels else BORROWED)
    networks, histories = [], []
    for member in range(members):
        own = seed + SEED_STEP * member
        learned, val = held_out(len(truth), classes, share, own % 2**32)
        batches = TrainingRows(truth, learned, asked, codes, hiding, settings.targets, settings.rows, own)
        context = contexts_of(learned, codes, context_rows, 1, own)[0]
        hidden = asked.expand(1, len(val), -1) if labels else hiding.held_out(len(val), own)
        scored = HeldOutRows(truth, context, val, hidden, context_rows)
        some = bool((hidden & ~truth[val].isnan()).any())
        network, history = train(training, columns, (learned, truth[learned]), batches, scored if some else None, own)
        networks.append(network)
        histories.append(history)
    contexts = contexts_of(torch.arange(len(truth)), codes, context_rows, settings.partitions, seed)
    return Members(networks, columns, truth, contexts), histories
