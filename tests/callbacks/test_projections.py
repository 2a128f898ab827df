"""Learned projections in a run: a model of Entmax is tested with Sparsefinder in its place."""

import logging
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from callbacks import Projections
from tabattn.attention import Entmax, Sparsefinder
from tabattn.pairs import TNPD
from tabattn.storage.projection_files import LayerProjection, write_projections
from tabattn.storage.projection_loading import load_projections
from tabattn.tasks import PairInference
from tests.helpers import MeanData, MeanTask
from tests.training.test_from_python import sequences, trainer


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


@pytest.mark.filterwarnings("ignore:x leaves the range of training")
def test_weights_of_the_network_leave_what_was_filled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither is it said to be as initialised, nor replaced by projections of the file of weights."""
    network = partial(TNPD, dim=16, heads=2, hidden=16, layers=1)
    kmeans = partial(Sparsefinder, mode="gather", grouping="kmeans")

    def learned() -> LayerProjection:
        state = {"w": torch.randn(2, 8, 4), "b": torch.randn(2, 1, 4)}
        return LayerProjection(state, state, True, torch.randn(2, 1, 3, 4))

    task = PairInference(network=network, attention=kmeans)
    (path,) = (name for name, each in task.named_modules() if isinstance(each, Sparsefinder))
    wanted, others = learned(), learned()
    write_projections(tmp_path / "wanted.safetensors", {path: wanted})
    write_projections(tmp_path / "others.safetensors", {path: others})
    trained = PairInference(network=network, attention=Entmax), PairInference(network=network, attention=kmeans)
    load_projections(trained[1], tmp_path / "others.safetensors")
    for number, each in enumerate(trained):
        run = trainer(tmp_path)
        run.strategy.connect(each)
        run.save_checkpoint(tmp_path / f"{number}.ckpt", weights_only=True)
        task = PairInference(network=network, attention=kmeans, init_from=f"{tmp_path}/{number}.ckpt")
        own = trainer(tmp_path, callbacks=[Projections(f"{tmp_path}/wanted.safetensors")])
        with caplog.at_level(logging.INFO):
            own.test(task, sequences(), verbose=False)
        assert "left as initialised" not in caplog.text
        assert "of another shape" not in caplog.text
        mechanism = task.get_submodule(path)
        assert torch.equal(mechanism.projection.q.w, wanted.q["w"])
        assert torch.equal(mechanism.pattern.centroids, wanted.centroids)
        first = next(name for name, _ in task.network.named_parameters())
        assert torch.equal(task.network.get_parameter(first), each.network.get_parameter(first))
