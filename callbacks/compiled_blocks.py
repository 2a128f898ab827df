"""Compilation of the blocks of a network for a training (``torch.compile``)."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from tabattn.attention import Mechanism
from tabattn.contract.errors import one_line

MOST_VARIANTS = 64
"""Most variants of a block that are compiled: by shapes, masks, training and evaluation."""


class CompiledBlocks(Callback):
    """Callback that compiles each block of the network (``torch.compile``), without graph breaks.

    ``--trainer.callbacks+=CompiledBlocks`` compiles the layers that hold attention, each by itself, for the time of a
    training; everything else, and later runs, are as without it. Outputs change by rounding. The first steps are slow,
    as is the first one of each further variant of shapes. Names of weights, checkpoints and ``capture`` are as without.

    Args:
        backend: Compiler of ``torch.compile``; ``inductor`` needs a C++ compiler on a CPU.

    Raises:
        MisconfigurationException: The network has no such layers, or one cannot be compiled as a whole.
    """

    def __init__(self, backend: str = "inductor") -> None:
        known = [*torch.compiler.list_backends(), "eager", "aot_eager"]
        if backend not in known:
            raise ValueError(f"backend must be one of {', '.join(known)}, got {backend!r}")
        self.backend = backend
        self.compiled: list[nn.Module] = []
        self._limit = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.compiled = list(blocks(pl_module))
        if not self.compiled:
            raise MisconfigurationException(f"CompiledBlocks: {type(pl_module).__name__} has no blocks with attention")
        config: Any = torch._dynamo.config
        self._limit, config.recompile_limit = config.recompile_limit, MOST_VARIANTS
        for block in self.compiled:
            block.compile(backend=self.backend, fullgraph=True)
            block._compiled_call_impl = _in_one_line(type(block), block._compiled_call_impl)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for block in self.compiled:
            block._compiled_call_impl = None
        if self.compiled:
            config: Any = torch._dynamo.config
            config.recompile_limit = self._limit
        self.compiled = []


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of a model: elements of its outermost lists whose elements all hold attention."""
    for child in model.children():
        if isinstance(child, nn.ModuleList) and len(child) and all(map(_holds_attention, child)):
            yield from child
        elif not isinstance(child, Mechanism):
            yield from blocks(child)


def _holds_attention(module: nn.Module) -> bool:
    return any(isinstance(part, Mechanism) for part in module.modules())


def _in_one_line(kind: type, call: Any) -> Callable[..., Any]:
    """Wrap the call of a compiled block, so that what cannot be compiled is refused in one line."""

    def run(*args: Any, **options: Any) -> Any:
        try:
            return call(*args, **options)
        except TorchDynamoException as ex:
            why = one_line(str(ex).strip().partition("\n")[0])
            raise MisconfigurationException(f"CompiledBlocks: {kind.__name__} cannot be compiled: {why}") from ex

    return run
