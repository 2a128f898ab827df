"""Logging of training steps, without what Lightning repeats for each value."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

STEP = "training_step"


class StepLogs(LightningModule):
    """LightningModule that logs values of training steps at a fraction of the cost.

    Lightning moves the record of a value, with all its settings, to the value's device each time it is logged, which
    takes as long as a layer of a small network. What it has recorded once, in the same way and on the same device, is
    only updated here. What is logged, and when, is the same.
    """

    def unreplayable(self, batch: Any) -> str | None:
        """Why a step on such a batch cannot be recorded and replayed; None = it can.

        A recorded step computes with the same numbers for ever, but for tensors of its batch.
        """
        return None

    def log(self, name: str, value: Any, *args: Any, **options: Any) -> None:
        """Log a value; arguments are those of Lightning."""
        seen = self.__dict__.setdefault("_step_logs", {})
        if isinstance(value, float):
            value = torch.tensor(value, device=self.device, dtype=torch.get_default_dtype())
        # The size of a batch matters to averages over the epoch alone, which are left to Lightning.
        way = {option: given for option, given in options.items() if option != "batch_size"}
        record = None if args or seen.get(name) != way else self._record(name, value)
        if record is None:
            super().log(name, value, *args, **options)
            seen[name] = way
        else:
            record.forward(value.detach().squeeze(), 1)
            record.has_reset = False

    def _record(self, name: str, value: Any) -> Any:
        """Lightning's record of a value that was logged before in this epoch; None = it must be made anew."""
        trainer = self._trainer
        if trainer is None or not isinstance(value, Tensor) or value.numel() != 1 or self._current_fx_name != STEP:
            return None
        if trainer._results is None or trainer._logger_connector._first_loop_iter is not False:
            return None
        results: Any = trainer._results
        record = results.get(f"{STEP}.{name}")
        if record is None or not record.is_tensor or record.meta.on_epoch or record.value.device != value.device:
            return None
        return record
