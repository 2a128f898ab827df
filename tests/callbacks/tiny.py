"""Tiny task with real attention, and readers of what a run wrote."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tabattn.attention import AttentionFactory, Mechanism, Softmax
from tabattn.nn.multihead import MultiheadAttention

TOKENS, DIM, HEADS = 5, 8, 2


class Batch(NamedTuple):
    x: Tensor
    y: Tensor
    context: int


class Uniform(Mechanism):
    """Sees all keys alike."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return v.mean(-2, keepdim=True).expand(*q.shape[:-1], v.shape[-1])


class FirstTwo(Mechanism):
    """Sees the first key three times as much as the second, and no other."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        mixed = 0.75 * v[..., 0, :] + 0.25 * v[..., 1, :]
        return mixed[..., None, :].expand(*q.shape[:-1], v.shape[-1])


class TinyTask(LightningModule):
    def __init__(self, attention: AttentionFactory = Softmax) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(MultiheadAttention(DIM, HEADS, attention) for _ in range(2))
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(DIM, 1)
        self.losses: list[float] = []
        self.probed: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + self.dropout(block(x))
        scores: Tensor = self.head(x)
        return scores.mean((1, 2))

    def loss(self, batch: Batch) -> Tensor:
        error: Tensor = self(batch.x) - batch.y
        return error.square().mean()

    def training_step(self, batch: Batch) -> Tensor:
        assert all(not module._forward_hooks for module in self.modules())
        assert all(module.training for module in self.modules())
        loss = self.loss(batch)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch: Batch) -> None:
        self.log("val/loss", self.loss(batch), batch_size=len(batch.y))

    test_step = validation_step

    def probe(self, batch: Batch) -> Tensor:
        self.probed.append(batch)
        torch.rand(3)
        return self.forward(batch.x)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader(batches: int = 2, items: int = 4) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    sizes = (items, TOKENS, DIM)
    data = [
        Batch(torch.randn(sizes, generator=generator), torch.randn(items, generator=generator), 3)
        for _ in range(batches)
    ]
    return DataLoader(data, batch_size=None)  # type: ignore[arg-type]


def trainer(folder: Path, callbacks: Sequence[Callback] = (), **options: Any) -> Trainer:
    settings: dict[str, Any] = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": [TensorBoardLogger(folder, name="board"), CSVLogger(folder, name="csv")],
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**settings | options, callbacks=list(callbacks))


def fit(folder: Path, task: TinyTask, *callbacks: Callback, **options: Any) -> Trainer:
    run = trainer(folder, callbacks, **options)
    run.fit(task, loader(3), loader(2))
    return run


def board(folder: Path, version: int = 0) -> EventAccumulator:
    return EventAccumulator(str(folder / "board" / f"version_{version}")).Reload()


def metrics(folder: Path, name: str) -> list[float]:
    with (folder / "csv" / "version_0" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
