"""Datamodule of in-context tasks cut from one real table."""

from typing import TYPE_CHECKING

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from datamodules.counter import CounterLoader, endless, shared
from datamodules.tables.source import Source
from tabattn.contract.batches import TableBatch
from tabattn.contract.checks import NotInCheckpoints, check_least

if TYPE_CHECKING:
    from datamodules.prior.cut import CutBatches

STREAMS = {"train": 1, "val": 2, "test": 3}
"""Numbers that give the tasks of each stage a stream of their own."""


class TableTasks(NotInCheckpoints, LightningDataModule):
    """In-context tasks cut from one real table, drawn during training.

    The rows are first split, stratified, into a training and a held-out part. Half of the held-out rows are targets in
    validation and the other half in the test; both may be context. Each task is scored alone, and the scores are
    averaged.

    Args:
        source: The table: ``sklearn:<name>``, ``openml:<id or name>`` or a file (csv, tsv, arff, parquet, each plain
            or with .gz); ``::<column>`` behind it names the target. From Python a DataFrame too.
        target: Target column; none = that of the source.
        num_tasks: Number of distinct training tasks; none = endless.
        val_tasks: Number of validation tasks.
        test_tasks: Number of test tasks.
        rows: Number of rows of a task.
        context: Number of context rows of a task.
        features: Number of columns of a task, drawn at random; none = all. A task has fewer where fewer vary in its
            context.
        permute_labels: Whether each training task permutes the class indices, so that the network must read the context
            and cannot memorise a classifier of this table.
        permute_columns: Whether each task permutes its columns.
        fixed_columns: Whether all tasks have the same columns.
        held_out: Share of the rows held out for validation and test.
        batch_size: Tasks in a batch (on each device).
        steps_per_epoch: Batches per epoch (on each device); validation may run at its end.
        cache_dir: Cache folder of OpenML; none = ``$OPENML_CACHE_DIR``, else OpenML's default.
        seed: Seed of the split and of the tasks.
        num_workers: Worker processes of the loaders; 0 = cut tasks in the training process.
    """

    batch = TableBatch

    def __init__(
        self,
        source: Source,
        target: str | None = None,
        num_tasks: int | None = None,
        val_tasks: int = 50,
        test_tasks: int = 150,
        rows: int = 100,
        context: int = 80,
        features: int | None = None,
        permute_labels: bool = True,
        permute_columns: bool = True,
        fixed_columns: bool = False,
        held_out: float = 0.3,
        batch_size: int = 32,
        steps_per_epoch: int = 100,
        cache_dir: str | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        from datamodules.prior.cut import CutOptions, TaskCutter, halves, split_rows
        from datamodules.tables.real import load_table

        super().__init__()
        check_least(
            num_tasks=(1 if num_tasks is None else num_tasks, 1),
            val_tasks=(val_tasks, 1),
            test_tasks=(test_tasks, 1),
            batch_size=(batch_size, 1),
            steps_per_epoch=(steps_per_epoch, 1),
            num_workers=(num_workers, 0),
        )
        table = load_table(source, target, cache_dir)
        options = CutOptions(rows, context, features, permute_labels, permute_columns, fixed_columns)
        train, held = split_rows(table, held_out, seed)
        scored = dict(zip(("val", "test"), halves(table, held, seed), strict=True))
        self.cutters = {
            stage: TaskCutter(table, train if stage == "train" else held, options, seed, number, scored.get(stage))
            for stage, number in STREAMS.items()
        }
        rank_zero_info(
            f"{table.name}: {len(train)} rows to train on; of the {len(held)} held out, {len(scored['val'])} are "
            f"scored in validation and the other {len(scored['test'])} in the test"
        )
        self.tasks = {"train": num_tasks, "val": val_tasks, "test": test_tasks}
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.num_workers = num_workers
        self.classes = len(table.classes)
        self.tables: tuple[str, ...] = ()

    def train_dataloader(self) -> CounterLoader:
        """Training loader: this rank's share of the stream of tasks."""
        return endless(self.trainer, self._batches("train"), self.steps_per_epoch, self.num_workers)

    def val_dataloader(self) -> DataLoader[TableBatch]:
        """Validation loader: this rank's share of the validation tasks."""
        return shared(self.trainer, self._batches("val"))

    def test_dataloader(self) -> DataLoader[TableBatch]:
        """Test loader: this rank's share of the test tasks."""
        return shared(self.trainer, self._batches("test"))

    predict_dataloader = test_dataloader

    def _batches(self, stage: str) -> "CutBatches":
        from datamodules.prior.cut import CutBatches

        return CutBatches(self.cutters[stage], self.batch_size, self.tasks[stage], scored=stage != "train")
