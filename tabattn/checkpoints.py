"""The checkpoint a run goes on from."""

from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

WORDS = {"best", "last", "hpc"}
"""What ``--ckpt_path`` takes in the place of a path."""


class LastCheckpoint(ModelCheckpoint):
    """Keeps ``last.ckpt`` at the end of every epoch and of the training.

    ``save_last`` of ``ModelCheckpoint`` does not: where a metric is monitored, it saves the last *improvement*.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where the training stopped, if that was within an epoch."""
        if self._last_global_step_saved != trainer.global_step and trainer.global_step > 0:
            self.save(trainer)

    def save(self, trainer: Trainer) -> str:
        """Save the training as it stands; returns the path."""
        self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
        return self.best_model_path


def problem_with(path: str, to_go_on: bool) -> str | None:
    """Say why ``--ckpt_path`` cannot be used: None where it can, or is no path on this machine.

    Args:
        path: What was given.
        to_go_on: Whether a training is to go on from it.
    """
    if path in WORDS or "://" in path:
        return None
    if not Path(path).exists():
        return f"there is no file {path}"
    if not to_go_on or not Path(path).is_file():
        return None
    if "optimizer_states" in torch.load(path, map_location="cpu", weights_only=True):
        return None
    return (
        "the checkpoint holds weights alone, no training to go on with; to start from its weights use --model.init_from"
    )
