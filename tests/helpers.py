"""Minimal task, datamodule and mechanisms for runs."""

import inspect
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from tabattn.attention import AttentionFactory, Mechanism, Softmax
from tabattn.contract.errors import DataError
from tabattn.nn.multihead import MultiheadAttention

Made = TypeVar("Made")


def build(cls: Callable[..., Made], *args: Any, **options: Any) -> Made:
    """Build a datamodule from flat options: ``evaluation__val_batches`` is the ``val_batches`` of ``evaluation``."""
    parameters, plain = inspect.signature(cls).parameters, {}
    groups: dict[str, dict[str, Any]] = {}
    for name, value in options.items():
        group, _, option = name.partition("__")
        if option:
            groups.setdefault(group, {})[option] = value
        else:
            plain[name] = value
    for group, values in groups.items():
        plain[group] = _replaced(parameters[group].default, values)
    return cls(*args, **plain)


def _replaced(options: Any, values: dict[str, Any]) -> Any:
    """Replace options of a dataclass; ``columns__tails`` is an option of the dataclass in ``columns``."""
    changes: dict[str, Any] = {}
    for name, value in values.items():
        group, _, option = name.partition("__")
        inner = changes.get(group, getattr(options, group))
        changes[group] = _replaced(inner, {option: value}) if option else value
    return replace(options, **changes)


class Near(Mechanism):
    """Looks at the first keys only.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
        window: Reach from the start, in tokens.
        sharp: Factor on the scores.
    """

    def __init__(self, heads: int, head_dim: int, *, window: int = 8, sharp: float = 1.0) -> None:
        super().__init__(heads, head_dim)
        if window < 1:
            raise ValueError(f"window must be at least 1, got {window}")
        self.window = window
        self.sharp = sharp

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        scores = q @ k[..., : self.window, :].transpose(-1, -2) * self.scale * self.sharp
        return scores.softmax(-1) @ v[..., : self.window, :]


class Far(Near):
    """Looks at the last keys only.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
        window: Reach from the end, in tokens.
    """

    def __init__(self, heads: int, head_dim: int, *, window: int = 4) -> None:
        super().__init__(heads, head_dim, window=window)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().forward(q, k.flip(-2), v.flip(-2), mask)


class MeanTask(LightningModule):
    """Predicts the mean of a sequence.

    Args:
        dim: Width of a token.
        attention: Mixes the tokens.
        fault: Raises a RuntimeError at construction; stands for a fault of the program.
    """

    task_name = "tiny"

    def __init__(self, dim: int = 4, attention: AttentionFactory = Softmax, fault: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        if fault:
            raise RuntimeError("a fault of the program")
        self.mix = MultiheadAttention(dim, 2, attention)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor]) -> None:
        self.log("val/loss", self.loss(batch))

    def test_step(self, batch: list[Tensor]) -> None:
        self.log("test/loss", self.loss(batch))

    def predict_step(self, batch: list[Tensor]) -> Tensor:
        return self.mix(batch[0])

    def loss(self, batch: list[Tensor]) -> Tensor:
        (x,) = batch
        return (self.mix(x).mean(1) - x.mean(1)).square().mean()


class MeanData(LightningDataModule):
    """Random sequences.

    Args:
        size: Number of sequences.
    """

    def __init__(self, size: int = 6) -> None:
        super().__init__()
        if size < 2:
            raise ValueError(f"size must be at least 2, got {size}")
        x = torch.randn(size, 5, 4, generator=torch.Generator().manual_seed(0))
        self.sequences = TensorDataset(x)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.sequences, batch_size=2)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class Trouble(Callback):
    """Meets trouble at the first training batch.

    Args:
        kind: One of data, fault, interrupt, terminate.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def on_train_batch_start(self, *_: Any) -> None:
        if self.kind == "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            raise {
                "data": DataError("the table is empty"),
                "fault": RuntimeError("a fault of the program"),
                "interrupt": KeyboardInterrupt(),
            }[self.kind]


class Alone(Callback):
    """Meets trouble in one process of a run.

    Args:
        kind: One of data, fault, kill, nan.
        rank: The process.
        step: Steps before.
    """

    def __init__(self, kind: str, rank: int = 1, step: int = 7) -> None:
        self.kind = kind
        self.rank = rank
        self.step = step

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank != self.rank or trainer.global_step < self.step:
            return
        if self.kind == "nan":
            batch.y.fill_(torch.nan)
        elif self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.kind == "data":
            raise DataError("the table is empty")
        else:
            raise RuntimeError("a fault of the program")
