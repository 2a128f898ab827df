"""Exact resume: random states in checkpoints, beside weights and optimizers."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

KEY = "random_states"
"""Key in the checkpoint of a list with one dictionary for each rank."""


class Resumption(Callback):
    """Callback that saves and restores the random states (Python, NumPy, torch) of each rank.

    Random numbers of training steps, such as those of dropout, are a separate stream: the state at the end of a step is
    restored at the start of the next, whatever validation, loaders or other callbacks draw in between. A resumed run
    therefore draws the same numbers as an uninterrupted one. Random numbers outside of steps, such as the order of a
    shuffled loader, continue from the state at the time of the checkpoint. Logged step numbers are those of the
    optimizer, also in a resumed run.
    """

    def __init__(self) -> None:
        self.stream: dict[str, Any] | None = None
        self.loaded: list[dict[str, Any]] | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.loaded = checkpoint.get(KEY, [])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the random states of the checkpoint, before loaders draw from them."""
        loaded, self.loaded, self.stream = self.loaded, None, None
        if loaded is None:
            return
        if len(loaded) != trainer.world_size:
            rank_zero_info(
                f"the checkpoint holds the random states of {len(loaded)} processes, this run has "
                f"{trainer.world_size}: random numbers, such as those of dropout, are not those of the uninterrupted "
                "run"
            )
            return
        state = loaded[trainer.global_rank]
        set_state(state["now"], trainer.strategy.root_device)
        self.stream = state["training"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.stream is not None:
            set_state(self.stream, trainer.strategy.root_device)
        if pl_module.automatic_optimization:
            # Lightning counts a resume at the end of an epoch as a step; logged step numbers must not.
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.stream = get_state(trainer.strategy.root_device)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Gather the random states of all ranks; a collective call."""
        state = {"now": get_state(trainer.strategy.root_device), "training": self.stream}
        states: list[Any] = [state]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, state)
        checkpoint[KEY] = states


def get_state(device: torch.device) -> dict[str, Any]:
    """Return the state of the global random generators, as plain values and tensors.

    Args:
        device: Device of the training; the generators of all visible devices of its type are included.
    """
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    state = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if (own := _generators(device)) is not None:
        all_of_them = getattr(own, "get_rng_state_all", None)
        state[device.type] = all_of_them() if all_of_them else [own.get_rng_state()]
    return state


def set_state(state: dict[str, Any], device: torch.device) -> None:
    """Restore the global random generators to a state of ``get_state``."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if (own := _generators(device)) is not None and device.type in state:
        saved = state[device.type]
        if isinstance(saved, Tensor):
            # Earlier versions saved the state of a single device.
            own.set_rng_state(saved.cpu(), device)
        elif hasattr(own, "get_rng_state_all"):
            for number, each in enumerate(saved[: own.device_count()]):
                own.set_rng_state(each.cpu(), number)
        else:
            own.set_rng_state(saved[0].cpu())


def _generators(device: torch.device) -> Any:
    """Module of a device type that has its own random generators, such as ``torch.cuda``; None for other types."""
    own = None if device.type == "cpu" else torch.get_device_module(device)
    return own if hasattr(own, "get_rng_state") else None
