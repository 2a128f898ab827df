"""Prediction table of the prior task."""

import csv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris

from datamodules.tables.real import Folds, load_tables
from tabattn.contract.batches import TableBatch
from tabattn.prior.predictions import prediction_table
from tabattn.tasks import PriorClassification
from tabattn.training.cli import main

SMALL = [*(f"--model.network.{size}" for size in ("dim=8", "heads=2", "hidden=8", "layers=1")), "--model.renamings=1"]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


def test_a_line_for_each_target_row() -> None:
    batch = TableBatch(torch.zeros(1, 4, 2), torch.tensor([[0, 1, 1, -1]]), 2, table=torch.tensor([1]))
    probabilities = torch.tensor([[[0.25, 0.75, 0.0], [0.5, 0.125, 0.375]]])
    found = prediction_table(batch, probabilities, ("a", "b"), {1: ("no", "yes")}.__getitem__, [17, 3])
    assert found == {
        "table": ["b", "b"],
        "row": [17, 3],
        "label": ["yes", None],
        "predicted": ["yes", "no"],
        "p(no)": [0.25, 0.5],
        "p(yes)": [0.75, 0.125],
    }


def test_tasks_without_a_table_are_numbered() -> None:
    batch = TableBatch(torch.zeros(2, 3, 2), torch.tensor([[0, 1, 1], [1, 0, 0]]), 2, table=torch.tensor([8, 9]))
    found = prediction_table(batch, torch.tensor([[[0.25, 0.75]], [[0.5, 0.5]]]))
    assert found["table"] == [8, 9]
    assert found["row"] == [2, 2]
    assert (found["label"], found["predicted"]) == (["1", "0"], ["1", "0"])
    assert found["p(1)"] == [0.75, 0.5]


@pytest.mark.parametrize("most", [1000, 60])
def test_rows_are_those_of_the_source(most: int) -> None:
    """Also where only a sample of them is taken."""
    folds = Folds.of(load_tables(("sklearn:iris",), most, 0), 3, 0)
    x, y = load_iris(return_X_y=True)
    assert len(folds.rows) == len(folds.test)
    for batch, rows in zip(folds.test, folds.rows, strict=True):
        assert np.array_equal(y[rows], batch.y[0, batch.context :])
        shown = batch.x[0, batch.context :].double()
        given = torch.from_numpy(x[rows])
        scaled = (given - given.mean(0)) / given.std(0)
        torch.testing.assert_close((shown - shown.mean(0)) / shown.std(0), scaled, atol=1e-4, rtol=1e-4)


def test_predictions_are_written_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call = ["predict", "--model=PriorClassification", "--data=SyntheticPrior", "--data.tables=[sklearn:iris]"]
    assert PriorClassification.task_name == "prior"
    assert main([*call, "--data.evaluation.folds=2", *SMALL, *QUIET]) == 0
    folder = Path("runs/prior/Softmax/predict_0/predictions")
    with (folder / "batch00000.csv").open() as file:
        lines = list(csv.DictReader(file))
    names = ["p(setosa)", "p(versicolor)", "p(virginica)"]
    assert list(lines[0]) == ["table", "row", "label", "predicted", *names]
    labels = np.asarray(load_iris().target_names)[load_iris().target]
    assert all(line["table"] == "iris" and line["label"] == labels[int(line["row"])] for line in lines)
    array = np.load(folder / "batch00000.npz")["prediction"][0]
    assert np.allclose([[float(line[name]) for name in names] for line in lines], array[:, :3], atol=1e-6)
    assert [line["predicted"] for line in lines] == [load_iris().target_names[best] for best in array[:, :3].argmax(1)]
    if find_spec("pyarrow"):
        assert len(pd.read_parquet(folder / "batch00000.parquet")) == len(lines)
    assert not list(folder.glob("*.partial"))
