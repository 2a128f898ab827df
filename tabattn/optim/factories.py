"""Factories of optimizers and schedules: checks, and their form in a configuration."""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tabattn.storage.hyperparameters import check_saved, import_path, plain

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
"""Called with the parameters; a class, or ``functools.partial(<class>, lr=...)``."""

ScheduleFactory = Callable[[Optimizer], LRScheduler]
"""Called with the optimizer; a class, or ``functools.partial(<class>, ...)``."""


def check_factory(name: str, given: Any) -> None:
    """Raise ValueError unless an argument is None or callable."""
    if given is not None and not callable(given):
        raise ValueError(
            f"{name} must be a class, or functools.partial(<class>, ...), got {type(given).__name__}: "
            "the task hands it the parameters when a training begins"
        )


def described_together(optimizer: OptimizerFactory, schedule: ScheduleFactory | None) -> dict[str, Any] | None:
    """Optimizer and schedule in the plain form of a configuration; None if one of them names no class."""
    parts = {"optimizer": described(optimizer), "lr_scheduler": described(schedule)}
    named = parts["optimizer"] is not None and (schedule is None) == (parts["lr_scheduler"] is None)
    return parts if named else None


def described(factory: OptimizerFactory | ScheduleFactory | None) -> dict[str, Any] | None:
    """Factory in the plain form of a configuration, defaults included; None if it names no class."""
    cls = factory.func if isinstance(factory, partial) else factory
    if not isinstance(cls, type):
        return None
    try:
        check_saved("optimizer", factory)
    except ValueError:
        return None
    _, *parameters = inspect.signature(cls).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    given = factory.keywords if isinstance(factory, partial) else {}
    return {"class_path": import_path(cls), "init_args": plain({**defaults, **given})}
