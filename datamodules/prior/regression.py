"""Datamodule of synthetic regression tables for training, and real ones for validation and test."""

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from datamodules.counter import CounterLoader, Seed, Seeds, endless, generator, shared
from datamodules.draws import chance, integer, log_integer, uniform
from datamodules.prior.options import DEFAULT_BATCHES, DEFAULT_FOLDS, BatchOptions, FoldEvaluation
from datamodules.prior.scm import draw_regression_table
from datamodules.prior.scm_options import DEFAULT_OPTIONS, ScmOptions
from datamodules.prior.synthetic import TableSizes
from datamodules.tables.source import Source
from tabattn.contract.batches import RegressionBatch
from tabattn.contract.checks import NotInCheckpoints, check_least, check_range, check_shares

LEAST_CONTEXT = 4
"""Fewest context rows of a table, and fewest target rows."""


class RegressionBatches(Dataset[RegressionBatch]):
    """Batch i of synthetic regression tables, a function of (seed, i): its size, and each of its tables.

    Args:
        sizes: Ranges of table sizes; that of classes is not used.
        options: Options of the prior.
        batch_size: Most tables in a batch.
        packing: Options of the batches.
        seed: Seed of the stream.
    """

    def __init__(
        self, sizes: TableSizes, options: ScmOptions, batch_size: int, packing: BatchOptions, seed: int
    ) -> None:
        self.sizes = sizes
        self.options = options
        self.batch_size = batch_size
        self.packing = packing
        self.seed = seed

    def __getitem__(self, index: int) -> RegressionBatch:
        size = generator(self.seed, index)
        grow = self.packing.grow
        sizes = self.sizes.grown(index / grow) if index < grow else self.sizes
        rows = log_integer(*sizes.rows, size)
        features = (log_integer if chance(self.options.columns.narrow, size) else integer)(*sizes.features, size)
        context = round(uniform(*sizes.context, size) * rows)
        context = min(max(context, LEAST_CONTEXT), rows - LEAST_CONTEXT)
        count = max(1, min(self.batch_size, self.packing.max_cells // (rows * features)))
        tables = [
            draw_regression_table(rows, features, context, generator(self.seed, index, task), self.options)
            for task in range(count)
        ]
        x, y = (torch.stack(part) for part in zip(*tables, strict=True))
        return RegressionBatch(x, y, context)


class SyntheticRegression(NotInCheckpoints, LightningDataModule):
    """Endless synthetic regression tables for training; folds of real tables for validation and test.

    Table i is a function of (seed, i), whatever the workers, ranks and resumes.

    Args:
        batch_size: Most tables in a batch (on each device).
        steps_per_epoch: Batches per epoch; validation may run at its end.
        rows: Fewest and most rows of a table (small ones likelier).
        features: Fewest and most features.
        context: Smallest and largest share of context rows.
        scm: Options of the prior; of those of classes, ``unrelated`` alone is used.
        batches: Options of the batches; ``views`` must be 1.
        tables: Real tables for validation and test, whose target is a number: ``sklearn:diabetes``, ``openml:<id or
            name>`` or a file (csv, tsv, arff, parquet, each plain or with .gz); ``::<column>`` behind it names the
            target, else it is the last column. From Python frames too.
        evaluation: Options of validation and test on the real tables; folds are not stratified.
        seed: Seed of the tables and of the folds; of two, the second is that of the training tables alone.
        num_workers: Worker processes of the loaders; 0 = draw tables in the training process.
    """

    batch = RegressionBatch

    def __init__(
        self,
        batch_size: int = 32,
        steps_per_epoch: int = 100,
        rows: tuple[int, int] = (30, 200),
        features: tuple[int, int] = (2, 12),
        context: tuple[float, float] = (0.3, 0.9),
        *,
        scm: ScmOptions = DEFAULT_OPTIONS,
        batches: BatchOptions = DEFAULT_BATCHES,
        tables: tuple[Source, ...] = ("sklearn:diabetes",),
        evaluation: FoldEvaluation = DEFAULT_FOLDS,
        seed: Seed = 0,
        num_workers: int = 0,
    ) -> None:
        from datamodules.tables.numbers import fold_batches, load_number_table

        super().__init__()
        check_range("rows", rows, 2 * LEAST_CONTEXT)
        check_range("features", features, 1)
        check_shares("context", context)
        check_least(batch_size=(batch_size, 1), steps_per_epoch=(steps_per_epoch, 1), num_workers=(num_workers, 0))
        if batches.views != 1:
            raise ValueError(f"batches.views must be 1 for regression, got {batches.views}")
        sizes = TableSizes(rows, features, context=context)
        scored, training = Seeds.of(seed)
        self.batches = RegressionBatches(sizes, scm, batch_size, batches, training)
        self.steps_per_epoch = steps_per_epoch
        self.num_workers = num_workers
        self.real = [load_number_table(source, evaluation.max_rows, scored) for source in tables]
        folds = [list(fold_batches(table, index, evaluation.folds, scored)) for index, table in enumerate(self.real)]
        half = evaluation.folds // 2
        self.val = [batch for each in folds for _, batch in each[:half]]
        self.test = [batch for each in folds for _, batch in each[half:]]
        self.rows = [rows for each in folds for rows, _ in each[half:]]

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the real tables, in the order of ``RegressionBatch.table``."""
        return tuple(table.name for table in self.real)

    def column_names(self, table: int) -> tuple[str, ...]:
        """Column names of a real table, by its index."""
        return self.real[table].features

    def target_rows(self, number: int) -> NDArray[np.int64]:
        """Target rows of a prediction batch, by its number: indices into the real table."""
        return self.rows[number]

    def train_dataloader(self) -> CounterLoader:
        """Training loader: this rank's share of an endless stream."""
        return endless(self.trainer, self.batches, self.steps_per_epoch, self.num_workers)

    def val_dataloader(self) -> DataLoader[RegressionBatch]:
        """Validation loader: this rank's share of the validation folds."""
        return shared(self.trainer, self.val)

    def test_dataloader(self) -> DataLoader[RegressionBatch]:
        """Test loader: this rank's share of the test folds."""
        return shared(self.trainer, self.test)

    predict_dataloader = test_dataloader
