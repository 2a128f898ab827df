"""Lightning's weight averaging on an in-context network."""

from pathlib import Path
from typing import Any

import pytest
import torch

import datamodules  # noqa: F401
from tabattn.tasks import PriorClassification
from tabattn.training.cli import CLI

FIT = ["fit", "--model=PriorClassification", "--data=SyntheticPrior", "--data.tables=[sklearn:iris]"]
FIT += ["--data.steps_per_epoch=8", "--data.batch_size=1", "--data.rows=[12,16]", "--data.features=[4,5]"]
FIT += [
    "--data.classes=[2,3]",
    "--model.network.dim=8",
    "--model.network.heads=2",
    "--model.network.hidden=8",
    "--model.network.layers=1",
]
FIT += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
FIT += ["--trainer.max_epochs=2", "--run.root=.", "--run.name=run"]


@pytest.mark.parametrize(
    "average",
    [["EMAWeightAveraging", "--trainer.callbacks.decay=0.9"], ["WeightAveraging"]],
    ids=lambda flags: flags[0],
)
def test_the_average_is_what_is_validated_and_saved(
    average: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    cli: Any = CLI([*FIT, f"--trainer.callbacks+={average[0]}", *average[1:]])
    path = "run/version_0/checkpoints/last.ckpt"
    saved = torch.load(path, weights_only=True)
    name = "network.decoder.0.weight"
    assert not torch.equal(saved["state_dict"][name], saved["current_model_state"][name])
    loaded: Any = PriorClassification.load_from_checkpoint(path, weights_only=True)
    x, y = torch.randn(2, 9, 5), torch.randint(0, 3, (2, 9))
    torch.testing.assert_close(cli.model.network(x, y, 6), loaded.network(x, y, 6), rtol=0, atol=0)


def test_a_resumed_average_equals_an_uninterrupted_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [*FIT, "--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.9", "--lr_scheduler=null"]
    whole: Any = CLI(flags)
    CLI([*flags, "--trainer.max_epochs=1"])
    resumed: Any = CLI([*flags, "--ckpt_path=run/version_1/checkpoints/last.ckpt"])
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], weight, rtol=0, atol=0)
