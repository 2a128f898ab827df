"""Layout of a task for inference: given sequences, context of the others, and targets."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tabattn.contract.batches import PairBatch
from tabattn.contract.errors import DataError
from tabattn.pairs.options import ALL, InferenceOptions


def lay_out(
    batch: PairBatch,
    options: InferenceOptions,
    generator: torch.Generator | None = None,
    inferred: Sequence[int] | None = None,
) -> PairBatch:
    """Reorder a batch for inference: given sequences, context points of the others, then targets.

    All points with known values take part, whether context or target in the batch. Shorter tasks are padded
    (``padding``). A batch of single sequences has no given one: the rest of each is inferred from its own context.

    Args:
        batch: The tasks.
        options: Options of the layout.
        generator: Random generator for ``consec=False``; None = torch's global one.
        inferred: Sequences that the data infers, which may be all: the others are given in tasks that have no complete
            one. None = all but the first.

    Returns:
        The tasks laid out, without an oracle.

    Raises:
        DataError: The batch lacks the sequence that is said to be given, or any other one, or has too few context
            points, or no targets.
    """
    known, index = batch.y.isfinite(), torch.arange(batch.x.shape[1], device=batch.x.device)
    # A target without a true value is still predicted; a context point without a value is like padding.
    exists = known | (index >= batch.context)
    if batch.padding is not None:
        exists &= ~batch.padding
    axis = batch.x if options.order else index.to(batch.x).expand_as(batch.x)
    rank = _ranks(axis.masked_fill(~exists, torch.inf))
    complete = _whole(batch, exists & (index >= batch.context), options.given_member, inferred)
    given, others = known & complete, exists & ~complete
    name = f"given_member={options.given_member}"
    if not given.any() and options.given_member is not None:
        raise DataError(f"{name}: no task of the batch has a known point of this member")
    if not others.any():
        raise DataError(f"{name}: the batch has no other sequence to infer")
    shown = _shown(batch, others, rank, options, generator)
    targets = others & ~shown
    if not targets.any():
        raise DataError(f"context_p={options.context_p} leaves no point to infer")
    group = torch.where(given, 0, torch.where(shown, 1, torch.where(targets, 2, 3)))
    sequence = (group * len(index) + rank).argsort(1)
    return _arrange(batch, sequence, (given | shown).sum(1), targets.sum(1), options)


def _whole(batch: PairBatch, targets: Tensor, given_member: int | None, inferred: Sequence[int] | None) -> Tensor:
    """Mask of the points of given sequences, those that are context as a whole, ``(batch, points)``."""
    if given_member is not None:
        return batch.member == given_member
    if (batch.member == batch.member[0, 0]).all():
        return torch.zeros_like(targets)
    numbers = torch.arange(int(batch.member.max()) + 1, device=batch.x.device)
    has_targets = ((batch.member[..., None] == numbers) & targets[..., None]).any(1)  # (batch, members)
    complete = ~has_targets.gather(1, batch.member)
    if inferred is None:
        others = batch.member == 0
    else:
        others = ~torch.isin(batch.member, torch.tensor(inferred, device=batch.member.device))
    return torch.where((complete & batch.y.isfinite()).any(1, keepdim=True), complete, others)


def _shown(
    batch: PairBatch, others: Tensor, rank: Tensor, options: InferenceOptions, generator: torch.Generator | None
) -> Tensor:
    """Mask of the context points among those of the sequences to infer, ``(batch, points)``."""
    known, shown = batch.y.isfinite(), torch.zeros_like(others)
    key, pool = _order(rank, options, generator)
    for number in batch.member[others].unique():
        mine = others & (batch.member == number)
        if options.context_p is None:
            known_before = known & (torch.arange(rank.shape[1], device=rank.device) < batch.context)
            shown |= _as_before(mine, known_before, key)
        else:
            shown |= _first(mine, known & pool, key, options, int(number))
    return shown


def _ranks(key: Tensor) -> Tensor:
    """Rank of each point among those of its task by a key, ``(batch, points)``; equal keys keep their order."""
    return key.argsort(dim=1, stable=True).argsort(1)


def _order(rank: Tensor, options: InferenceOptions, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Sort key by which context points are selected, and mask of the candidates, each ``(batch, points)``."""
    if options.consec:
        return rank.float(), torch.ones_like(rank, dtype=torch.bool)
    device = rank.device if generator is None else generator.device
    key = torch.rand(rank.shape, generator=generator, device=device)
    return key.to(rank.device), rank < options.pool


def _first(sequence: Tensor, candidates: Tensor, key: Tensor, options: InferenceOptions, number: int) -> Tensor:
    """Mask of the first ``context_p`` candidates of a sequence."""
    candidates, count = sequence & candidates, options.context_p or 0
    fewest = int(candidates.sum(1)[sequence.any(1)].min())
    if fewest < count:
        where = "" if options.consec else f" among the first {options.pool} of a task"
        raise DataError(
            f"context_p must be at most {fewest}, as many known points as member {number} has{where}, got {count}"
        )
    return candidates & (_ranks(key.masked_fill(~candidates, torch.inf)) < count)


def _as_before(sequence: Tensor, context: Tensor, key: Tensor) -> Tensor:
    """Mask of the context points of a sequence in the batch; the first quarter if all of its points are context."""
    context = sequence & context
    first_quarter = sequence & (_ranks(key.masked_fill(~sequence, torch.inf)) < sequence.sum(1, keepdim=True) // 4)
    return torch.where((context == sequence).all(1, keepdim=True), first_quarter, context)


def _arrange(
    batch: PairBatch, sequence: Tensor, contexts: Tensor, targets: Tensor, options: InferenceOptions
) -> PairBatch:
    """Gather the points of each task, context first and then targets, padded to one size."""
    if options.num_steps != ALL:
        targets = targets.clamp(max=options.num_steps)
    context = int(contexts.max())
    column = torch.arange(context + int(targets.max()), device=sequence.device)
    step = column - context
    exists = torch.where(step < 0, column < contexts[:, None], step < targets[:, None])
    source = torch.where(step < 0, column, step + contexts[:, None]).clamp(max=sequence.shape[1] - 1)
    chosen = sequence.gather(1, source)
    return PairBatch(
        x=batch.x.gather(1, chosen),
        y=batch.y.gather(1, chosen).masked_fill(~exists, torch.nan),
        member=batch.member.gather(1, chosen),
        context=context,
        padding=~exists,
        task=batch.task,
        process=batch.process,
    )
