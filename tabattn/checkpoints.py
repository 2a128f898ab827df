"""The checkpoint a run goes on from."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """Keeps ``last.ckpt`` at the end of every epoch and of the training.

    ``save_last`` of ``ModelCheckpoint`` does not: where a metric is monitored, it saves the last *improvement*.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where the training stopped, if that was within an epoch."""
        if self._last_global_step_saved != trainer.global_step and trainer.global_step > 0:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
