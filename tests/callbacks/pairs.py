"""Tiny task of sequence pairs with a real network."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from tabattn.contract.batches import PairBatch
from tabattn.pairs import TNPD, InferenceOptions, Trajectories, lay_out, trajectories
from tests.callbacks.tiny import trainer
from tests.pairs.tasks import tasks

OPTIONS = InferenceOptions(samples=3, context_p=2)


class TinyPairs(LightningModule):
    def __init__(self, **network: Any) -> None:
        super().__init__()
        self.network = TNPD(**{"dim": 8, "heads": 2, "hidden": 8, "layers": 2, **network})
        self.losses: list[float] = []
        self.asked: list[PairBatch] = []

    def trajectories(self, batch: PairBatch) -> Trajectories:
        assert not self.training
        self.asked.append(batch)
        return trajectories(self.network, lay_out(batch, OPTIONS), OPTIONS)

    def training_step(self, batch: PairBatch) -> Tensor:
        density = self.network.density(batch.x, batch.y, batch.member, batch.context)
        loss = -density.log_prob(batch.y[:, batch.context :]).mean()
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch: PairBatch) -> None:
        torch.rand(1)

    test_step = validation_step

    def predict_step(self, batch: PairBatch) -> Trajectories:
        return self.trajectories(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def loader(batches: int = 2) -> DataLoader[Any]:
    return DataLoader([tasks()] * batches, batch_size=None)  # type: ignore[arg-type]


def fit(folder: Path, task: LightningModule, *callbacks: Any, **options: Any) -> None:
    trainer(folder, callbacks, **options).fit(task, loader(), loader())
