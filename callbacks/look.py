"""All callbacks that look at a run and that fit its task, by one line of a configuration."""

from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.attention_maps import AttentionMaps
from callbacks.board import require_tensorboard, writers
from callbacks.calibration import Calibration
from callbacks.embeddings import Embeddings
from callbacks.head_similarity import HeadSimilarity
from callbacks.hparams import HParams
from callbacks.output_curves import OutputCurves
from callbacks.precision_recall import PrecisionRecall
from callbacks.prediction_plots import PredictionPlots
from callbacks.provenance import Provenance
from callbacks.task_examples import TaskExamples
from callbacks.throughput import Throughput
from callbacks.trajectories import Trajectories
from callbacks.weights import Weights

LAYOUT = {
    "quality": {
        "validation": ["Multiline", [r"^val/[^/]*$"]],
        "test": ["Multiline", [r"^test/[^/]*$"]],
        "calibration": ["Multiline", [r"^(test/)?calibration/.*"]],
    },
    "speed": {
        "step, ms": ["Multiline", [r"^speed/step_ms$"]],
        "items per second": ["Multiline", [r"^speed/.*_per_second$"]],
        "share of waiting for data": ["Multiline", [r"^speed/data_share$"]],
        "peak memory, MB": ["Multiline", [r"^speed/peak_memory_mb$"]],
    },
    "attention": {
        "entropy, nats": ["Multiline", [r"^attention/.*/entropy$"]],
        "support, keys": ["Multiline", [r"^attention/.*/support$"]],
        "similarity of heads": ["Multiline", [r"^heads/.*/similarity$"]],
    },
    "optimisation": {
        "training loss": ["Multiline", [r"^train/loss$"]],
        "learning rate": ["Multiline", [r"^lr.*"]],
    },
}
"""Charts of TensorBoard's tab of custom scalars: regular expressions of tags by title."""


class Look(Callback):
    """Adds every callback that looks at a run and fits its task, and says in one line which do not fit.

    These are, as far as the task has what they show: ``AttentionMaps``, ``HeadSimilarity``, ``Embeddings``,
    ``Calibration``, ``PrecisionRecall``, ``PredictionPlots``, ``OutputCurves``, ``Trajectories``, ``TaskExamples``,
    ``Weights``, ``Throughput``, ``HParams`` and ``Provenance``. One that is given with options of its own is kept as it
    is. TensorBoard's tab of custom scalars gets charts of quality, speed, attention and optimisation. Training stays
    bit-identical.

    Args:
        every: Show at every n-th validation, the first included.
        weights_every: Training steps between histograms of weights.
        layers: Regular expression searched in module paths: layers whose attention is shown. None = all.
        items: Items whose attention maps are drawn, at most 8.
        batches: Batches whose predictions are shown, spread over the validation.
        without: Names of callbacks to leave out.
    """

    def __init__(
        self,
        every: int = 1,
        weights_every: int = 500,
        layers: str | None = None,
        items: int = 2,
        batches: int = 8,
        without: list[str] | None = None,
    ) -> None:
        parts: list[Callback] = [
            AttentionMaps(every, items, layers=layers),
            HeadSimilarity(every, layers=layers),
            Embeddings(every=every),
            Calibration(every, batches),
            PrecisionRecall(every, batches),
            PredictionPlots(every),
            OutputCurves(every),
            Trajectories(every),
            TaskExamples(),
            Weights(weights_every),
            Throughput(),
            HParams(),
            Provenance(),
        ]
        names = [type(part).__name__ for part in parts]
        for name in without or ():
            if name not in names:
                raise ValueError(f"without must name some of {', '.join(names)}, got {name!r}")
        self.parts = [part for part in parts if type(part).__name__ not in (without or ())]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Add the callbacks that fit the task; raise before any work if there is no TensorBoard logger."""
        require_tensorboard(trainer, type(self).__name__)
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        # In place, and behind this one: Lightning is on its way through the list.
        for part in self.parts:
            if part in callbacks:
                callbacks.remove(part)
        fitting, refused = [], []
        for part in self.parts:
            if any(type(other) is type(part) for other in callbacks):
                continue
            try:
                part.setup(trainer, pl_module, stage)
                fitting.append(part)
            except MisconfigurationException:
                refused.append(type(part).__name__)
        place = callbacks.index(self) + 1
        callbacks[place:place] = fitting
        if refused and stage != "predict":
            rank_zero_info(
                f"Look: left out, as {type(pl_module).__name__} has nothing to show there: {', '.join(refused)}"
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the charts of the tab of custom scalars, on rank 0."""
        if trainer.is_global_zero:
            for writer in writers(trainer):
                writer.add_custom_scalars(LAYOUT)
