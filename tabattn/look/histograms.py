"""Histograms of the weights of a network, as one picture."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.pictures import folder_of, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST, ACROSS, BINS = 60, 6, 40
"""Most parameters in a picture, panels in a row, and bins of a histogram."""
LETTERS = 30


class WeightHistograms(Callback):
    """Draws a histogram of each of the largest trainable parameters, after a validation or test; on rank 0."""

    def __init__(self) -> None:
        self.folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.folder = folder_of(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, "validation")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, "test")

    def _draw(self, trainer: Trainer, task: LightningModule, split: str) -> None:
        found = {name: value.detach() for name, value in task.named_parameters() if value.requires_grad}
        if trainer.is_global_zero and any(value.numel() for value in found.values()):
            show(trainer, self.folder, split, "weights", "histograms", draw(found))


def draw(parameters: Mapping[str, Tensor]) -> "Figure":
    """Draw a panel for each of the largest parameters, in their order, with mean and standard deviation."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from callbacks.labels import drawable

    sizes = {name: value.numel() for name, value in parameters.items() if value.numel()}
    largest = set(sorted(sizes, key=lambda name: -sizes[name])[:MOST])
    names = [name for name in sizes if name in largest]
    up = math.ceil(len(names) / ACROSS)
    figure = Figure((ACROSS * 2.5, up * 1.55 + 0.6), dpi=100)
    panels = figure.subplots(up, ACROSS, squeeze=False).flatten()
    height = figure.get_figheight()
    figure.subplots_adjust(left=0.02, right=0.99, bottom=0.25 / height, top=1 - 0.75 / height, hspace=0.75, wspace=0.08)
    part = f"the {len(names)} largest of {len(sizes)} parameters" if len(names) < len(sizes) else "all parameters"
    figure.suptitle(f"weights: {part}, {sum(sizes.values()):,} numbers", fontsize=11, y=1 - 0.1 / height)
    for axes, name in zip(panels, names, strict=False):
        values = parameters[name].double().flatten().cpu()
        finite = values[values.isfinite()]
        axes.hist(finite.numpy(), bins=BINS, color="#2f6f9f")
        title = drawable(name.removeprefix("network."))
        title = title if len(title) <= LETTERS else f"…{title[1 - LETTERS :]}"
        lost = "" if len(finite) == len(values) else f", {len(values) - len(finite)} not finite"
        spread = float(finite.std(correction=0)) if len(finite) else float("nan")
        mean = float(finite.mean()) if len(finite) else float("nan")
        axes.set_title(f"{title}\n{len(values):,}: {mean:.2g} ± {spread:.2g}{lost}", fontsize=7)
        axes.tick_params(labelsize=6)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.set_yticks([])
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    return figure
