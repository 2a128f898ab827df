"""Datamodule of in-context tasks cut from one real table."""

from typing import TYPE_CHECKING

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from datamodules.counter import CounterLoader, Seed, Seeds, endless, shared
from datamodules.prior.options import (
    DEFAULT_DRAWS,
    DEFAULT_EVALUATION,
    DEFAULT_READING,
    TASK_MOVES,
    DrawOptions,
    ReadingOptions,
    TaskEvaluation,
)
from datamodules.tables.source import Source
from tabattn.contract.batches import TableBatch
from tabattn.contract.checks import NotInCheckpoints, check_least
from tabattn.storage.earlier import Movable

if TYPE_CHECKING:
    from datamodules.prior.cut import CutBatches, CutOptions, TaskCutter
    from datamodules.tables.real import RealTable

STREAMS = {"train": 1, "val": 2, "test": 3}
"""Numbers that give the tasks of each stage a stream of their own."""


class TableTasks(Movable, NotInCheckpoints, LightningDataModule):
    """In-context tasks cut from one real table, drawn during training.

    The rows are first split, stratified, into a training and a held-out part. Half of the held-out rows are targets in
    validation and the other half in the test; both may be context. Each task is scored alone, and the scores are
    averaged.

    Args:
        source: The table: ``sklearn:<name>``, ``openml:<id or name>`` or a file (csv, tsv, arff, parquet, each plain
            or with .gz); ``::<column>`` behind it names the target. From Python a DataFrame too.
        num_tasks: Number of distinct training tasks; none = endless.
        rows: Number of rows of a task.
        context: Number of context rows of a task.
        features: Number of columns of a task, drawn at random; none = all. A task has fewer where fewer vary in its
            context.
        draws: Options of what varies between tasks.
        evaluation: Options of validation and test.
        reading: Options of reading the table.
        batch_size: Tasks in a batch (on each device).
        steps_per_epoch: Batches per epoch (on each device); validation may run at its end.
        seed: Seed of the split and of the tasks; of two, the second is that of the training tasks alone.
        num_workers: Worker processes of the loaders; 0 = cut tasks in the training process.
    """

    batch = TableBatch
    moved = TASK_MOVES

    def __init__(
        self,
        source: Source,
        *,
        num_tasks: int | None = None,
        rows: int = 100,
        context: int = 80,
        features: int | None = None,
        draws: DrawOptions = DEFAULT_DRAWS,
        evaluation: TaskEvaluation = DEFAULT_EVALUATION,
        reading: ReadingOptions = DEFAULT_READING,
        batch_size: int = 32,
        steps_per_epoch: int = 100,
        seed: Seed = 0,
        num_workers: int = 0,
    ) -> None:
        from datamodules.prior.cut import CutOptions
        from datamodules.tables.real import load_table

        super().__init__()
        check_least(batch_size=(batch_size, 1), steps_per_epoch=(steps_per_epoch, 1), num_workers=(num_workers, 0))
        check_least(num_tasks=(1 if num_tasks is None else num_tasks, 1))
        table = load_table(source, reading.target, reading.cache_dir)
        options = CutOptions(rows, context, features, draws.permute_labels, draws.permute_columns, draws.fixed_columns)
        self.cutters = _cutters(table, options, evaluation.held_out, Seeds.of(seed))
        self.tasks = {"train": num_tasks, "val": evaluation.val_tasks, "test": evaluation.test_tasks}
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


def _cutters(table: "RealTable", options: "CutOptions", held_out: float, seeds: Seeds) -> "dict[str, TaskCutter]":
    """Cutter of each stage; validation and test share the rows held out, and each scores half of them."""
    from datamodules.prior.cut import TaskCutter, halves, split_rows

    train, held = split_rows(table, held_out, seeds.scored)
    scored = dict(zip(("val", "test"), halves(table, held, seeds.scored), strict=True))
    rank_zero_info(
        f"{table.name}: {len(train)} rows to train on; of the {len(held)} held out, {len(scored['val'])} are "
        f"scored in validation and the other {len(scored['test'])} in the test"
    )
    cutters = {
        stage: TaskCutter(table, train if stage == "train" else held, options, seeds.scored, number, scored.get(stage))
        for stage, number in STREAMS.items()
    }
    # Only now: columns that all tasks share are those of validation and test.
    cutters["train"].seed = seeds.training
    return cutters
