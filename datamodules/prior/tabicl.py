"""Datamodule of TabICL's priors: synthetic tables drawn by the package ``tabicl``."""

import importlib
import random
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from datamodules.counter import CounterLoader, Seed, Seeds, endless, generator, shared
from datamodules.prior.labels import answerable
from datamodules.prior.options import DEFAULT_FOLDS, FOLD_MOVES, FoldEvaluation
from datamodules.tables.source import Source
from tabattn.contract.batches import TableBatch
from tabattn.contract.checks import NotInCheckpoints, check_least, check_range, check_shares
from tabattn.contract.errors import DataError
from tabattn.contract.extras import remedy
from tabattn.storage.earlier import Movable

MOST_DRAWS = 10
"""Draws of a batch before its sizes count as impossible."""

TabiclKind = Literal["mlp_scm", "tree_scm", "mix_scm", "graph_scm"]
"""TabICL's priors: networks, trees, both, and random graphs."""


class TabiclBatches(Dataset[TableBatch]):
    """Batch i of tables of one size and split, a function of (seed, i).

    Args:
        kind: Which prior.
        rows: Fewest and most rows of a table.
        features: Fewest and most features.
        classes: Most classes.
        context: Smallest and largest share of context rows.
        batch_size: Tables in a batch.
        seed: Seed of the stream.

    Raises:
        ValueError: A size is out of its bounds.
        DataError: The package is not installed.
    """

    def __init__(
        self,
        kind: TabiclKind,
        rows: tuple[int, int],
        features: tuple[int, int],
        classes: int,
        context: tuple[float, float],
        batch_size: int,
        seed: int,
    ) -> None:
        check_range("rows", rows, 4)
        check_range("features", features, 1)
        check_shares("context", context)
        check_least(classes=(classes, 2), batch_size=(batch_size, 1))
        self.seed = seed
        self.arguments: dict[str, Any] = {
            "prior_type": kind,
            "batch_size": batch_size,
            "batch_size_per_gp": batch_size,
            "min_seq_len": rows[0],
            "max_seq_len": rows[1] + 1,
            "min_features": features[0],
            "max_features": features[1],
            "max_classes": classes,
            "min_train_size": context[0],
            "max_train_size": context[1],
            "n_jobs": 1,
        }
        self.prior: Any = None
        _package()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "prior": None}

    def __getitem__(self, index: int) -> TableBatch:
        for draw in range(MOST_DRAWS):
            batch = self._draw(generator(self.seed, index, draw).initial_seed() % 2**32)
            if int(answerable(batch.y, batch.context, self.arguments["max_classes"]).min()) >= 0:
                return batch
        raise DataError(f"TabICL's {self.arguments['prior_type']} finds no tables that fit: try larger ones")

    def _draw(self, seed: int) -> TableBatch:
        # The package draws from the global generators of three libraries; each is left as it was found.
        states = random.getstate(), np.random.get_state()  # noqa: NPY002
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            try:
                if self.prior is None:
                    self.prior = _package().PriorDataset(**self.arguments)
                x, y, widths, lengths, contexts = self.prior.get_batch()
            finally:
                random.setstate(states[0])
                np.random.set_state(states[1])  # noqa: NPY002
        rows, width = int(lengths[0]), int(widths.max())
        columns = widths.long() if int(widths.min()) < width else None
        return TableBatch(x[:, :rows, :width].float(), y[:, :rows].long(), int(contexts[0]), columns)


class TabiclPrior(Movable, NotInCheckpoints, LightningDataModule):
    """Endless synthetic tables of TabICL's priors for training; folds of real tables for validation and test.

    Needs the extra ``priors``. Drawing is slower than for ``SyntheticPrior``: write a dump once, or use worker
    processes.

    Args:
        kind: Which prior: networks, trees, both, or random graphs.
        batch_size: Tables in a batch (on each device).
        steps_per_epoch: Batches per epoch; validation may run at its end.
        rows: Fewest and most rows of a table.
        features: Fewest and most features.
        classes: Most classes.
        context: Smallest and largest share of context rows.
        tables: Real tables for validation and test, by their sources.
        evaluation: Options of validation and test on the real tables.
        seed: Seed of the tables and of the folds; of two, the second is that of the tables alone.
        num_workers: Worker processes of the loaders; 0 = draw tables in the training process.
    """

    batch = TableBatch
    moved = FOLD_MOVES

    def __init__(
        self,
        kind: TabiclKind = "mix_scm",
        batch_size: int = 32,
        steps_per_epoch: int = 100,
        rows: tuple[int, int] = (30, 120),
        features: tuple[int, int] = (2, 12),
        classes: int = 3,
        context: tuple[float, float] = (0.3, 0.9),
        tables: tuple[Source, ...] = ("sklearn:breast_cancer", "sklearn:wine", "sklearn:iris"),
        *,
        evaluation: FoldEvaluation = DEFAULT_FOLDS,
        seed: Seed = 0,
        num_workers: int = 2,
    ) -> None:
        from datamodules.tables.real import Folds, load_tables

        super().__init__()
        check_least(steps_per_epoch=(steps_per_epoch, 1), num_workers=(num_workers, 0))
        seeds = Seeds.of(seed)
        self.batches = TabiclBatches(kind, rows, features, classes, context, batch_size, seeds.training)
        self.steps_per_epoch = steps_per_epoch
        self.num_workers = num_workers
        self.real = load_tables(tables, evaluation.max_rows, seeds.scored)
        self.classes = max([classes, *(len(table.classes) for table in self.real)])
        self.folds = Folds.of(self.real, evaluation.folds, seeds.scored)

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

    def train_dataloader(self) -> CounterLoader:
        """Training loader: this rank's share of an endless stream."""
        return endless(self.trainer, self.batches, self.steps_per_epoch, self.num_workers)

    def val_dataloader(self) -> DataLoader[TableBatch]:
        """Validation loader: this rank's share of the validation folds."""
        return shared(self.trainer, self.folds.val)

    def test_dataloader(self) -> DataLoader[TableBatch]:
        """Test loader: this rank's share of the test folds."""
        return shared(self.trainer, self.folds.test)

    predict_dataloader = test_dataloader


def _package() -> Any:
    try:
        return importlib.import_module("tabicl.prior")
    except ImportError as ex:
        raise DataError(f"TabICL's priors need more packages ({ex}): {remedy('tabicl')}") from ex
