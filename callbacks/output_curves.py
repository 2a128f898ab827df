"""Curves of what networks compute, beside those of their reconstructions, on TensorBoard and as files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer

from callbacks import probe
from callbacks.board import moment
from callbacks.first_batch import FirstBatch
from callbacks.pictures import folder_of, show
from tabattn.contract.views import OutputCurve, Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class OutputCurves(FirstBatch):
    """Plots outputs of networks and of their reconstructions along lines, after validation and test.

    Of each of the first networks of the first batch, a panel has the outputs of the original in black and those of the
    reconstruction in colour. They go to every TensorBoard logger, and as PNG into ``figures`` in the run folder.

    The task must define ``output_curves(batch)``.

    Args:
        every: Plot at every n-th validation, the first included.
        items: Number of networks, at most 24.
    """

    def __init__(self, every: int = 1, items: int = 8) -> None:
        if not 1 <= items <= 24:
            raise ValueError(f"items must be in [1, 24], got {items}")
        super().__init__(every, items)
        self.folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the task has networks to show, and find the run folder; raise before any work."""
        if stage != "predict":
            self.check_task(pl_module, stage)
            self.folder = folder_of(trainer)

    def check_task(self, task: LightningModule, stage: str) -> None:
        """Check that the class of the task has networks to show; the command line calls this before any data."""
        if stage != "predict" and getattr(type(task), "output_curves", Shown.output_curves) is Shown.output_curves:
            raise MisconfigurationException(
                f"{type(task).__name__} has no networks to plot: the callback OutputCurves is for tasks like NetworkVAE"
            )

    def look(self, trainer: Trainer, task: LightningModule, split: str, batch: Any) -> None:
        """Draw the networks of the probe."""
        with probe.unnoticed(trainer, task):
            curves = task.output_curves(batch)  # type: ignore[operator]
        if curves:
            title = f"outputs of original and decoded networks, {moment(trainer, split)}"
            figure = draw_curves(curves, title)
            show(trainer, self.folder, split, "outputs", "curves", figure)


def draw_curves(curves: list[OutputCurve], title: str) -> "Figure":
    """Plot every network in a panel of its own: original black, reconstruction coloured."""
    from callbacks.curves import label, sheet

    figure, panels = sheet(len(curves), title, across=4)
    for axes, curve in zip(panels, curves, strict=True):
        x = curve.x.double().cpu().numpy()
        true, found = (part.double().cpu().numpy() for part in (curve.true, curve.found))
        lines = axes.plot(x, true, color="black", linewidth=1.3)
        others = axes.plot(x, found, color="#e4695f", linewidth=1.3, linestyle="--")
        lines[0].set_label("original")
        others[0].set_label("decoded")
        axes.set_title(curve.title, fontsize=8)
        label(axes, "place on a line through the rows", "output")
    panels[0].legend(fontsize=7, frameon=False)
    return figure
