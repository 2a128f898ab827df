"""Trainer flags that cut, repeat or reload epochs do not change the stream of training batches."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from torch import Tensor

from datamodules import SyntheticPairs, SyntheticPrior
from tests.datamodules.test_parts import Recorder

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "limit_val_batches": 0,
}


def make(kind: str) -> Any:
    if kind == "pairs":
        return SyntheticPairs("const", batch_size=2, steps_per_epoch=4)
    return SyntheticPrior(batch_size=2, steps_per_epoch=4, rows=(16, 24), features=(2, 3), tables=("sklearn:iris",))


def seen(kind: str, folder: Path, **flags: Any) -> list[Tensor]:
    task = Recorder()
    Trainer(**QUIET, default_root_dir=folder, **{"max_epochs": 2, **flags}).fit(task, make(kind))
    return task.seen


@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader`", "ignore:The number of training batches")
@pytest.mark.parametrize("kind", ["pairs", "prior"])
@pytest.mark.parametrize(
    "flags",
    [
        {"limit_train_batches": 2, "max_epochs": 4},
        {"limit_train_batches": 0.5, "max_epochs": 4},
        {"limit_train_batches": 3, "max_epochs": 3, "max_steps": 8},
        {"reload_dataloaders_every_n_epochs": 1},
        {"reload_dataloaders_every_n_epochs": 1, "limit_train_batches": 2, "max_epochs": 4},
        {"accumulate_grad_batches": 2},
    ],
)
def test_no_flag_leaves_out_or_repeats_a_training_batch(kind: str, flags: dict[str, Any], tmp_path: Path) -> None:
    loader = make(kind).train_dataloader()
    expected = [batch.x.nan_to_num() for _ in range(2) for batch in loader]
    found = seen(kind, tmp_path, **flags)
    assert len(found) == 8
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert (one == other).all()
