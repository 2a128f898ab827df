"""Evaluation of a trained cell: final scores, scores of single tables, attention maps and parameters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.nn import functional

from callbacks import probe
from tabattn.attention import Mechanism, capture
from tabattn.storage.checkpoints import LastCheckpoint

SIDE = 64
"""Most queries and keys of an attention map."""

LOWER = ("loss", "mse", "rmse", "mae", "nll", "crps", "error", "ece", "brier", "perplexity")
"""Names of metrics of which less is better."""


class FirstBatch(Callback):
    """Keeps the first example of the first batch of an evaluation."""

    def __init__(self) -> None:
        self.batch: Any = None

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.batch is None:
            self.batch = probe.cut(batch, 1)

    on_test_batch_start = on_validation_batch_start


def evaluate(trainer: Trainer, task: LightningModule, data: Any, checkpoint: str, seed: int) -> dict[str, float]:
    """Score a checkpoint on the test data, or on the validation data where the datamodule has no other.

    Args:
        trainer: Trainer of the training.
        task: The task.
        data: The datamodule.
        checkpoint: Path of the checkpoint.
        seed: Of the random numbers of the evaluation.

    Returns:
        Every metric that the task logs.
    """
    seed_everything(seed, workers=True, verbose=False)
    for each in trainer.checkpoint_callbacks:
        if isinstance(each, LastCheckpoint):
            # Its folder holds the checkpoints of this very run.
            each.fresh = False
    stage = "test" if is_overridden("test_dataloader", data) else "val"
    run = trainer.test if stage == "test" else trainer.validate
    run(task, datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {name: value for name, value in found.items() if name.startswith(f"{stage}/")}


def final_metric(monitored: str | None, scores: Mapping[str, float]) -> str | None:
    """Name of the final score that corresponds to the metric of validation; the first loss where there is none."""
    name = (monitored or "").rpartition("val/")[2]
    found = [f"{stage}/{name}" for stage in ("test", "val") if f"{stage}/{name}" in scores]
    losses = [each for each in scores if each.endswith("/loss")]
    return next(iter([*found, *losses, *scores]), None)


def mode_of(metric: str) -> str:
    """``min`` or ``max``: which values of a metric are better, by its name."""
    name = metric.rpartition("/")[2].lower()
    return "min" if any(word in name for word in LOWER) else "max"


def sets_of(metric: str | None, scores: Mapping[str, float]) -> dict[str, float]:
    """Scores of single tables, kinds or targets: those called ``<stage>/<set>/<score>`` for ``<stage>/<score>``."""
    stage, _, name = (metric or "").partition("/")
    first, last = f"{stage}/", f"/{name}"
    return {
        each[len(first) : -len(last)]: value
        for each, value in scores.items()
        if name and each.startswith(first) and each.endswith(last) and len(each) > len(first) + len(last)
    }


def write_maps(trainer: Trainer, task: LightningModule, batch: Any, path: Path) -> bool:
    """Write the attention maps of an example as ``.npz``: arrays ``(heads, queries, keys)`` by module path.

    Args:
        trainer: Trainer of the evaluation.
        task: The task.
        batch: Batch of one example; None = there was none.
        path: The file.

    Returns:
        Whether there are maps.
    """
    if batch is None or not any(isinstance(module, Mechanism) for module in task.modules()):
        return False
    with probe.unnoticed(trainer, task), capture(task, items=1) as records:
        probe.run(task, probe.to_device(task, batch))
    maps = {name: calls[0].weights for name, calls in records.items() if calls}
    arrays = {name: _reduced(weights[0]) for name, weights in maps.items() if weights is not None and weights.numel()}
    if arrays:
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return bool(arrays)


def _reduced(weights: Tensor) -> np.ndarray:
    """Map of at most ``SIDE`` queries and keys, by averages over neighbours."""
    queries, keys = (min(SIDE, size) for size in weights.shape[-2:])
    return functional.adaptive_avg_pool2d(weights.float(), (queries, keys)).half().numpy()
