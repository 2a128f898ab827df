"""Probe: a forward pass of a task's network on a small batch that leaves the training bit-identical."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor


def leading_size(batch: Any) -> int:
    """Leading size of a batch's first tensor; 0 without one."""
    sizes: list[int] = []
    apply_to_collection(batch, Tensor, lambda tensor: sizes.extend(tensor.shape[:1]))
    return sizes[0] if sizes else 0


def cut(batch: Any, items: int | Sequence[int]) -> Any:
    """Copy the first items of a batch, or some of them, to the CPU.

    The leading size of the first tensor is taken as the batch size; every tensor that leads with it is cut, and all
    else is kept.

    Args:
        batch: Tensors in any nesting of tuples, NamedTuples, lists, dicts and dataclasses.
        items: How many items to keep, or their numbers.

    Returns:
        The same structure, owning its memory.

    Raises:
        ValueError: If the batch holds no tensor with a leading axis.
    """
    sizes: list[int] = []
    apply_to_collection(batch, Tensor, lambda tensor: sizes.extend(tensor.shape[:1]))
    if not sizes:
        raise ValueError(f"a probe needs a batch with at least one tensor that has axes, got {type(batch).__name__}")

    chosen = slice(items) if isinstance(items, int) else list(items)

    def first(tensor: Tensor) -> Tensor:
        kept = tensor[chosen] if tensor.dim() and len(tensor) == sizes[0] else tensor
        return kept.detach().to("cpu", copy=True)

    return apply_to_collection(batch, Tensor, first)


def run(task: LightningModule, batch: Any) -> Any:
    """Run the task's forward pass on a batch: its ``probe`` where it has one, else its ``predict_step``."""
    probe = getattr(task, "probe", None)
    if probe is not None:
        return probe(batch)
    takes_index = is_param_in_hook_signature(task.predict_step, "batch_idx", min_args=2)
    return task.predict_step(batch, 0) if takes_index else task.predict_step(batch)


def to_device(task: LightningModule, batch: Any) -> Any:
    """Move a batch to the device of the task's parameters."""
    return move_data_to_device(batch, task.device)


def shows(layers: str | None, path: str) -> bool:
    """Whether a regular expression, if there is one, is found in a module path."""
    return layers is None or re.search(layers, path) is not None


def evenly(position: int, number: int, total: float) -> bool:
    """Whether a batch is one of those to look at: ``number`` spread evenly over ``total``, the first of endless data.

    Args:
        position: Number of the batch, from 0.
        number: How many batches to look at.
        total: How many there are; infinite = unknown.
    """
    if math.isinf(total):
        return position < number
    return position * number % total < number


@contextmanager
def unnoticed(trainer: Trainer, task: LightningModule) -> Iterator[None]:
    """Context for a probe: evaluation mode, no gradients, random states and modes restored after."""
    training = [module for module in task.modules() if module.training]
    task.eval()
    try:
        with isolate_rng(), torch.no_grad(), trainer.precision_plugin.predict_step_context():
            yield
    finally:
        for module in training:
            module.training = True
