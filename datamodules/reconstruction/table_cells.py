"""Datamodule of one real table whose hidden cells are to be reconstructed."""

from typing import TYPE_CHECKING

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from datamodules.counter import CounterLoader, endless, shared
from datamodules.reconstruction.options import (
    DEFAULT_CONTEXT,
    DEFAULT_MASKS,
    DEFAULT_SPLIT,
    ContextOptions,
    MaskOptions,
    SplitOptions,
)
from datamodules.tables.source import Source
from tabattn.contract.cells import CellBatch
from tabattn.contract.checks import NotInCheckpoints, check_least

if TYPE_CHECKING:
    from datamodules.reconstruction.read import Prepared


class TableCells(NotInCheckpoints, LightningDataModule):
    """One real table, some of whose cells are hidden: features in training, and targets of held-out rows.

    The rows are split into training, validation and test rows. Means, standard deviations and categories are those of
    the training rows, unless ``context.transductive``.

    Args:
        table: The table: ``sklearn:<name>``, ``openml:<id or name>``, ``poker:<hands>`` (generated) or a file (csv,
            tsv, arff, parquet, each plain or with .gz); ``::<column>`` behind it names the target. From Python a
            DataFrame too.
        target: Target columns; none = that of the source.
        split: Options of the split into training, validation and test rows.
        masks: Options of hidden cells.
        context: Options of the rows that are seen together.
        drop: Columns to leave out.
        steps_per_epoch: Batches per epoch (on each device); validation may run at its end.
        cache_dir: Cache folder of OpenML; none = ``$OPENML_CACHE_DIR``, else OpenML's default.
        seed: Seed of the split, the batches and the hidden cells.
        num_workers: Worker processes of the training loader; 0 = hide cells in the training process.
    """

    batch = CellBatch

    def __init__(
        self,
        table: Source = "sklearn:breast_cancer",
        target: str | tuple[str, ...] | None = None,
        *,
        split: SplitOptions = DEFAULT_SPLIT,
        masks: MaskOptions = DEFAULT_MASKS,
        context: ContextOptions = DEFAULT_CONTEXT,
        drop: tuple[str, ...] = (),
        steps_per_epoch: int = 50,
        cache_dir: str | None = None,
        seed: int = 42,
        num_workers: int = 0,
    ) -> None:
        from datamodules.reconstruction.read import prepare

        super().__init__()
        check_least(steps_per_epoch=(steps_per_epoch, 1), num_workers=(num_workers, 0))
        names = (target,) if isinstance(target, str) else tuple(target or ())
        self.prepared: Prepared = prepare(table, names, tuple(drop), cache_dir, split, masks, context, seed)
        self.columns = self.prepared.cells.columns
        self.duplicated = self.prepared.duplicated
        self.roles = self.prepared.cells.roles
        self.steps_per_epoch = steps_per_epoch
        self.num_workers = num_workers
        rank_zero_info(self.prepared.told())

    def train_dataloader(self) -> CounterLoader:
        """Training loader: this rank's share of the stream of batches."""
        from datamodules.reconstruction.batches import TrainingBatches

        return endless(self.trainer, TrainingBatches(self.prepared.cells), self.steps_per_epoch, self.num_workers)

    def val_dataloader(self) -> DataLoader[CellBatch]:
        """Validation loader: this rank's share of the validation rows."""
        return self._scored("val")

    def test_dataloader(self) -> DataLoader[CellBatch]:
        """Test loader: this rank's share of the test rows."""
        return self._scored("test")

    predict_dataloader = test_dataloader

    def _scored(self, stage: str) -> DataLoader[CellBatch]:
        from datamodules.reconstruction.batches import ScoredBatches

        return shared(self.trainer, ScoredBatches(self.prepared.cells, stage))
