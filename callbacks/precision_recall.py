"""Precision-recall and ROC curves of each class, on TensorBoard and as files."""

from typing import TYPE_CHECKING

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer

from callbacks.board import moment, writers
from callbacks.outcomes import Classes, OutcomeCallback, Pool
from callbacks.pictures import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 22


class PrecisionRecall(OutcomeCallback):
    """Plots precision against recall, and the ROC curve, of each class against all others, after validation and test.

    Each table or target column has a picture with a curve for each of its classes, at most the eight most frequent
    ones (of two classes for the second), its average precision (AP), and the area under its ROC curve (AUC). Pictures
    go to every TensorBoard logger, and as PNG into ``figures`` in the run folder; TensorBoard's tab of PR curves has
    the curves with their thresholds. The scalars ``precision_recall/<column>/average_precision`` are means over the
    drawn classes.

    The task must define ``outcomes(batch)``, and predict classes. In a validation it predicts a few batches once more,
    on rank 0 alone; training stays bit-identical.

    Args:
        every: Show at every n-th validation, the first included.
        batches: Batches to predict, spread over the validation.
        columns: Most tables or target columns to show, the first ones.
    """

    needs_classes = True

    def __init__(self, every: int = 1, batches: int = 8, columns: int = 8) -> None:
        super().__init__(every, batches, columns)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the task predicts classes; raise before any work."""
        super().setup(trainer, pl_module, stage)
        if stage != "predict" and not getattr(pl_module, "predicts_classes", lambda: True)():
            raise MisconfigurationException(
                f"{type(pl_module).__name__} predicts numbers and no classes here: the callback PrecisionRecall is for "
                "tasks like PriorClassification"
            )

    def draw(self, trainer: Trainer, split: str, pools: dict[str, Pool]) -> None:
        """Log curves and scalars, and draw the pictures."""
        prefix = "test/precision_recall" if split == "test" else "precision_recall"
        scalars: dict[str, float] = {}
        for column, pool in pools.items():
            found = pool.classes
            if found is None or not found.truth.any():
                continue
            for writer in writers(trainer):
                for name, truth, chance in zip(found.names, found.truth.T, found.chances.T, strict=True):
                    if truth.any():
                        writer.add_pr_curve(f"{prefix}/{column}/{name}", truth, chance, trainer.global_step)
            figure, precision = draw_curves(found, f"{column}, {moment(trainer, split)}")
            scalars[f"{prefix}/{column}/average_precision"] = precision
            show(trainer, self.folder, split, "precision_recall", f"curves_{column}", figure)
        for logger in trainer.loggers:
            logger.log_metrics(scalars, trainer.global_step)


def draw_curves(found: Classes, title: str) -> "tuple[Figure, float]":
    """Plot the curves of all classes that occur; return the picture and the mean average precision."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

    from callbacks.labels import drawable

    figure = Figure((9.6, 4.6), dpi=110)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.12, top=0.84, wspace=0.2)
    scores = []
    two = len(found.names) == 2 and bool(found.truth.any(0).all())
    for place, (name, truth, chance) in enumerate(zip(found.names, found.truth.T, found.chances.T, strict=True)):
        # The curves of the first of two classes say nothing that those of the second do not.
        if not truth.any() or (place == 0 and two):
            continue
        colour, text = colormaps["tab10"](place), drawable(name).strip() or "(blank)"
        text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        precision, recall, _ = precision_recall_curve(truth, chance)
        scores.append(average_precision_score(truth, chance))
        left.step(
            recall, precision, where="pre", color=colour, label=f"{text}: AP {scores[-1]:.3f}, {truth.sum()} rows"
        )
        left.axhline(truth.mean(), color=colour, linewidth=0.7, linestyle=":")
        if not truth.all():
            false, true, _ = roc_curve(truth, chance)
            right.plot(false, true, color=colour, label=f"{text}: AUC {auc(false, true):.3f}")
    right.plot([0, 1], [0, 1], color="#555555", linewidth=0.8, linestyle="--")
    for axes, x, y in ((left, "recall", "precision"), (right, "false-positive rate", "true-positive rate")):
        axes.set_xlabel(x, fontsize=9)
        axes.set_ylabel(y, fontsize=9)
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.02)
        axes.tick_params(labelsize=8)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7, loc="lower left" if axes is left else "lower right")
    left.set_title("precision-recall, dotted: share of the class", fontsize=9)
    right.set_title("ROC, each class against all others", fontsize=9)
    figure.suptitle(drawable(title), fontsize=11)
    return figure, sum(scores) / len(scores)
