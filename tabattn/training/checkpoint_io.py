"""Atomic checkpoint input and output for a trainer."""

import os
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch import Trainer

from tabattn.storage.checksum import verify
from tabattn.storage.files import write_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """CheckpointIO plugin that writes local checkpoints atomically; for ``Trainer(plugins=...)``.

    The checkpoint is written beside its target, synced and renamed, so a kill or a full disk at any moment leaves the
    previous checkpoint intact. Lightning's plugin writes to the system's temporary folder first, which may be on
    another file system: its last step is then a copy, not a rename. Paths with a protocol, such as ``s3://``, are left
    to Lightning's plugin.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Write a checkpoint atomically.

        Raises:
            OSError: The disk is full or fails; the previous file is untouched.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        write_checkpoint(path, checkpoint)

    def load_checkpoint(
        self, path: _PATH, map_location: Any = lambda storage, loc: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint after verifying its checksum, if it has one.

        Raises:
            DataError: The checksum differs.
        """
        if os.path.isfile(path):
            verify(path)
        return super().load_checkpoint(path, map_location, weights_only)


def install(trainer: Trainer) -> None:
    """Install the plugin in a trainer, unless the user gave one."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
