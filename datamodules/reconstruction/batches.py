"""Batches of a table with hidden cells: item i is a function of (seed, i)."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.utils.data import Dataset

from datamodules.counter import generator
from datamodules.reconstruction.masks import STAGES, Masks, mask_cells
from datamodules.reconstruction.options import ContextOptions, MaskOptions
from datamodules.reconstruction.splits import TEST, TRAIN, VAL
from tabattn.contract.cells import CellBatch, Column

STREAMS = {"order": 11, "train": 1, "val": 2, "test": 3}
"""Numbers that give each use of randomness a stream of its own."""


class Cells(NamedTuple):
    """Table to cut batches from.

    Attributes:
        truth: Standardised numbers and indices of categories, ``(rows, columns)`` float; NaN = missing.
        roles: Role of each row, ``(rows,)`` long.
        columns: The columns.
        classes: Class of each row, by which training rows are balanced, ``(rows,)``; None = they are not.
        masks: Options of hidden cells.
        context: Options of rows seen together.
        seed: Seed of all batches.
    """

    truth: Tensor
    roles: Tensor
    columns: tuple[Column, ...]
    classes: NDArray[np.int64] | None
    masks: MaskOptions
    context: ContextOptions
    seed: int

    @property
    def targets(self) -> Tensor:
        """Which columns are targets, ``(columns,)`` boolean."""
        return torch.tensor([column.target for column in self.columns])

    @property
    def groups(self) -> Tensor | None:
        """Number of the group of each column, ``(columns,)``; None = no column is in a group."""
        if not any(column.group for column in self.columns):
            return None
        numbers: dict[tuple[str, int], int] = {}
        keys = [(column.group, 0 if column.group else place) for place, column in enumerate(self.columns)]
        return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])

    def of(self, *roles: int) -> Tensor:
        """Numbers of the rows of some roles."""
        return torch.isin(self.roles, torch.tensor(roles)).nonzero()[:, 0]

    def batch(self, rows: Tensor, context: int, stage: str, source: Generator, *, apart: bool) -> CellBatch:
        """Hide cells of rows.

        Args:
            rows: Numbers of the rows, context rows first, ``(rows,)``.
            context: Number of context rows.
            stage: ``train``, ``val`` or ``test``.
            source: Source of randomness.
            apart: Whether to make rows of which a target is hidden the rows behind the context, if there are others.
        """
        truth = self.truth[rows]
        if stage == "train" and self.context.lookup.shuffled:
            other = torch.randperm(len(rows), generator=source)
            truth = torch.where(self.targets, truth[other], truth)
        present = ~truth.isnan()
        told = self.context.val_labels
        roles, groups = self.roles[rows], self.groups
        masks = mask_cells(present, self.targets, roles, stage, self.masks, source, told=told, groups=groups)
        lookup = self.context.lookup.copies
        if apart and not lookup:
            asked = ((masks.hidden | masks.random) & present)[:, self.targets].any(1)
            if asked.any() and not asked.all():
                order = torch.argsort(asked.long(), stable=True)
                rows, truth, context = rows[order], truth[order], int((~asked).sum())
                masks = Masks(*(part[order] for part in masks))
        x = torch.where(masks.random, self._random(truth.shape, source), truth)
        x = torch.where(masks.hidden, 0.0, x)
        batch = CellBatch(x[None], masks.hidden[None], truth[None], masks.scored[None], context, rows[None])
        return self._with_copies(batch, source) if lookup else batch

    def _with_copies(self, batch: CellBatch, source: Generator) -> CellBatch:
        """Put a copy of all rows, with nothing hidden, before those behind the context, or all if there are none."""
        options, rows = self.context.lookup, batch.x.shape[1]
        asked = slice(0 if batch.context == rows else batch.context, None)
        own = batch.x, batch.hidden, batch.truth, batch.scored, batch.row
        x, hidden, truth, scored, row = (part[:, asked] for part in own)
        missing = batch.truth.isnan()
        copies = batch.truth.nan_to_num(0.0)
        numeric = torch.tensor([not column.categories for column in self.columns])
        copies = torch.where(numeric & self.targets & ~missing, copies + options.added, copies)
        x, hidden = torch.cat([copies, x], 1), torch.cat([missing, hidden], 1)
        scored = torch.cat([torch.zeros_like(missing), scored], 1)
        if options.random:
            noise = (~self.targets).nonzero()[-options.random :, 0]
            random = torch.where(hidden, 0.0, self._random(x.shape, source))
            x[:, :, noise], scored[:, :, noise] = random[:, :, noise], False
        context = x.shape[1] if self.context.transductive else rows
        return CellBatch(x, hidden, torch.cat([batch.truth, truth], 1), scored, context, torch.cat([batch.row, row], 1))

    def _random(self, shape: torch.Size, source: Generator) -> Tensor:
        """Random values: standard normal numbers, and uniform categories."""
        normal = torch.randn(shape, generator=source)
        counts = torch.tensor([len(column.categories) for column in self.columns])
        uniform = (torch.rand(shape, generator=source) * counts).floor()
        return torch.where(counts > 0, uniform, normal)


class TrainingBatches(Dataset[CellBatch]):
    """Endless training batches: each epoch partitions the rows anew, and draws new masks.

    Args:
        cells: The table.
    """

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self.rows = cells.of(TRAIN, VAL, TEST) if cells.context.transductive else cells.of(TRAIN)
        most = cells.context.rows
        self.parts = 1 if most is None else -(-len(self.rows) // most)

    def __len__(self) -> int:
        """Batches in an epoch, in which each row occurs once."""
        return self.parts

    def __getitem__(self, index: int) -> CellBatch:
        epoch, part = divmod(index, self.parts)
        rows = self._order(epoch)[part :: self.parts]
        source = generator(self.cells.seed, STREAMS["train"], index)
        apart = not self.cells.context.transductive
        return self.cells.batch(rows, len(rows), "train", source, apart=apart)

    def _order(self, epoch: int) -> Tensor:
        """Rows in random order; every ``parts``-th has nearly the shares of roles, and of classes, of all."""
        if self.parts == 1:
            return self.rows
        source = generator(self.cells.seed, STREAMS["order"], epoch)
        rows = self.rows[torch.randperm(len(self.rows), generator=source)]
        strata = self.cells.roles[rows].clone()
        if self.cells.classes is not None and self.cells.context.balanced:
            classes = torch.as_tensor(self.cells.classes)[rows]
            strata = torch.where(strata == TRAIN, -1 - classes, strata)
        return rows[torch.argsort(strata, stable=True)]


class ScoredBatches(Dataset[CellBatch]):
    """Batches to score or predict: each row of a role once, behind several contexts if one holds not all rows.

    Args:
        cells: The table.
        stage: ``val`` or ``test``.
    """

    def __init__(self, cells: Cells, stage: str) -> None:
        self.cells = cells
        self.stage = stage
        self.asked = cells.of(STAGES[stage])
        told = [TRAIN, *([VAL] if stage == "test" and cells.context.val_labels else [])]
        others = {TRAIN, VAL, TEST} - {STAGES[stage]} if cells.context.transductive else told
        self.known = cells.of(*others)
        most = cells.context.rows
        whole = most is None or len(self.known) + len(self.asked) <= most
        self.chunk = len(self.asked) if whole or most is None else max(1, min(len(self.asked), most // 2))
        self.room = len(self.known) if whole or most is None else min(len(self.known), most - self.chunk)
        self.partitions = 1 if self.room == len(self.known) else cells.context.partitions

    def __len__(self) -> int:
        return -(-len(self.asked) // self.chunk)

    def __getitem__(self, index: int) -> CellBatch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        asked = self.asked[index * self.chunk : (index + 1) * self.chunk]
        parts = [self._part(index, turn, asked) for turn in range(self.partitions)]
        x, hidden, truth, scored, row = (
            torch.cat(list(each))
            for each in zip(*((part.x, part.hidden, part.truth, part.scored, part.row) for part in parts), strict=True)
        )
        return CellBatch(x, hidden, truth, scored, parts[0].context, row, len(asked))

    def _part(self, index: int, turn: int, asked: Tensor) -> CellBatch:
        source = generator(self.cells.seed, STREAMS[self.stage], index, turn)
        known = self.known
        if self.room < len(known):
            known = known[torch.randperm(len(known), generator=source)[: self.room].sort().values]
        rows = torch.cat([known, asked])
        context = len(rows) if self.cells.context.transductive else len(known)
        return self.cells.batch(rows, context, self.stage, source, apart=False)
