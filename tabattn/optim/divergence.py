"""Divergence guard: NaN or infinite losses, gradients and weights, which are never saved to a checkpoint."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from tabattn.contract.errors import DataError, DivergenceError
from tabattn.storage.finite import non_finite_in_checkpoint

PATIENCE = 3
"""Bad steps in a row that stop a run. One or two can come from single batches; where the network itself has diverged,
every batch that follows is bad too."""

INTERVAL = 50
"""Steps from one look to the next where looking is not free: it waits for the device, or for other processes."""


MOST_SKIPPED = 100
"""Steps in a row that are left out before a run gives up."""


class DivergenceGuard(Callback):
    """Divergence guard: stops a training whose loss or gradient is NaN or infinite; saves no such weights.

    On a CPU, and everywhere with ``skip``, a step whose gradient is not finite is left out: parameters and the state of
    the optimizer stay as they are. ``patience`` bad steps in a row stop the run. On other devices, and with several
    processes, the check is computed on the device and read every 50 steps. With a gradient scaler (float16) a gradient
    that overflows is normal and left out by the scaler; it counts once the scale has fallen to 1. Weights are checked
    whenever a checkpoint is made: one that is not finite is refused, and the file that was there stays.

    Args:
        action: ``stop``: stop the run; ``skip``: leave out each step whose gradient is not finite and go on, but stop
            after 100 of them in a row, or at the end where no step was taken at all; ``off``: watch neither.
            Checkpoints of weights that are not finite are refused in each case.
        patience: Bad steps in a row that stop the run.
    """

    def __init__(self, action: Literal["stop", "skip", "off"] = "stop", patience: int = PATIENCE) -> None:
        if action not in ("stop", "skip", "off"):
            raise ValueError(f"action must be stop, skip or off, got {action!r}")
        if patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        self.action = action
        self.patience = patience
        self.skipped = 0
        self.steps = 0
        self.skipped_in_a_row = 0
        self.taken = False
        self.gradient: Tensor | None = None
        # How many bad steps in a row, at which step they began, the loss and the largest gradient there.
        self.streak: Tensor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.streak, self.gradient, self.skipped, self.steps = None, None, 0, 0
        self.skipped_in_a_row, self.taken = 0, False

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Compute the largest gradient, and skip the step where it is not finite and the check needs no sync."""
        if self.action == "off":
            return
        self.gradient = largest_gradient(optimizer)
        if self.gradient is None or _scaler(trainer) is not None:
            return
        if (self.action == "skip" or self.gradient.device.type == "cpu") and not self.gradient.isfinite():
            leave_step_out(optimizer)
            self.skipped += 1
            self.skipped_in_a_row += 1
            # One line each time their number has doubled.
            if self.skipped & (self.skipped - 1) == 0:
                rank_zero_warn(
                    f"step {trainer.global_step + 1}: the gradient is {self.gradient.item():g}, so the step is left out"
                    + (f" ({self.skipped} of them so far)" if self.skipped > 1 else "")
                )
            if self.action == "skip" and self.skipped_in_a_row >= MOST_SKIPPED:
                self._give_up(trainer)
        else:
            self.skipped_in_a_row, self.taken = 0, True

    def _give_up(self, trainer: Trainer) -> None:
        """Stop a run whose steps are all left out."""
        raise DivergenceError(
            f"the training has diverged: the gradient was not finite in the last {self.skipped_in_a_row} steps, which "
            f"are left out; {last_good(trainer)}; a lower learning rate or --trainer.gradient_clip_val may help"
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count consecutive bad steps, and stop the run at ``patience`` of them.

        Raises:
            DivergenceError: The loss or the gradient has not been finite for ``patience`` steps.
        """
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        known = [value for value in (loss, self.gradient) if isinstance(value, Tensor)]
        if self.action != "stop" or not known:
            return
        self._count(trainer.global_step, known[0].detach(), known[-1])
        self.gradient = None
        self.steps += 1
        alone = trainer.world_size == 1 and known[0].device.type == "cpu"
        if alone or self.steps % INTERVAL == 0:
            self._look(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check at the end of each epoch, before its checkpoints, as epochs may be shorter than the interval.

        Raises:
            DivergenceError: The loss or the gradient has not been finite for ``patience`` steps.
        """
        if self.streak is not None:
            self._look(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to end a run normally with weights that are not finite, or were never updated."""
        if self.action == "skip" and self.skipped_in_a_row and not self.taken:
            self._give_up(trainer)
        if self.action != "off":
            refuse_diverged(trainer, pl_module, {"state_dict": pl_module.state_dict()})

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        refuse_diverged(trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        refuse_loaded(pl_module, checkpoint)

    def _count(self, step: int, loss: Tensor, gradient: Tensor) -> None:
        """Add a step to the streak, on the device and without waiting for it."""
        loss, gradient = loss.float(), gradient.float()
        if self.streak is None:
            self.streak = torch.zeros(4, dtype=torch.float64, device=loss.device)
        count = torch.where(loss.isfinite() & gradient.isfinite(), 0, self.streak[0] + 1)
        begun = torch.stack([count.new_tensor(step), loss.double(), gradient.double()])
        self.streak = torch.cat([count[None], torch.where(count == 1, begun, self.streak[1:])])

    def _look(self, trainer: Trainer) -> None:
        """Stop the run on all ranks if it has diverged on one."""
        assert self.streak is not None
        streaks = [self.streak]
        if trainer.world_size > 1:
            streaks = [torch.empty_like(self.streak) for _ in range(trainer.world_size)]
            torch.distributed.all_gather(streaks, self.streak)
        scaler = _scaler(trainer)
        if scaler is not None and scaler.get_scale() > 1:
            return
        bad = [(rank, row) for rank, row in enumerate(torch.stack(streaks).tolist()) if row[0] >= self.patience]
        if not bad:
            return
        # The gradient is shared by all processes: it is not finite either in those whose loss is.
        rank, (_, step, loss, gradient) = min(bad, key=lambda found: math.isfinite(found[1][2]))
        name, value = ("gradient", gradient) if math.isfinite(loss) else ("loss", loss)
        where = f" in process {rank}" if trainer.world_size > 1 and name == "loss" else ""
        raise DivergenceError(
            f"the training has diverged: the {name} is {value:g} since step {step:.0f}{where}; "
            f"{last_good(trainer)}{ADVICE}"
        )


ADVICE = "; a lower learning rate or --trainer.gradient_clip_val may help, --guard.action=skip leaves such steps out"


def refuse_diverged(trainer: Trainer | None, module: LightningModule, checkpoint: Mapping[str, Any]) -> None:
    """Raise DivergenceError where the weights of a checkpoint to be saved are not finite."""
    if name := non_finite_in_checkpoint(module, checkpoint):
        when = "" if trainer is None else f" at step {trainer.global_step}"
        raise DivergenceError(
            f"the training has diverged: the weights{when} are not finite, in {name}, and are not saved; "
            f"{last_good(trainer)}{ADVICE}"
        )


def refuse_loaded(module: LightningModule, checkpoint: Mapping[str, Any]) -> None:
    """Raise DataError where the weights of a checkpoint to be loaded are not finite."""
    if name := non_finite_in_checkpoint(module, checkpoint):
        raise DataError(
            f"the checkpoint holds weights that are not finite, in {name}: its training had diverged; take another one"
        )


def last_good(trainer: Trainer | None) -> str:
    """Name the newest checkpoint of a run, as the end of a message."""
    written = [] if trainer is None else trainer.checkpoint_callbacks
    callbacks = [callback for callback in written if isinstance(callback, ModelCheckpoint)]
    named = [Path(path) for each in callbacks for path in (each.best_model_path, each.last_model_path) if path]
    files = [path for path in named if path.exists()]
    if not files:
        return "no checkpoint was saved before"
    return f"the last good checkpoint is {max(files, key=lambda path: path.stat().st_mtime)}"


def largest_gradient(optimizer: Optimizer) -> Tensor | None:
    """Largest absolute gradient of an optimizer's parameters; NaN where one is, None without gradients."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if not gradients:
        return None
    values = [gradient.coalesce().values() if gradient.is_sparse else gradient for gradient in gradients]
    norms = torch._foreach_norm([value for value in values if value.numel()], float("inf"))
    return torch.stack([norm.to(norms[0].device, torch.float) for norm in norms]).amax() if norms else None


def leave_step_out(optimizer: Optimizer) -> None:
    """Turn the next step of an optimizer into one that changes nothing.

    Gradients are set to None, so that optimizers skip the parameters; counters in their groups are restored.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
    before = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]

    def put_back(optimizer: Optimizer, *_: Any) -> None:
        handle.remove()
        for group, values in zip(optimizer.param_groups, before, strict=True):
            group.update(values)

    handle: RemovableHandle = optimizer.register_step_post_hook(put_back)


def _scaler(trainer: Trainer) -> Any:
    """The gradient scaler of training in float16; None in other precisions."""
    return getattr(trainer.precision_plugin, "scaler", None)
