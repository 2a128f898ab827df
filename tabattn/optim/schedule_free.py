"""Schedule-free optimizers: switching between training weights and their average."""

from typing import Any, Literal

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from tabattn.storage.trusted import resolve


class ScheduleFree(Callback):
    """Callback for schedule-free optimizers: evaluates and saves the averaged weights.

    Such an optimizer (Defazio et al. 2024, arXiv 2405.15682) computes gradients at one set of weights, while its result
    is their average; its methods ``train`` and ``eval`` switch the parameters between the two. They hold the average in
    validation, after training and whenever the module's state is read, so in every checkpoint; training weights return
    with the next training batch. Optimizers without these methods are left alone.
    """

    def __init__(self) -> None:
        self._hook: RemovableHandle | None = None
        # The training weights, and the versions of the parameters while these hold the average.
        self._training: list[Tensor] = []
        self._versions: list[int] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Training weights, bit for bit: recomputed from the average they would differ by rounding."""
        return {"training": self._training} if self._training else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._training, self._versions = state_dict["training"], None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if any(map(has_modes, trainer.optimizers)):
            module: nn.Module = pl_module
            # A checkpoint reads the optimizer's state after the module's, so both are in the same mode.
            self._hook = module.register_state_dict_pre_hook(lambda *_: self._switch(trainer, "eval"))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._switch(trainer, "train")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self._switch(trainer, "train")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._switch(trainer, "eval")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._switch(trainer, "eval")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _switch(self, trainer: Trainer, mode: Literal["train", "eval"]) -> None:
        """Change the mode, and restore the training weights bit for bit, unless others were loaded meanwhile."""
        optimizers = [optimizer for optimizer in trainer.optimizers if has_modes(optimizer)]
        weights = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        if mode == "eval":
            before = [weight._version for weight in weights]
            kept = [weight.detach().clone() for weight in weights]
            switch(trainer, mode)
            after = [weight._version for weight in weights]
            if after != before:
                self._training, self._versions = kept, after
            return
        kept, self._training = self._training, []
        same = self._versions in (None, [weight._version for weight in weights])
        switch(trainer, mode)
        if len(kept) == len(weights) and same:
            with torch.no_grad():
                for weight, exact in zip(weights, kept, strict=True):
                    weight.copy_(exact)


def check_schedule(config: Namespace, asked: bool) -> None:
    """Drop the default schedule for a schedule-free optimizer, and warn if the user chose one.

    Args:
        config: Configuration with the entries ``optimizer`` and ``lr_scheduler``.
        asked: Whether the user chose the schedule.
    """
    if config.lr_scheduler is None or not has_modes(resolve(config.optimizer.class_path, Optimizer)):
        return
    optimizer, schedule = (config[key].class_path.rpartition(".")[2] for key in ("optimizer", "lr_scheduler"))
    if asked:
        rank_zero_warn(
            f"{optimizer} is schedule-free: its average is worse for a learning rate that falls, as {schedule} may let "
            "it; leave the schedule out by --lr_scheduler=null, a linear warm-up is an argument of the optimizer"
        )
    else:
        rank_zero_info(f"{optimizer} is schedule-free: the learning rate is constant, the default {schedule} left out")
        config.lr_scheduler = None


def has_modes(optimizer: Optimizer | type[Optimizer]) -> bool:
    """Whether an optimizer has the methods ``train`` and ``eval`` of schedule-free ones."""
    return all(callable(getattr(optimizer, mode, None)) for mode in ("train", "eval"))


def switch(trainer: Trainer, mode: Literal["train", "eval"]) -> None:
    """Switch all schedule-free optimizers to the mode ``train`` or ``eval``."""
    for optimizer in filter(has_modes, trainer.optimizers):
        getattr(optimizer, mode)()
