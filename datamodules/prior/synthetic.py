"""Datamodule of synthetic tables for training, and real ones for validation and test."""

from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from datamodules.counter import CounterLoader, Seed, Seeds, endless, generator, shared
from datamodules.draws import chance, integer, log_integer, uniform
from datamodules.prior.options import DEFAULT_BATCHES, DEFAULT_FOLDS, FOLD_MOVES, BatchOptions, FoldEvaluation
from datamodules.prior.scm import another_view, draw_table
from datamodules.prior.scm_options import DEFAULT_OPTIONS, ScmOptions
from datamodules.tables.source import Source
from tabattn.contract.batches import TableBatch
from tabattn.contract.checks import NotInCheckpoints, check_least, check_range, check_shares
from tabattn.storage.earlier import Movable

MOVED = {
    **{name: f"batches.{name}" for name in ("max_cells", "grow", "views")},
    **{f"scm.{name}": f"scm.{path}" for name, path in ScmOptions.moved.items()},
    **FOLD_MOVES,
}
"""Path of each earlier argument of ``SyntheticPrior``."""


class TableSizes(NamedTuple):
    """Ranges of table sizes, both ends included; one size for all tables of a batch."""

    rows: tuple[int, int] = (30, 120)
    features: tuple[int, int] = (2, 12)
    classes: tuple[int, int] = (2, 3)
    context: tuple[float, float] = (0.3, 0.9)

    def grown(self, share: float) -> "TableSizes":
        """Ranges whose upper ends grow from twice the lower ones (share 0) to their own (share 1): a curriculum."""

        def most(bounds: tuple[int, int]) -> tuple[int, int]:
            least = min(bounds[1], 2 * bounds[0])
            return bounds[0], round(least + (bounds[1] - least) * share**2)

        return self._replace(rows=most(self.rows), features=most(self.features), classes=most(self.classes))


def fewest_rows(classes: int) -> int:
    """Fewest context rows, and target rows, for a number of classes: 3 of each class, 2 of two classes."""
    return 4 if classes == 2 else 3 * classes


