"""Training on the tasks of a prior dump, an HDF5 file."""

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.checks import check_least, check_shares
from datamodules.counter import CounterLoader, Numbered, endless, place, shared
from datamodules.dump.read import Dump, DumpBatches
from datamodules.tables.real import Folds, load_tables
from tabattn.batches import TableBatch


class PriorDump(LightningDataModule):
    """Tasks of an HDF5 file for training: ours, nanoTabPFN's or TFM-Playground's.

    Batches hold tasks of equal size; every epoch visits all of them in an order that is a function of (seed, epoch).
    Validation and test take the tasks of other files, each scored alone and averaged, or folds of real tables.

    Args:
        path: File with the tasks to train on.
        val_path: File with the tasks to validate on; none = the real tables.
        test_path: File with the tasks to test on; none = those of validation.
        batch_size: Most tasks in a batch (on each device).
        steps_per_epoch: Batches in an epoch (on each device), after which validation may run; none = the whole file.
        resample_context: Smallest and largest share of context rows, drawn anew for each training batch, which is
            legal because rows are exchangeable; none = the stored split.
        tables: Real tables for validation and test: ``sklearn:<name>``, ``openml:<id or name>`` or a file;
            ``::<column>`` behind it names the target.
        folds: Stratified folds of each real table; the first half of them, rounded down, is for validation, the others
            are for test and prediction, so that no row is scored by both.
        max_rows: Most rows of a real table; larger ones are sampled, stratified.
        seed: Seed of the order of batches, of new splits and of the folds.
        num_workers: Processes that read batches ahead; 0 = in the training process.
    """

    batch = TableBatch

    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        batch_size: int = 32,
        steps_per_epoch: int | None = None,
        resample_context: tuple[float, float] | None = None,
        tables: tuple[str, ...] = ("sklearn:breast_cancer", "sklearn:wine", "sklearn:iris"),
        folds: int = 5,
        max_rows: int = 1000,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        check_least(batch_size=(batch_size, 1), steps_per_epoch=(1 if steps_per_epoch is None else steps_per_epoch, 1))
        check_least(num_workers=(num_workers, 0), max_rows=(max_rows, 10))
        if resample_context is not None:
            check_shares("resample_context", resample_context)
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.num_workers = num_workers
        self.batches = DumpBatches(Dump(path), batch_size, seed, resample_context)
        self.val_batches = self._scored(val_path)
        self.test_batches = self.val_batches if test_path is None else self._scored(test_path)
        unused = self.val_batches is not None
        self.real = [] if unused else load_tables(tables, max_rows, seed)
        self.folds = Folds.of(self.real, folds, seed)

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the real tables, in the order of ``TableBatch.table``; none where tasks of a file are scored."""
        testing = self.trainer is not None and (self.trainer.testing or self.trainer.predicting)
        scored = self.test_batches if testing else self.val_batches
        return () if scored is not None else tuple(table.name for table in self.real)

    @property
    def classes(self) -> int:
        """Most classes a model will meet here."""
        dumps = [batches.dump for batches in (self.batches, self.val_batches, self.test_batches) if batches is not None]
        return max([dump.sizes.classes for dump in dumps] + [len(table.classes) for table in self.real])

    def train_dataloader(self) -> CounterLoader:
        """This rank's part of the file, epoch after epoch."""
        steps = self.steps_per_epoch or max(1, len(self.batches) // place(self.trainer)[1])
        return endless(self.trainer, self.batches, steps, self.num_workers)

    def val_dataloader(self) -> DataLoader[TableBatch]:
        """This rank's part of the tasks to validate on, or of the folds."""
        return self._slice(self.val_batches, self.folds.val)

    def test_dataloader(self) -> DataLoader[TableBatch]:
        """This rank's part of the tasks to test on, or of the folds."""
        return self._slice(self.test_batches, self.folds.test)

    predict_dataloader = test_dataloader

    def _scored(self, path: str | None) -> DumpBatches | None:
        return None if path is None else DumpBatches(Dump(path), self.batch_size, seed=None)

    def _slice(self, batches: DumpBatches | None, folds: list[TableBatch]) -> DataLoader[TableBatch]:
        items: Numbered[TableBatch] = folds if batches is None else batches
        return shared(self.trainer, items)
