"""Values of training steps are logged as Lightning does it, without moving their records each time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultMetric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tabattn.optim.step_logs import StepLogs


class Plain(LightningModule):
    """Logs tensors, a number and an average in training, and a score in validation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        nn.init.ones_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.layer(batch).square().mean()
        self.log("loss", loss, prog_bar=True, batch_size=len(batch))
        self.log_dict({"double": 2 * loss, "shape": loss[None]}, batch_size=len(batch))
        self.log("number", batch_idx / 2)
        self.log("mean", loss, on_step=False, on_epoch=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("score", self.layer(batch).mean(), batch_size=len(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class Quick(StepLogs, Plain):
    pass


class Watch(Callback):
    """What callbacks and the progress bar are shown after each step."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        shown = {**trainer.callback_metrics, **{f"bar {k}": v for k, v in trainer.progress_bar_metrics.items()}}
        self.seen.append({name: float(value) for name, value in shown.items()})


def fit(task: LightningModule, folder: Path) -> tuple[list[Any], str]:
    watch = Watch()
    loader = DataLoader(torch.arange(1.0, 13).reshape(12, 1), 5)
    logger = CSVLogger(folder, name=type(task).__name__)
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    Trainer(max_epochs=3, logger=logger, callbacks=[watch], log_every_n_steps=2, accelerator="cpu", **quiet).fit(
        task, loader, loader
    )
    return watch.seen, Path(logger.log_dir, "metrics.csv").read_text()


def test_what_is_logged_is_the_same(tmp_path: Path) -> None:
    assert fit(Quick(), tmp_path) == fit(Plain(), tmp_path)


def test_records_of_tensors_are_moved_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    to = _ResultMetric.to

    def watched(self: Any, *args: Any, **options: Any) -> Any:
        moved.append(self.meta.name)
        return to(self, *args, **options)

    monkeypatch.setattr(_ResultMetric, "to", watched)
    fit(Quick(), tmp_path)
    quick = moved.copy()
    moved.clear()
    fit(Plain(), tmp_path)
    for name in ("loss", "double", "shape", "number"):
        assert moved.count(name) - quick.count(name) == 6  # Of three steps in each of three epochs, all but the first.
    for name in ("mean", "score"):
        assert moved.count(name) == quick.count(name)


def test_a_value_that_is_logged_in_two_ways_is_refused(tmp_path: Path) -> None:
    class Twice(Quick):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            if batch_idx == 2:
                self.log("loss", loss, prog_bar=False, batch_size=len(batch))
            return loss

    with pytest.raises(MisconfigurationException, match="twice"):
        fit(Twice(), tmp_path)