class ScmBatches(Dataset[TableBatch]):
    """Batch i of synthetic tables, a function of (seed, i): its size, and each of its tables.

    Args:
        sizes: Ranges of table sizes.
        options: Options of the prior.
        batch_size: Most tables in a batch.
        max_cells: Most cells in a batch; larger tables come in smaller batches.
        grow: Curriculum: batches over which the largest sizes grow from small ones to their own.
        seed: Seed of the stream.
        views: Views of each table in its batch, each with other context rows, and with columns and classes permuted.
    """

    def __init__(
        self,
        sizes: TableSizes,
        options: ScmOptions,
        batch_size: int,
        max_cells: int,
        grow: int,
        seed: int,
        views: int = 1,
    ) -> None:
        self.sizes = sizes
        self.options = options
        self.batch_size = batch_size
        self.max_cells = max_cells
        self.grow = grow
        self.seed = seed
        self.views = views

    def __getitem__(self, index: int) -> TableBatch:
        size = generator(self.seed, index)
        sizes = self.sizes.grown(index / self.grow) if index < self.grow else self.sizes
        rows = log_integer(*sizes.rows, size)
        features = (log_integer if chance(self.options.columns.narrow, size) else integer)(*sizes.features, size)
        margin = fewest_rows(sizes.classes[0])
        context = min(max(round(uniform(*sizes.context, size) * rows), margin), rows - margin)
        most = max(2, min(sizes.classes[1], min(context, rows - context) // 3))
        count = max(1, min(self.batch_size, self.max_cells // (rows * features)))
        tables = []
        for task in range(max(1, count // self.views)):
            source = generator(self.seed, index, task)
            least = min(sizes.classes[0], most)
            classes = (integer if chance(self.options.classes.many, source) else log_integer)(least, most, source)
            table = draw_table(rows, features, classes, context, source, self.options)
            views = (another_view(table, classes, context, source) for _ in range(min(count, self.views) - 1))
            tables += [table, *views]
        x, y = (torch.stack(part) for part in zip(*tables, strict=True))
        return TableBatch(x, y, context)


class SyntheticPrior(Movable, NotInCheckpoints, LightningDataModule):
    """Endless synthetic classification tables for training; folds of real tables for validation and test.

    Table i is a function of (seed, i), whatever the workers, ranks and resumes.

    Args:
        batch_size: Most tables in a batch (on each device).
        steps_per_epoch: Batches per epoch; validation may run at its end.
        rows: Fewest and most rows of a table (small ones likelier).
        features: Fewest and most features.
        classes: Fewest and most classes (few likelier); at most a third of the context rows and of the target rows.
        context: Smallest and largest share of context rows, as far as context and targets can hold all classes.
        scm: Options of the prior.
        batches: Options of the batches: how large, and views of each table.
        tables: Real tables for validation and test: ``sklearn:<name>``, ``openml:<id or name>`` or a file (csv, tsv,
            arff, parquet, each plain or with .gz); ``::<column>`` behind it names the target; from Python frames too.
        evaluation: Options of validation and test on the real tables.
        seed: Seed of the tables and of the folds; of two, the second is that of the tables alone.
        num_workers: Worker processes of the loaders; 0 = draw tables in the training process.
    """

    batch = TableBatch
    moved = MOVED

    def __init__(
        self,
        batch_size: int = 32,
        steps_per_epoch: int = 100,
        rows: tuple[int, int] = (30, 120),
        features: tuple[int, int] = (2, 12),
        classes: tuple[int, int] = (2, 3),
        context: tuple[float, float] = (0.3, 0.9),
        *,
        scm: ScmOptions = DEFAULT_OPTIONS,
        batches: BatchOptions = DEFAULT_BATCHES,
        tables: tuple[Source, ...] = ("sklearn:breast_cancer", "sklearn:wine", "sklearn:iris"),
        evaluation: FoldEvaluation = DEFAULT_FOLDS,
        seed: Seed = 0,
        num_workers: int = 0,
    ) -> None:
        from datamodules.tables.real import Folds, load_tables

        super().__init__()
        check_range("rows", rows, 4)
        check_range("features", features, 1)
        check_range("classes", classes, 2)
        check_shares("context", context)
        check_least(batch_size=(batch_size, 1), steps_per_epoch=(steps_per_epoch, 1), num_workers=(num_workers, 0))
        if rows[0] < 2 * (side := fewest_rows(classes[0])):
            raise ValueError(f"rows must be at least {2 * side} to hold {classes[0]} classes, got {rows[0]}")
        self.sizes = TableSizes(rows, features, classes, context)
        self.options = scm
        self.batch_size = batch_size
        self.packing = batches
        self.steps_per_epoch = steps_per_epoch
        self.seeds = Seeds.of(seed)
        self.num_workers = num_workers
        self.real = load_tables(tables, evaluation.max_rows, self.seeds.scored)
        self.folds = Folds.of(self.real, evaluation.folds, self.seeds.scored)

    def class_names(self, table: int) -> tuple[str, ...]:
        """Class names of a real table, by its index."""
        return self.real[table].classes

    def target_rows(self, number: int) -> NDArray[np.int64]:
        """Target rows of a prediction batch, by its number: indices into the real table."""
        return self.folds.rows[number]

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the real tables, in the order of ``TableBatch.table``."""
        return tuple(table.name for table in self.real)

    def column_names(self, table: int) -> tuple[str, ...]:
        """Column names of a real table, by its index."""
        return self.real[table].features

    @property
    def classes(self) -> int:
        """Largest number of classes of any table here."""
        return max([self.sizes.classes[1], *(len(table.classes) for table in self.real)])

    def train_dataloader(self) -> CounterLoader:
        """Training loader: this rank's share of an endless stream."""
        cells, grow, views = self.packing.max_cells, self.packing.grow, self.packing.views
        batches = ScmBatches(self.sizes, self.options, self.batch_size, cells, grow, self.seeds.training, views)
        return endless(self.trainer, batches, self.steps_per_epoch, self.num_workers)

    def val_dataloader(self) -> DataLoader[TableBatch]:
        """Validation loader: this rank's share of the validation folds."""
        return shared(self.trainer, self.folds.val)

    def test_dataloader(self) -> DataLoader[TableBatch]:
        """Test loader: this rank's share of the test folds."""
        return shared(self.trainer, self.folds.test)

    predict_dataloader = test_dataloader
