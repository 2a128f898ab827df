"""Optimizers and learning-rate schedules, chosen by name on the command line."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tabattn.muon import BatchedMuon

SHAPE = ("total_steps", "warmup", "final")
"""What the curve of ``WarmupCosine`` follows from."""


class WarmupCosine(LRScheduler):
    """Raises the learning rate linearly, then lowers it along half a cosine; stepped once per batch.

    Args:
        optimizer: Whose learning rates are scheduled.
        total_steps: Optimizer steps of the whole run; by default the command line fills in those of the trainer.
        warmup: Fraction of the steps that raise the learning rate.
        final: Learning rate at the end, as a fraction of the peak.
        last_epoch: Steps already made, less one.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int | None = None,
        warmup: float = 0.05,
        final: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if not 0.0 <= warmup <= 1.0:
            raise ValueError(f"warmup must be in [0, 1], got {warmup}")
        if not 0.0 <= final <= 1.0:
            raise ValueError(f"final must be in [0, 1], got {final}")
        self.total_steps = _check_steps(total_steps)
        self.warmup = warmup
        self.final = final
        super().__init__(optimizer, last_epoch)

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
        rising = round(self.warmup * self.total_steps)
        if step < rising:
            return (step + 1) / rising
        progress = min(1.0, (step - rising) / max(1, self.total_steps - rising))
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * progress))

    def state_dict(self) -> dict[str, Any]:
        # A resumed run may be longer than the one that was saved, or end otherwise: its own arguments count.
        return {key: value for key, value in super().state_dict().items() if key not in SHAPE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` gave, and set the learning rate that the own curve has at that step."""
        super().load_state_dict({key: value for key, value in state_dict.items() if key not in SHAPE})
        if self.total_steps is not None:
            self.plan(self.total_steps)


def _check_steps(total_steps: int | None) -> int | None:
    if total_steps is not None and total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, got {total_steps}")
    return total_steps


class MuonAdamW(Optimizer):
    """Muon for weight matrices, AdamW for everything else, as one optimizer with one state.

    Muon replaces a matrix's momentum by the nearest orthogonal matrix (Jordan et al. 2024), which leaves the plateau
    before in-context learning several times sooner than AdamW. Embeddings and the narrow layers at a network's ends
    are better served by AdamW: they are told by their smaller side, so a wide embedding asks for a larger ``smallest``.

    Args:
        params: Parameters to update.
        lr: Learning rate of matrices.
        adamw_lr: Learning rate of everything else.
        momentum: Momentum of matrices.
        betas: Averaging of AdamW's two moments.
        weight_decay: Decoupled weight decay of matrices.
        smallest: Smaller side from which a parameter counts as a matrix.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        adamw_lr: float = 3e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        smallest: int = 16,
    ) -> None:
        numbers = {"lr": lr, "adamw_lr": adamw_lr, "momentum": momentum, "weight_decay": weight_decay}
        for name, value in (numbers | {"smallest": smallest}).items():
            if value < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        params = list(params)
        matrices = [p for p in params if p.ndim == 2 and min(p.shape) >= smallest]
        known = {id(p) for p in matrices}
        rest = [p for p in params if id(p) not in known]
        self._inner: list[Optimizer] = []
        if matrices:
            self._inner.append(BatchedMuon(matrices, lr, weight_decay, momentum))
        if rest:
            self._inner.append(AdamW(rest, adamw_lr, betas, weight_decay=0.0, fused=True))
        super().__init__([group for inner in self._inner for group in inner.param_groups], {})
        self._link()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter.

        Args:
            closure: Computes the loss and the gradients anew.

        Returns:
            The loss of the closure, where there is one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for inner in self._inner:
            inner.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` gave."""
        super().load_state_dict(state_dict)
        self._link()

    def _link(self) -> None:
        """Let the two optimizers work on this one's groups and state."""
        for inner, group in zip(self._inner, self.param_groups, strict=True):
            inner.param_groups = [group]
            inner.state = self.state
