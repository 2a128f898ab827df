"""Calibration: reliability diagrams and expected calibration error of classes, coverage of predictive intervals."""

from lightning.pytorch import Trainer

from callbacks.board import moment
from callbacks.outcomes import OutcomeCallback, Pool
from callbacks.pictures import show
from tabattn.contract.checks import check_least


class Calibration(OutcomeCallback):
    """Plots whether predicted probabilities are observed frequencies, after validation and test.

    Classes have a reliability diagram: the share of right predictions against the probability of the most probable
    class (confidence), with the expected calibration error (ECE), the mean distance between both over bins of equal
    width, weighted by their rows (Guo et al. 2017). Numbers have a coverage curve: the observed share of truths in
    central prediction intervals against their nominal probability, and a histogram of the probability integral
    transform (PIT); their ``coverage_error`` is the mean distance of the curve from the diagonal. Each table, sequence
    or target column has a panel, and where there are several, all of a kind together. The picture goes to every
    TensorBoard logger, and as PNG into ``figures`` in the run folder; the scalars ``calibration/ece`` and
    ``calibration/coverage_error`` are those of all together, and go to every logger.

    The task must define ``outcomes(batch)``. In a validation it predicts a few batches once more, on rank 0 alone;
    training stays bit-identical.

    Args:
        every: Show at every n-th validation, the first included.
        batches: Batches to predict, spread over the validation.
        columns: Most tables, sequences or target columns to show, the first ones.
        bins: Bins of confidence.
    """

    def __init__(self, every: int = 1, batches: int = 8, columns: int = 8, bins: int = 10) -> None:
        check_least(bins=(bins, 2))
        super().__init__(every, batches, columns)
        self.bins = bins

    def draw(self, trainer: Trainer, split: str, pools: dict[str, Pool]) -> None:
        """Log scalars and draw the panels."""
        from callbacks.calibration_plots import draw, measured

        found = measured(pools, self.bins)
        prefix = "test/calibration" if split == "test" else "calibration"
        for logger in trainer.loggers:
            logger.log_metrics(
                {f"{prefix}/{name}": value for name, value in found.scalars.items()}, trainer.global_step
            )
        if found.panels:
            figure = draw(found.panels, f"calibration, {moment(trainer, split)}", self.bins)
            show(trainer, self.folder, split, "calibration", "calibration", figure)
