"""Plots of the tasks that a run trains and tests on, on TensorBoard and as files."""

from pathlib import Path
from typing import Any

from lightning.fabric.utilities import move_data_to_device
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from callbacks import probe
from callbacks.pictures import folder_of, show
from tabattn.contract.batches import PairBatch


class TaskExamples(Callback):
    """Plots the first training and test tasks of sequences once, when a training begins.

    A panel for each task shows its context as dots and its targets as rings, in a colour for each member; where the
    datamodule knows the process of the tasks, lines show its exact density of the targets given the context. The two
    pictures, ``training`` and ``test``, go to every TensorBoard logger, and as PNG into ``figures`` in the folder of
    the run. Training stays bit-identical. Only rank 0 draws; a resumed run draws none.

    Args:
        tasks: Number of tasks in each picture, at most 8.
    """

    def __init__(self, tasks: int = 2) -> None:
        if not 1 <= tasks <= 8:
            raise ValueError(f"tasks must be in [1, 8], got {tasks}")
        self.tasks = tasks
        self.folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the tasks are of sequences, and find the run folder; raise before any work."""
        if stage != "fit":
            return
        data = getattr(trainer, "datamodule", None)
        if getattr(data, "batch", None) is not PairBatch:
            raise MisconfigurationException(
                f"TaskExamples plots tasks of sequences, as SyntheticPairs has them, and not those of "
                f"{type(data).__name__ if data is not None else 'loaders without a datamodule'}"
            )
        self.folder = folder_of(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plot test tasks."""
        if trainer.is_global_zero and not trainer.global_step:
            with isolate_rng():
                # Not an iteration, which would start the worker processes of the loader.
                batch = trainer.datamodule.predict_dataloader().dataset[0]  # type: ignore[attr-defined]
            self._draw(trainer, "test", batch)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Plot tasks of the first batch."""
        if trainer.is_global_zero and not trainer.fit_loop.epoch_loop.total_batch_idx:
            self._draw(trainer, "training", batch)

    def _draw(self, trainer: Any, part: str, batch: PairBatch) -> None:
        from callbacks.task_panels import Example, draw_examples

        data = trainer.datamodule
        few = probe.cut(batch, self.tasks)._replace(oracle=None)
        with isolate_rng():
            exact = getattr(data, "exact", lambda batch: None)(move_data_to_device(few, "cpu"))
        examples = [Example(f"task {number}", few, number, exact) for number in range(len(few.x))]
        figure = draw_examples(examples, f"first tasks of {part}", getattr(data, "names", None))
        show(trainer, self.folder, "fit", "tasks", part, figure)
