"""Plots of predictions against their truth, and of their calibration, on TensorBoard and as files."""

from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.board import Cadence, moment
from callbacks.pictures import folder_of, show
from tabattn.contract.views import Shown


class PredictionPlots(Callback):
    """Plots predictions against truth and their calibration, for each target column, after validation and test.

    A numeric target has a scatter plot with the identity line, RMSE and MAE, and a coverage curve: the observed share
    of truths in central prediction intervals against their nominal probability, with a histogram of the probability
    integral transform (PIT). A categorical target has a confusion matrix, and a reliability diagram: the observed
    frequency against the predicted probability of the second of two categories, or of the most probable of several,
    with the expected calibration error (ECE). The plots are of all rows that were scored, on all ranks. They go to
    every TensorBoard logger, and as PNG into ``figures`` in the run folder.

    The task must define ``scored_columns()``.

    Args:
        every: Plot at every n-th validation, the first included.
        max_points: Most points of a scatter plot; of more, evenly many are left out.
        bins: Bins of predicted probability in a reliability diagram.
    """

    def __init__(self, every: int = 1, max_points: int = 2000, bins: int = 10) -> None:
        for name, value in (("max_points", max_points), ("bins", bins)):
            if value < 2:
                raise ValueError(f"{name} must be at least 2, got {value}")
        self.cadence = Cadence(every)
        self.max_points = max_points
        self.bins = bins
        self.folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the task keeps what it scored, and find the run folder; raise before any work."""
        if stage != "predict":
            self.check_task(pl_module, stage)
            self.folder = folder_of(trainer)

    def check_task(self, task: LightningModule, stage: str) -> None:
        """Check that the class of the task keeps what it scored; the command line calls this before any data."""
        if stage != "predict" and getattr(type(task), "scored_columns", Shown.scored_columns) is Shown.scored_columns:
            raise MisconfigurationException(
                f"{type(task).__name__} keeps no predictions to plot: the callback PredictionPlots is for tasks like "
                "TableReconstruction"
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._plot(trainer, pl_module, "validation")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._plot(trainer, pl_module, "test")

    def _plot(self, trainer: Trainer, task: Any, split: str) -> None:
        from callbacks.scored import draw

        if not self.cadence.turn(trainer) or not trainer.is_global_zero:
            return
        for column in task.scored_columns():
            if len(column.truth):
                figure = draw(column, moment(trainer, split), self.max_points, self.bins)
                show(trainer, self.folder, split, "predictions", column.name, figure)
