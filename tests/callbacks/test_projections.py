"""Learned projections in a run: a model of Entmax is tested with Sparsefinder in its place."""

from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from callbacks import Projections
from tabattn.attention import Sparsefinder
from tabattn.storage.projection_files import LayerProjection, write_projections
from tests.helpers import MeanData, MeanTask


def evaluate(task: MeanTask, callback: Projections, folder: Path) -> None:
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.test(task, MeanData(), verbose=False)


def test_projections_are_there_before_the_first_batch(tmp_path: Path) -> None:
    state = {"w": torch.randn(2, 2, 4), "b": torch.randn(2, 1, 4)}
    layers = {"mix.mechanism": LayerProjection(state, state, True, torch.randn(2, 1, 3, 4))}
    write_projections(tmp_path / "a.safetensors", layers)
    task = MeanTask(attention=partial(Sparsefinder, mode="gather", grouping="kmeans"))
    evaluate(task, Projections(f"{tmp_path}/a.safetensors"), tmp_path)
    mechanism = task.mix.mechanism
    assert isinstance(mechanism, Sparsefinder)
    assert mechanism.pattern is not None
    assert mechanism.pattern.centroids is not None
    with pytest.raises(MisconfigurationException, match="Projections: there is no file"):
        evaluate(task, Projections(f"{tmp_path}/b.safetensors"), tmp_path)
    with pytest.raises(MisconfigurationException, match="Projections: MeanTask has no Sparsefinder mechanism"):
        evaluate(MeanTask(), Projections(f"{tmp_path}/a.safetensors"), tmp_path)
