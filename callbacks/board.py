"""Access to TensorBoard, and the schedule of callbacks that draw."""

from typing import TYPE_CHECKING

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def require_tensorboard(trainer: Trainer, who: str) -> None:
    """Raise MisconfigurationException if the trainer has no TensorBoard logger for ``who``.

    A ``fast_dev_run``, which swaps the loggers for dummies, is let through.
    """
    if any(isinstance(logger, TensorBoardLogger | DummyLogger) for logger in trainer.loggers):
        return
    present = ", ".join(type(logger).__name__ for logger in trainer.loggers) or "none"
    raise MisconfigurationException(
        f"{who} draws on TensorBoard and needs a TensorBoardLogger among the trainer's loggers, got {present}: "
        f"add one with --trainer.logger=TensorBoardLogger --trainer.logger.save_dir=runs, or leave {who} out"
    )


def writers(trainer: Trainer) -> "list[SummaryWriter]":
    """Return the writer of every TensorBoard logger; on rank 0 only."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def moment(trainer: Trainer, name: str) -> str:
    """Heading of a picture with its training step: ``validation, step 100``; without a step outside of trainings."""
    fitting = getattr(trainer.state.fn, "value", None) == "fit"
    return f"{name}, step {trainer.global_step}" if fitting else name


class Cadence:
    """Schedule of a callback over validations: the first and every n-th after it, and every test.

    Args:
        every: Validations per turn, at least 1.
    """

    def __init__(self, every: int) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.every = every
        self.validations = 0

    def turn(self, trainer: Trainer) -> bool:
        """Count a validation or test, and return whether it is a turn; the sanity check never is."""
        if trainer.sanity_checking:
            return False
        if trainer.testing:
            return True
        self.validations += 1
        return (self.validations - 1) % self.every == 0
