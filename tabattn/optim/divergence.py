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
"""Consecutive bad steps that stop a run. One or two may be due to single batches; after a divergence of the network all
later steps are bad."""

INTERVAL = 50
"""Steps between two checks if a check is expensive because it synchronises with the device or other ranks."""


MOST_SKIPPED = 100
"""Consecutive skipped steps that stop a run."""


class DivergenceGuard(Callback):
    """Divergence guard: stops a training whose loss or gradient is NaN or infinite; saves no such weights.

    On a CPU, and everywhere with ``skip``, a step whose gradient is not finite is skipped: parameters and optimizer
    state are not changed. ``patience`` consecutive bad steps stop the run. On other devices, and with several ranks,
    the check is computed on the device and read every 50 steps. With a gradient scaler (float16), overflows are
    expected and skipped by the scaler; they count once the scale has fallen to 1. Weights are checked at each
    checkpoint: if they are not finite, nothing is saved and the previous file stays.

    Args:
        action: ``stop``: stop the run; ``skip``: skip each step whose gradient is not finite and go on, but stop after
            100 of them in a row, or at the end if every step was skipped; ``off``: no checks of loss and gradient.
            Weights that are not finite are never saved.
        patience: Consecutive bad steps that stop the run.
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
        # Number of consecutive bad steps, the first of them, and its loss and largest gradient.
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
            # A message each time their number has doubled.
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
        """Stop a run whose steps are all skipped."""
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
        """Update the number of consecutive bad steps, on the device and without synchronising."""
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
        # Ranks share the gradient, which is not finite either on a rank whose loss is finite.
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
    """Path of the newest checkpoint of a run, as the end of a message."""
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
    """Make the next step of an optimizer change nothing.

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
    """Gradient scaler of float16 training; None in other precisions."""
    return getattr(trainer.precision_plugin, "scaler", None)
