"""Plots of inferred sequences, on TensorBoard and as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.fabric.utilities import move_data_to_device
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from callbacks import probe
from callbacks.board import moment
from callbacks.first_batch import FirstBatch
from callbacks.pictures import folder_of, show
from tabattn.contract.checks import check_expression
from tabattn.contract.views import ExactDensity
from tabattn.pairs import Trajectories as Found
from tabattn.pairs import attended, target_layers
from tabattn.storage.finite import first_non_finite

MOST_TASKS = 8


class Kept(NamedTuple):
    """Tasks of one batch that are plotted.

    Attributes:
        numbers: Their numbers, counted over all batches.
        part: The batch of them; in prediction their trajectories.
    """

    numbers: list[int]
    part: Any


class Trajectories(FirstBatch):
    """Plots inferred trajectories of tasks of the validation, the test and the prediction data.

    One picture shows the tasks: the given sequence black, the truth red, the context as red dots, the trajectory of
    means golden, samples light blue over the intervals of 50 and 90 %. Where the datamodule knows the process of the
    tasks, its exact density given the same context is green: the mean dashed, the 90 % interval dotted. A picture for
    each chosen step shows attention: the predicted point green, and orange the points that are most often among the
    five with the largest weights of a head, or of chosen heads all points by their weights. Pictures go to every
    TensorBoard logger, and as PNG into ``figures`` in the folder of the run. Training stays bit-identical. Only rank 0
    draws, tasks of its own batches.

    The task must define ``trajectories(batch)``, with the result of ``tabattn.pairs.trajectories``, and ``network``.

    Args:
        every: Plot at every n-th validation, the first included.
        tasks: Number of tasks to plot, the first ones; or their numbers, counted from 0 over the batches.
        attention_steps: Number of steps, from the first target on, whose attention is plotted; or the numbers of those
            targets, counted from 1 in the order of prediction.
        attention_tasks: For how many of the plotted tasks.
        layers: Regular expression searched in the module paths of layers in which targets attend; only matching layers
            are plotted, ``.`` = all. None = the last layer.
        heads: Heads to plot, each in a panel of its own; None = all heads of a layer together.
    """

    def __init__(
        self,
        every: int = 1,
        tasks: int | list[int] = 4,
        attention_steps: int | list[int] = 3,
        attention_tasks: int = 1,
        layers: str | None = None,
        heads: list[int] | None = None,
    ) -> None:
        count = tasks if isinstance(tasks, int) else len(tasks)
        if not 1 <= count <= MOST_TASKS:
            raise ValueError(f"tasks must be in [1, {MOST_TASKS}], or so many numbers, got {tasks}")
        _check_numbers("tasks", tasks, 0)
        if isinstance(attention_steps, int) and attention_steps < 0:
            raise ValueError(f"attention_steps must be at least 0, got {attention_steps}")
        _check_numbers("attention_steps", attention_steps, 1)
        _check_numbers("heads", heads, 0)
        check_expression("layers", layers)
        if not 0 <= attention_tasks <= count:
            raise ValueError(f"attention_tasks must be in [0, {count}], the number of tasks, got {attention_tasks}")
        super().__init__(every, count)
        self.tasks = tasks
        self.attention_steps, self.attention_tasks = attention_steps, attention_tasks
        self.layers, self.heads = layers, heads
        self.sizes: dict[str, list[int]] = {}
        self.folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the task infers trajectories, and find the run folder; raise before any work."""
        self.check_task(pl_module, stage)
        try:
            found = target_layers(pl_module.network, self.layers)  # type: ignore[arg-type]
        except ValueError as ex:
            raise MisconfigurationException(f"Trajectories: {ex}") from ex
        for path, module in found.items():
            if self.heads is not None and max(self.heads) >= module.heads:
                raise MisconfigurationException(
                    f"Trajectories: heads must be below {module.heads}, the heads of {path}, got {self.heads}"
                )
        # A collective call, so not in ``look``, which only rank 0 runs.
        self.folder = folder_of(trainer)

    def check_task(self, task: LightningModule, stage: str) -> None:
        """Check that the task infers trajectories; the command line calls this before any data."""
        if not callable(getattr(task, "trajectories", None)):
            raise MisconfigurationException(
                f"{type(task).__name__} draws no trajectories: the callback Trajectories is for tasks like "
                "PairInference"
            )

    def keep(self, trainer: Trainer, split: str, batch: Any, number: int) -> None:
        """Keep the tasks of a batch that are plotted, the first time that it comes."""
        if trainer.is_global_zero and (chosen := self._chosen(split, number, len(batch.x))):
            first = sum(self.sizes[split][:-1])
            kept = Kept([first + index for index in chosen], probe.cut(batch, chosen))
            self.probes.setdefault(split, []).append(kept)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the trajectories that were predicted of the tasks that are plotted."""
        if trainer.is_global_zero and (chosen := self._chosen("predict", batch_idx, len(batch.x))):
            first = sum(self.sizes["predict"][:-1])
            found = move_data_to_device(outputs.select(chosen), "cpu")
            self.probes.setdefault("predict", []).append(Kept([first + index for index in chosen], found))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if "predict" in self.probes:
            self.look(trainer, pl_module, "predict", probe.to_device(pl_module, self.probes.pop("predict")))

    def _chosen(self, split: str, number: int, size: int) -> list[int]:
        """Indices in a batch of the tasks that are plotted; none where the batch came before."""
        sizes = self.sizes.setdefault(split, [])
        if number != len(sizes):
            return []
        sizes.append(size)
        first = sum(sizes[:-1])
        numbers = range(self.tasks) if isinstance(self.tasks, int) else self.tasks
        return [each - first for each in numbers if first <= each < first + size]

    def look(self, trainer: Trainer, task: Any, split: str, batch: Any) -> None:
        """Infer the kept tasks and plot them; plot nothing if the weights are not finite."""
        if name := first_non_finite(task.named_parameters()):
            rank_zero_warn(
                f"Trajectories draws nothing at step {trainer.global_step}: weights are not finite, in {name}"
            )
            return
        self._tell_missing(split, batch)
        with probe.unnoticed(trainer, task):
            found = [
                (kept.numbers, kept.part if split == "predict" else task.trajectories(kept.part)) for kept in batch
            ]
        when = "prediction" if split == "predict" else moment(trainer, split)
        self._draw_tasks(trainer, split, when, found)
        drawn = 0
        for numbers, each in found:
            for index, number in enumerate(numbers[: self.attention_tasks - drawn]):
                drawn += 1
                self._draw_steps(trainer, task, split, when, (number, index, each))

    def _tell_missing(self, split: str, batch: list[Kept]) -> None:
        """Warn of tasks by number that are not among those that came."""
        there = {number for kept in batch for number in kept.numbers}
        if not isinstance(self.tasks, int) and (missing := [each for each in self.tasks if each not in there]):
            count, numbers = sum(self.sizes[split]), ", ".join(map(str, missing))
            rank_zero_warn(f"Trajectories: {split} has {count} tasks on this rank, so there is no number {numbers}")

    def _draw_tasks(self, trainer: Any, split: str, when: str, found: list[tuple[list[int], Found]]) -> None:
        from callbacks.curves import draw_trajectories, task_of

        exact = getattr(getattr(trainer, "datamodule", None), "exact", lambda batch: None)
        tasks = []
        for numbers, each in found:
            density: ExactDensity | None = exact(move_data_to_device(each.batch, "cpu"))
            tasks += [(f"task {number}", task_of(each, index, density)) for index, number in enumerate(numbers)]
        show(trainer, self.folder, split, "inference", "trajectories", draw_trajectories(tasks, when))

    def _draw_steps(self, trainer: Trainer, task: Any, split: str, when: str, which: tuple[int, int, Found]) -> None:
        """Plot the attention of the chosen steps of one task: its number, its index among trajectories, and these."""
        from callbacks.steps import MOST, TOP, draw_step

        number, index, found = which
        steps = self.attention_steps
        with probe.unnoticed(trainer, task):
            looks = attended(task.network, found, index, steps, self.layers) if steps else []
        if not isinstance(steps, int) and (late := sorted(set(steps) - {look.step for look in looks})):
            rank_zero_warn(f"Trajectories: task {number} ({when}) has no target number {', '.join(map(str, late))}")
        what = (
            f"the {MOST} points most often\namong the {TOP} strongest of a head" if self.heads is None else "attention"
        )
        whose = "" if isinstance(self.tasks, int) and self.attention_tasks == 1 else f"task{number:03d}_"
        for step in dict.fromkeys(look.step for look in looks):
            layers = [look for look in looks if look.step == step]
            figure = draw_step(found, index, layers, self.heads, f"{when}, task {number}, target {step}: {what}")
            show(trainer, self.folder, split, "inference", f"attention_{whose}{step:03d}", figure)


def _check_numbers(name: str, numbers: int | Sequence[int] | None, least: int) -> None:
    """Raise ValueError unless numbers are distinct ones, at least one; a single number and None are let through."""
    if numbers is None or isinstance(numbers, int):
        return
    if not numbers or min(numbers) < least or len(set(numbers)) < len(numbers):
        raise ValueError(f"{name} must be distinct numbers from {least}, at least one, got {list(numbers)}")
