"""Datamodule of prior dumps: HDF5 files of in-context tasks."""

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from datamodules.counter import CounterLoader, Numbered, Seed, Seeds, endless, generator, place, shared
from datamodules.prior.dump.read import Dump, DumpBatches, Ints
from datamodules.prior.options import DEFAULT_FOLDS, FOLD_MOVES, FoldEvaluation
from datamodules.tables.source import Source
from tabattn.contract.batches import TableBatch
from tabattn.contract.checks import NotInCheckpoints, check_least, check_shares
from tabattn.storage.earlier import Movable


class PriorDump(Movable, NotInCheckpoints, LightningDataModule):
    """Prior dump: in-context tasks of an HDF5 file in this package's, nanoTabPFN's or TFM-Playground's format.

    Batches hold tasks of equal size; every epoch visits all of them in an order that is a function of (seed, epoch).
    Validation and test take the tasks of other files, each scored alone and averaged, or folds of real tables.

    Args:
        path: Prior dump to train on.
        val_path: Prior dump to validate on; none = the real tables.
        test_path: Prior dump to test on; none = that of ``val_path``, else the real tables.
        batch_size: Most tasks in a batch (on each device).
        steps_per_epoch: Batches per epoch (on each device); validation may run at its end; none = the whole file.
        resample_context: Smallest and largest share of context rows, drawn for each training batch (rows are
            exchangeable); none = the stored split.
        tables: Real tables for validation and test: ``sklearn:<name>``, ``openml:<id or name>`` or a file;
            ``::<column>`` behind it names the target; from Python DataFrames too.
        evaluation: Options of validation and test on the real tables.
        seed: Seed of the order of batches, of resampled contexts and of the folds; of two, the second is that of the
            training batches alone.
        num_workers: Worker processes of the loaders; 0 = read in the training process.
        apart: Whether training, validation and test take disjoint tasks of a file named for several of them: a random
            half for training (if it is), equal numbers for validation and test. If false, each takes all tasks of its
            file.

    Raises:
        ValueError: A file has fewer tasks than parts.
    """

    batch = TableBatch
    moved = FOLD_MOVES

    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        batch_size: int = 32,
        steps_per_epoch: int | None = None,
        resample_context: tuple[float, float] | None = None,
        tables: tuple[Source, ...] = ("sklearn:breast_cancer", "sklearn:wine", "sklearn:iris"),
        *,
        evaluation: FoldEvaluation = DEFAULT_FOLDS,
        seed: Seed = 0,
        num_workers: int = 0,
        apart: bool = True,
    ) -> None:
        from datamodules.tables.real import Folds, load_tables

        super().__init__()
        check_least(batch_size=(batch_size, 1), steps_per_epoch=(1 if steps_per_epoch is None else steps_per_epoch, 1))
        check_least(num_workers=(num_workers, 0))
        if resample_context is not None:
            check_shares("resample_context", resample_context)
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.num_workers = num_workers
        seeds = Seeds.of(seed)
        test_path = test_path or val_path
        paths = {"training": path, "validation": val_path, "test": test_path}
        tasks = _shared_out({purpose: each for purpose, each in paths.items() if each}, seeds.scored) if apart else {}
        self.batches = DumpBatches(Dump(path), batch_size, seeds.training, resample_context, tasks.get("training"))
        self.val_batches = self._scored(val_path, tasks.get("validation"))
        self.test_batches = self._scored(test_path, tasks.get("test"))
        unused = self.val_batches is not None
        self.real = [] if unused else load_tables(tables, evaluation.max_rows, seeds.scored)
        self.folds = Folds.of(self.real, evaluation.folds, seeds.scored)

    def class_names(self, table: int) -> tuple[str, ...]:
        """Class names of a real table, by its index."""
        return self.real[table].classes

    def target_rows(self, number: int) -> NDArray[np.int64] | None:
        """Target rows of a prediction batch, by its number: indices into the real table."""
        return self.folds.rows[number] if self.test_batches is None else None

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the real tables, in the order of ``TableBatch.table``; none where tasks of a file are scored."""
        testing = self.trainer is not None and (self.trainer.testing or self.trainer.predicting)
        scored = self.test_batches if testing else self.val_batches
        return () if scored is not None else tuple(table.name for table in self.real)

    @property
    def classes(self) -> int:
        """Largest number of classes of any table here."""
        dumps = [batches.dump for batches in (self.batches, self.val_batches, self.test_batches) if batches is not None]
        return max([dump.sizes.classes for dump in dumps] + [len(table.classes) for table in self.real])

    def train_dataloader(self) -> CounterLoader:
        """Training loader: this rank's share of the file, epoch after epoch."""
        steps = self.steps_per_epoch or max(1, len(self.batches) // place(self.trainer)[1])
        return endless(self.trainer, self.batches, steps, self.num_workers)

    def val_dataloader(self) -> DataLoader[TableBatch]:
        """Validation loader: this rank's share of the validation tasks, or of the folds."""
        return self._slice(self.val_batches, self.folds.val)

    def test_dataloader(self) -> DataLoader[TableBatch]:
        """Test loader: this rank's share of the test tasks, or of the folds."""
        return self._slice(self.test_batches, self.folds.test)

    predict_dataloader = test_dataloader

    def _scored(self, path: str | None, tasks: Ints | None) -> DumpBatches | None:
        return None if path is None else DumpBatches(Dump(path), self.batch_size, seed=None, tasks=tasks)

    def _slice(self, batches: DumpBatches | None, folds: list[TableBatch]) -> DataLoader[TableBatch]:
        items: Numbered[TableBatch] = folds if batches is None else batches
        return shared(self.trainer, items)


def _shared_out(paths: dict[str, str], seed: int) -> dict[str, Ints]:
    """Share out the tasks of each file that serves several purposes, at random; in rising order.

    Args:
        paths: The file of each purpose.
        seed: Seed of the shares.

    Returns:
        Numbers of the tasks of each purpose that does not have a file of its own.

    Raises:
        ValueError: A file has fewer tasks than parts.
    """
    served: dict[Path, list[str]] = {}
    for purpose, path in paths.items():
        served.setdefault(Path(path).resolve(), []).append(purpose)
    shares = {}
    for purposes in served.values():
        if len(purposes) == 1:
            continue
        dump = Dump(paths[purposes[0]])
        count, named = len(dump), f"{', '.join(purposes[:-1])} and {purposes[-1]}"
        if count < len(purposes):
            tasks = "1 task" if count == 1 else f"{count} tasks"
            raise ValueError(
                f"{dump.path} has {tasks}, which cannot be shared by {named}: name other files, or share none by "
                "apart=false"
            )
        mixed = torch.randperm(count, generator=generator(seed, 2)).numpy()
        for purpose, part in zip(purposes, np.split(mixed, _bounds(count, len(purposes))), strict=True):
            shares[purpose] = np.sort(part)
        told = " and ".join(f"{len(shares[purpose])} for {purpose}" for purpose in purposes)
        rank_zero_info(f"{dump.path} serves {named}, and no task two of them: {told}")
    return shares


def _bounds(count: int, purposes: int) -> list[int]:
    """Where the first of two or three shares ends, and where the second: a half of all, a half of the rest."""
    half = count // 2
    return [half] if purposes == 2 else [half, half + (count - half) // 2]
