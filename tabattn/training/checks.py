"""Checks of a trainer: that it writes only into its own folders, and over no earlier run."""

from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from tabattn.storage.trusted import shortened


def check_filenames(trainer: Trainer) -> None:
    """Check that the file names of checkpoints stay within their folder.

    Raises:
        MisconfigurationException: A file name leads out of it.
    """
    for each in trainer.checkpoint_callbacks:
        name = each.filename if isinstance(each, ModelCheckpoint) else None
        if name is not None and (not Path(name).parts or Path(name).is_absolute() or ".." in Path(name).parts):
            raise MisconfigurationException(
                f"checkpoint.filename must be a name within the folder of the checkpoints, got {shortened(name)}"
            )


@rank_zero_only
def check_loggers(trainer: Trainer) -> None:
    """Check that a user's logger writes into no earlier run's folder.

    Raises:
        MisconfigurationException: Its folder is not empty.
    """
    for logger in trainer.loggers:
        folder = getattr(logger, "log_dir", None)
        if isinstance(folder, str) and "://" not in folder and Path(folder).is_dir() and any(Path(folder).iterdir()):
            raise MisconfigurationException(
                f"trainer.logger: {shortened(folder)} holds a run already: choose another version, or go on with that "
                "run by --ckpt_path"
            )
