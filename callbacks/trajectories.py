"""Plots of inferred sequences, on TensorBoard and as files."""

from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from callbacks import probe
from callbacks.first_batch import FirstBatch
from callbacks.pictures import folder_of, show
from tabattn.pairs import attended
from tabattn.storage.finite import first_non_finite


class Trajectories(FirstBatch):
    """Plots the inferred trajectories of the first items of the first validation and test batch.

    One picture shows the tasks: the given sequence black, the truth red, the context as red dots, the trajectory of
    means golden, samples light blue over the intervals of 50 and 90 %. A picture for each of the first steps shows
    the attention of the last layer: the predicted point green, and orange the points that are most often among the
    five with the largest weights of a head. Pictures go to every TensorBoard logger, and as PNG into ``figures`` in the
    folder of the run. Training stays bit-identical. Only rank 0 draws.

    The task must define ``trajectories(batch)``, with the result of ``tabattn.pairs.trajectories``, and ``network``.

    Args:
        every: Plot at every n-th validation, the first included.
        tasks: Number of tasks to plot.
        attention_steps: Number of steps, from the first target on, whose attention is plotted for the first task.
    """

    def __init__(self, every: int = 1, tasks: int = 4, attention_steps: int = 3) -> None:
        if not 1 <= tasks <= 8:
            raise ValueError(f"tasks must be in [1, 8], got {tasks}")
        if attention_steps < 0:
            raise ValueError(f"attention_steps must be at least 0, got {attention_steps}")
        super().__init__(every, tasks)
        self.attention_steps = attention_steps
        self.folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the task infers trajectories, and find the run folder; raise before any work."""
        if not callable(getattr(pl_module, "trajectories", None)):
            raise MisconfigurationException(
                f"{type(pl_module).__name__} draws no trajectories: the callback Trajectories is for tasks like "
                "PairInference"
            )
        # A collective call, so not in ``look``, which only rank 0 runs.
        self.folder = folder_of(trainer)

    def look(self, trainer: Trainer, task: Any, split: str, batch: Any) -> None:
        """Infer the kept items and plot them; plot nothing if the weights are not finite."""
        from callbacks.curves import MOST, TOP, draw_step, draw_trajectories

        if name := first_non_finite(task.named_parameters()):
            rank_zero_warn(
                f"Trajectories draws nothing at step {trainer.global_step}: weights are not finite, in {name}"
            )
            return
        with probe.unnoticed(trainer, task):
            found = task.trajectories(batch)
            watched = attended(task.network, found, 0, self.attention_steps) if self.attention_steps else []
        when = f"{split}, step {trainer.global_step}"
        show(trainer, self.folder, split, "inference", "trajectories", draw_trajectories(found, when))
        for step, looked in enumerate(watched):
            title = f"{when}, target {step + 1}: the {MOST} points most often\namong the {TOP} strongest of a head"
            show(
                trainer,
                self.folder,
                split,
                "inference",
                f"attention_{step + 1:03d}",
                draw_step(found, 0, step, looked, title),
            )
