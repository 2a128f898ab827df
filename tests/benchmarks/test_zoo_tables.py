"""Comparison of networks for tables that are not of the zoo."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer

from benchmarks.zoo_tables import arguments, main, rows_of, tables
from datamodules import NetworkZoo
from datamodules.zoo import ZooOptions
from tabattn.tasks import NetworkVAE
from tabattn.zoo import NeuronTransformer, Sizes


def test_tables_are_new_tasks_and_diabetes() -> None:
    splits = tables("seed", 2, 10)
    assert [split.name for split in splits] == ["seed 0", "seed 1", "diabetes"]
    for split in splits:
        assert split.x.shape == (len(split.y), 10)
        assert np.isfinite(split.x_test).all()
        assert len(split.y_test) > 100
    assert tables("seed", 1, 9) == []


def test_wins_and_medians_of_each_kind() -> None:
    found = [{"a": [1.0, 3.0], "b": [0.5, 4.0]}, {"b": [2.0, 0.0]}, {"a": [3.0, 5.0], "b": [9.0, 1.0]}]
    assert rows_of(found, "b", 0) == [["a", "2.000", "4.000", "1 of 2"], ["b", "2.000", "1.000", ""]]
    assert rows_of(found, "b", 1)[0][-1] == "1 of 2"


def test_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--checkpoint=a.ckpt", "--tasks=0"])
    assert "tasks must be at least 1, got 0" in capsys.readouterr().err


@pytest.mark.slow
def test_the_program(tmp_path: Path) -> None:
    zoo = NetworkZoo(str(tmp_path / "zoo.h5"), zoo=ZooOptions(networks=20, tasks=10, steps=10))
    make = partial(NeuronTransformer, dim=16, latent=8, layers=1, weight_layers=1, architecture_layers=1)
    task = NetworkVAE(make, sizes=Sizes(vertices=40, levels=5, width=10, inputs=10))
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_steps=1, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(task, zoo)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    torch.manual_seed(0)
    main(
        [
            f"--checkpoint={tmp_path / 'a.ckpt'}",
            f"--zoo={zoo.path}",
            "--tasks=1",
            "--evaluations=50",
            f"--out={tmp_path / 'a.md'}",
        ]
    )
    text = (tmp_path / "a.md").read_text()
    assert all(
        f"\n| {kind} |" in text for kind in ("sampled", "new weights", "nearest task", "ridge", "nsga2", "cmaes")
    )
    assert "| diabetes |" in text
