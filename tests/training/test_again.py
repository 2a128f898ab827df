"""Every task in several runs of one object: what an evaluation in inference mode leaves, a training can update."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from datamodules import QueriesKeys, SyntheticPrior, SyntheticRegression, TableCells
from datamodules.reconstruction import ContextOptions
from tabattn import tasks
from tabattn.prior.network import PriorNetwork
from tabattn.reconstruction import NETWORKS
from tabattn.sparsity.options import ClusterOptions
from tabattn.tasks import (
    MaskedLanguageModel,
    NetworkVAE,
    PairInference,
    PriorClassification,
    PriorRegression,
    SparsefinderProjections,
    TableReconstruction,
    Task,
)
from tests.mlm.texts import masked_text
from tests.pairs.test_task import SMALLEST as TNP
from tests.pairs.test_task import data as pairs
from tests.prior.test_regression import DATA as REGRESSION
from tests.prior.test_regression import SIZES as SIZES_OF_REGRESSION
from tests.prior.test_task import DATA, NETWORK
from tests.reconstruction.test_task import SIZES, frame
from tests.sparsity.recorded import file
from tests.zoo.networks import batch
from tests.zoo.test_task import loaded
from tests.zoo.test_task import task as zoo

Made = tuple[LightningModule, Any]
"""Task, and the arguments of ``fit``: a datamodule, or loaders to train and to validate on."""


def prior(folder: Path) -> Made:
    return PriorClassification(NETWORK), [SyntheticPrior(**DATA)]


def regression(folder: Path) -> Made:
    return PriorRegression(partial(PriorNetwork, **SIZES_OF_REGRESSION, classes=12)), [
        SyntheticRegression(**REGRESSION)
    ]


def inference(folder: Path) -> Made:
    return PairInference(TNP), [pairs()]


def reconstruction(folder: Path, network: str = "CellTransformer") -> Made:
    data = TableCells(frame(), ("price", "kind"), context=ContextOptions(rows=16), steps_per_epoch=2)
    return TableReconstruction(partial(NETWORKS[network], **SIZES)), [data]


def networks(folder: Path) -> Made:
    return zoo(), [loaded(batch(4)), loaded(batch(3, 9))]


def sparsity(folder: Path) -> Made:
    return SparsefinderProjections(3, clusters=ClusterOptions(clusters=3)), [QueriesKeys(file(folder), 3)]


def mlm(folder: Path) -> Made:
    pytest.importorskip("transformers", minversion="5.0")
    return MaskedLanguageModel(dim=16, hidden=16, heads=2, layers=1), [masked_text(folder)]


CASES = {
    PriorClassification: prior,
    PriorRegression: regression,
    PairInference: inference,
    TableReconstruction: reconstruction,
    NetworkVAE: networks,
    SparsefinderProjections: sparsity,
    MaskedLanguageModel: mlm,
}


def trainer(folder: Path, sanity: int = 0, **options: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(
        accelerator="cpu",
        max_steps=2,
        limit_train_batches=2,
        num_sanity_val_steps=sanity,
        logger=False,
        check_val_every_n_epoch=1,
        default_root_dir=folder,
        **quiet,
        **options,
    )


def validated(
    task: LightningModule, data: list[Any], folder: Path, how: str = "validate", **options: Any
) -> dict[str, float]:
    (scores,) = getattr(trainer(folder, **options), how)(task, *data[-1:], verbose=False)
    return dict(scores)


def test_every_task_is_tried() -> None:
    assert set(CASES) == {getattr(tasks, name) for name in tasks.__all__} - {Task}


@pytest.mark.parametrize("sanity", [0, 2])
@pytest.mark.parametrize("make", CASES.values(), ids=[cls.__name__ for cls in CASES])
def test_validate_then_fit_and_fit_again(make: Any, sanity: int, tmp_path: Path) -> None:
    task, data = make(tmp_path)
    validated(task, data, tmp_path)
    for _ in range(2):
        run = trainer(tmp_path, sanity)
        run.fit(task, *data)
        assert run.global_step == 2
        assert any(name.startswith("val/") for name in run.callback_metrics)
    validated(task, data, tmp_path, inference_mode=False)
    if len(data) == 1:
        trainer(tmp_path).test(task, *data, verbose=False)


@pytest.mark.parametrize("network", sorted({*NETWORKS} - {"LegacyNPT", "PatchTransformer"}))
def test_every_network_of_reconstruction_trains_after_an_evaluation(network: str, tmp_path: Path) -> None:
    task, data = reconstruction(tmp_path, network)
    validated(task, data, tmp_path)
    trainer(tmp_path).fit(task, *data)


class Stops(Exception):
    """An interruption."""


@pytest.mark.parametrize("make", CASES.values(), ids=[cls.__name__ for cls in CASES])
@pytest.mark.parametrize(("how", "hook"), [("validate", "on_validation_epoch_end"), ("test", "on_test_epoch_end")])
def test_an_interrupted_evaluation_adds_nothing_to_the_next(
    make: Any, how: str, hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, data = make(tmp_path)
    expected = validated(task, data, tmp_path, how)
    weights = copy.deepcopy(task.state_dict())

    def stop(*_: Any) -> None:
        raise Stops

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(type(task), hook, stop)
        for parameter in task.parameters():
            parameter += 0.5
        with pytest.raises(Stops):
            validated(task, data, tmp_path, how)
    task.load_state_dict(weights)
    assert validated(task, data, tmp_path, how) == pytest.approx(expected, nan_ok=True)
