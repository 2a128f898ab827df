"""Abstract datamodule of tables with hidden cells: its loaders."""

from typing import TYPE_CHECKING

from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.counter import CounterLoader, Seed, Seeds, endless, shared
from tabattn.contract.cells import CellBatch, Column
from tabattn.contract.checks import NotInCheckpoints, check_least

if TYPE_CHECKING:
    from datamodules.reconstruction.batches import Cells


class CellLoaders(NotInCheckpoints, LightningDataModule):
    """Abstract datamodule whose batches are cut from one table, ``cells``, which a subclass sets.

    Args:
        steps_per_epoch: Batches per epoch (on each device).
        seed: Seed of all that is random.
        num_workers: Worker processes of the training loader; 0 = hide cells in the training process.
    """

    batch = CellBatch
    cells: "Cells"
    """The table, with the roles of its rows."""

    def __init__(self, steps_per_epoch: int, seed: Seed, num_workers: int) -> None:
        super().__init__()
        check_least(steps_per_epoch=(steps_per_epoch, 1), num_workers=(num_workers, 0))
        self.steps_per_epoch = steps_per_epoch
        self.seeds = Seeds.of(seed)
        self.num_workers = num_workers

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table."""
        return self.cells.columns

    @property
    def roles(self) -> Tensor:
        """Role of each row, ``(rows,)``."""
        return self.cells.roles

    @property
    def learned(self) -> tuple[Tensor, Tensor] | None:
        """Numbers and true cells of the training rows; None where batches pair rows and labels otherwise (lookups)."""
        from datamodules.reconstruction.splits import TRAIN

        rows = self.cells.of(TRAIN)
        return None if self.cells.context.lookup.copies else (rows, self.cells.truth[rows])

    def train_dataloader(self) -> CounterLoader:
        """Training loader: this rank's share of the stream of batches."""
        from datamodules.reconstruction.batches import TrainingBatches

        batches = TrainingBatches(self.cells._replace(seed=self.seeds.training))
        return endless(self.trainer, batches, self.steps_per_epoch, self.num_workers)

    def val_dataloader(self) -> DataLoader[CellBatch]:
        """Validation loader: this rank's share of the validation rows."""
        return self._scored("val")

    def test_dataloader(self) -> DataLoader[CellBatch]:
        """Test loader: this rank's share of the test rows."""
        return self._scored("test")

    predict_dataloader = test_dataloader

    def _scored(self, stage: str) -> DataLoader[CellBatch]:
        from datamodules.reconstruction.batches import ScoredBatches

        return shared(self.trainer, ScoredBatches(self.cells, stage))
