"""Learning-rate schedules."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


class PlannedSchedule(LRScheduler, ABC):
    """Abstract schedule over the whole length of a run, stepped once per batch.

    A subclass sets its arguments as attributes, names them in ``shape``, and calls this constructor last.

    Args:
        optimizer: Optimizer whose learning rates are scheduled.
        total_steps: Optimizer steps of the whole run; None = those of the trainer, set by ``with_schedule``.
        last_epoch: Index of the last step, for a resumed schedule; -1 = from the start.
    """

    shape: ClassVar[tuple[str, ...]]
    """Attributes that, beside the length of the run, determine the curve. Checkpoints do not hold them."""

    def __init__(self, optimizer: Optimizer, total_steps: int | None = None, last_epoch: int = -1) -> None:
        self.total_steps = _check_steps(total_steps)
        super().__init__(optimizer, last_epoch)

    @abstractmethod
    def curve(self, step: int, total_steps: int) -> float:
        """Return the fraction of the peak learning rate at a step of a run, counted from 0."""

    def plan(self, total_steps: int) -> None:
        """Set the length of the run and the learning rate of the current step.

        Args:
            total_steps: Optimizer steps of the whole run.
        """
        self.total_steps = _check_steps(total_steps)
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate

    def get_lr(self) -> list[Any]:
        factor = self.factor(self.last_epoch)
        return [base * factor for base in self.base_lrs]

    def factor(self, step: int) -> float:
        """Return the fraction of the peak learning rate at a step, counted from 0."""
        if self.total_steps is None:
            if step > 0:
                raise ValueError("total_steps must be known before the second step, got None")
            return 1.0
        return self.curve(step, self.total_steps)

    def state_dict(self) -> dict[str, Any]:
        # Without the shape of the curve: a resumed run may be longer, or have another final rate, by its own arguments.
        return {key: value for key, value in super().state_dict().items() if not self._shapes(key)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, and set the learning rate by this schedule at its step."""
        super().load_state_dict({key: value for key, value in state_dict.items() if not self._shapes(key)})
        if self.total_steps is not None:
            self.plan(self.total_steps)

    def _shapes(self, key: str) -> bool:
        return key == "total_steps" or key in self.shape


class WarmupCosine(PlannedSchedule):
    """Cosine schedule with linear warmup, stepped once per batch.

    Args:
        optimizer: Optimizer whose learning rates are scheduled.
        total_steps: Optimizer steps of the whole run; None = those of the trainer, set by ``with_schedule``.
        warmup: Fraction of the steps in which the learning rate rises to its peak.
        final: Learning rate at the end, as a fraction of the peak.
        last_epoch: Index of the last step, for a resumed schedule; -1 = from the start.
    """

    shape = ("warmup", "final")

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int | None = None,
        warmup: float = 0.05,
        final: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.warmup = _check_share("warmup", warmup)
        self.final = _check_share("final", final)
        super().__init__(optimizer, total_steps, last_epoch)

    def curve(self, step: int, total_steps: int) -> float:
        rising = round(self.warmup * total_steps)
        if step < rising:
            return (step + 1) / rising
        progress = min(1.0, (step - rising) / max(1, total_steps - rising))
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * progress))


class FlatCosine(PlannedSchedule):
    """Flat-then-anneal schedule: constant learning rate, then a cosine to zero at the last step.

    That of Kossen et al. 2021 (arXiv 2106.02584), appendix C: the cosine begins at the last step of the flat part.

    Args:
        optimizer: Optimizer whose learning rates are scheduled.
        total_steps: Optimizer steps of the whole run; None = those of the trainer, set by ``with_schedule``.
        flat: Fraction of the steps in which the learning rate is constant.
        last_epoch: Index of the last step, for a resumed schedule; -1 = from the start.
    """

    shape = ("flat",)

    def __init__(
        self, optimizer: Optimizer, total_steps: int | None = None, flat: float = 0.7, last_epoch: int = -1
    ) -> None:
        self.flat = _check_share("flat", flat)
        super().__init__(optimizer, total_steps, last_epoch)

    def curve(self, step: int, total_steps: int) -> float:
        flat = round(self.flat * total_steps)
        if step < flat or flat == total_steps:
            return 1.0
        progress = min(1.0, (step - flat + 1) / (total_steps - flat))
        return 0.5 * (1.0 + math.cos(math.pi * progress))


def _check_share(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
    return value


def _check_steps(total_steps: int | None) -> int | None:
    if total_steps is not None and total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, got {total_steps}")
    return total_steps


def with_schedule(module: LightningModule, optimizer: Optimizer, lr_scheduler: LRScheduler | None) -> Any:
    """Optimizer and schedule in the form that ``configure_optimizers`` returns, stepped after every batch.

    Args:
        module: The task; its trainer tells the number of steps.
        optimizer: Updates the parameters.
        lr_scheduler: Sets its learning rate; ``ReduceLROnPlateau`` by a metric, once per epoch. None = a
            constant learning rate.

    Raises:
        MisconfigurationException: A schedule over the whole run without ``total_steps`` in a run without end or
            without a step, or a ``ReduceLROnPlateau`` that names no metric.
    """
    if lr_scheduler is None:
        return optimizer
    if isinstance(lr_scheduler, ReduceLROnPlateau):
        if (metric := getattr(lr_scheduler, "monitor", None)) is None:
            raise MisconfigurationException(
                "ReduceLROnPlateau follows a metric: take that of lightning.pytorch.cli, with monitor='val/ll'"
            )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": lr_scheduler, "monitor": metric}}
    if isinstance(lr_scheduler, PlannedSchedule) and lr_scheduler.total_steps is None:
        steps = module.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise MisconfigurationException(
                "a run without end has no cosine: give --trainer.max_steps, --trainer.max_epochs or "
                "--lr_scheduler.total_steps, or turn the schedule off by --lr_scheduler=null (from Python "
                "Trainer(max_steps=...) or use_optimizer(lr_scheduler=None))"
            )
        if steps < 1:
            raise MisconfigurationException(
                f"a run must take at least 1 step, got {steps:g}: raise --trainer.max_steps, --trainer.max_epochs or "
                "--trainer.limit_train_batches"
            )
        lr_scheduler.plan(int(steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": lr_scheduler, "interval": "step"}}
