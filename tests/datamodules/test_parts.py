"""Validation and test score different rows; overfit_batches repeats the same batches."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from datamodules import SyntheticPairs, SyntheticPrior
from tests.helpers import build


def targets(loader: Any) -> set[tuple[float, ...]]:
    return {tuple(row) for batch in loader for row in batch.x[0, batch.context :].tolist()}


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_no_row_is_scored_in_validation_and_in_the_test(folds: int) -> None:
    data = build(SyntheticPrior, tables=("sklearn:wine", "sklearn:breast_cancer"), evaluation__folds=folds)
    for table in (0, 1):
        val, test = (
            targets(batch for batch in loader if int(batch.table) == table)
            for loader in (data.val_dataloader(), data.test_dataloader())
        )
        assert not val & test
        assert len(val) + len(test) == len(data.real[table].y)
        assert len(val) == pytest.approx(len(data.real[table].y) * (folds // 2) / folds, abs=2)
    assert len(list(data.predict_dataloader())) == len(list(data.test_dataloader()))


class Recorder(LightningModule):
    """Remembers the batches it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.append(batch.x.nan_to_num())
        return self.number

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:The number of training batches", "ignore:You passed in a `val_dataloader`")
@pytest.mark.parametrize(
    ("data", "share"),
    [
        (SyntheticPairs("const", batch_size=2, steps_per_epoch=10), 2),
        (SyntheticPairs("const", batch_size=2, steps_per_epoch=10), 0.2),
        (SyntheticPrior(batch_size=2, steps_per_epoch=10, tables=("sklearn:iris",)), 2),
    ],
)
def test_overfitting_repeats_the_first_batches(data: Any, share: float, tmp_path: Path) -> None:
    task = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        max_epochs=3,
        overfit_batches=share,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(task, data)
    assert len(task.seen) == 6
    assert all(torch.equal(task.seen[place], task.seen[place % 2]) for place in range(6))
    assert not torch.equal(task.seen[0], task.seen[1])
