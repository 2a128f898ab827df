"""Simple baselines of comparisons: values by hand, what they may not read, and rows of failures."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import SyntheticPairs, TableCells
from tabattn.compare.baselines import cells, numbers, sequences, tables
from tabattn.compare.baselines.__main__ import COMPUTED, main
from tabattn.compare.baselines.logged import logged
from tabattn.compare.report.frame import read
from tabattn.contract.batches import PairBatch, RegressionBatch, TableBatch
from tabattn.contract.cells import CellBatch, Column
from tests.compare.folders import edit, make

PRIOR = {"class_path": "datamodules.SyntheticPrior", "init_args": {"batch_size": 2, "tables": ["sklearn:iris"]}}
PAIRS = {
    "class_path": "datamodules.SyntheticPairs",
    "init_args": {"batch_size": 8, "evaluation": {"val_batches": 1, "test_batches": 1}},
}
CELLS = {"class_path": "datamodules.TableCells", "init_args": {"table": "sklearn:iris"}}


def compared(folder: Path, task: str, data: dict[str, Any], metric: str, mode: str = "max") -> list[dict[str, Any]]:
    """Rows of the baselines of a comparison on some data."""
    make(folder, ("Softmax",), 1, 0, curves=False, maps=False, task=task, metric=metric, mode=mode)
    edit(folder / "cells" / "0000" / "cell.json", config={"data": data})
    edit(folder / "comparison.json", folder=str(folder))
    main([str(folder)])
    rows: list[dict[str, Any]] = json.loads((folder / "baselines.json").read_text())["rows"]
    return rows


@pytest.fixture(autouse=True)
def _in_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # The program goes into the folder of the comparison.


def test_prior(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in compared(tmp_path, "prior", PRIOR, "test/auroc")}
    assert list(rows) == list(tables.MODELS)
    for name, least in (("logistic regression", 0.98), ("random forest (100)", 0.97)):
        assert rows[name]["scores"]["test/iris/auroc"] == rows[name]["scores"]["test/auroc"] > least
    assert rows["majority"]["scores"]["test/accuracy"] == pytest.approx(1 / 3)
    assert rows["majority"]["scores"]["test/log_loss"] == pytest.approx(math.log(3), abs=1e-3)
    found = read(tmp_path).baselines
    assert [one.name for one in found] == list(tables.MODELS)
    assert found[1].sets == {"iris": found[1].score}


def test_pairs(tmp_path: Path) -> None:
    rows = {row["name"]: row["scores"] for row in compared(tmp_path, "pairs", PAIRS, "test/ll")}
    assert list(rows) == list(sequences.MODELS)
    assert rows["linear interpolation"]["test/ll"] > rows["normal of each sequence"]["test/ll"]
    assert "test/ll_oracle" not in rows["linear interpolation"]


def test_reconstruction(tmp_path: Path) -> None:
    rows = {row["name"]: row["scores"] for row in compared(tmp_path, "reconstruction", CELLS, "test/loss", "min")}
    assert list(rows) == list(cells.MODELS)
    assert rows["ridge or logistic regression"]["test/accuracy"] > 0.9
    assert rows["gradient boosting"]["test/accuracy"] > 0.9
    assert rows["mean or frequencies"]["test/nll"] == pytest.approx(math.log(3), abs=0.05)


def test_regression(tmp_path: Path) -> None:
    data = {"class_path": "datamodules.SyntheticRegression", "init_args": {"tables": ["sklearn:diabetes"]}}
    rows = {row["name"]: row["scores"] for row in compared(tmp_path, "regression", data, "test/rmse", "min")}
    assert list(rows) == list(numbers.MODELS)
    assert rows["mean"]["test/rmse"] == pytest.approx(1, abs=0.05)
    assert rows["mean"]["test/log_likelihood"] == pytest.approx(-0.5 * math.log(2 * math.pi * math.e), abs=0.05)
    assert rows["ridge regression"]["test/diabetes/r2"] == rows["ridge regression"]["test/r2"] > 0.4
    assert all(0.8 < row["test/coverage"] < 0.97 for row in rows.values())
    assert rows["ridge regression"]["test/crps"] < 0.75 * rows["mean"]["test/crps"]


def test_regressors_do_not_read_the_numbers_of_targets() -> None:
    random = torch.Generator().manual_seed(0)
    batch = RegressionBatch(torch.randn(2, 12, 3, generator=random), torch.randn(2, 12, generator=random), 8)
    for model in numbers.MODELS.values():
        one, other = numbers.predict(model, batch), numbers.predict(model, batch.unscored())
        assert torch.equal(one.mean, other.mean)
        assert torch.equal(one.stddev, other.stddev)


def test_failures_are_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> Any:
        raise ValueError("no such\nmodel")

    monkeypatch.setitem(COMPUTED["prior"].MODELS, "majority", broken)
    rows = compared(tmp_path, "prior", PRIOR, "test/auroc")
    assert rows[0] == {"name": "majority", "kind": "baseline", "scores": {}, "reason": "ValueError: no such model"}
    assert rows[1]["scores"]["test/auroc"] > 0.9
    assert read(tmp_path).baselines[0].reason == "ValueError: no such model"


def test_data_that_cannot_be_built(tmp_path: Path) -> None:
    (row,) = compared(tmp_path, "prior", {"class_path": "os.system", "init_args": {}}, "test/auroc")
    assert row["name"] == "simple baselines"
    assert "os.system" in row["reason"]
    edit(tmp_path / "cells" / "0000" / "cell.json", config={})
    main([str(tmp_path)])
    assert read(tmp_path).baselines[0].reason == "ValueError: no cell says its datamodule"


def test_no_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path / "none")])
    assert "is not the folder of a comparison" in capsys.readouterr().err


def test_classifiers_read_context_rows_and_real_columns_alone() -> None:
    x, y = torch.randn(2, 12, 4), torch.tensor([[0, 2, 0, 2, 2, 2, 0, 2, -1, 2, 0, 0], [1] * 12])
    batch = TableBatch(x, y, 8, columns=torch.tensor([3, 4]))
    found = tables.predict(tables.MODELS["majority"], batch, 4)
    assert found.shape == (2, 4, 4)
    assert found[0, 0].tolist() == pytest.approx([3 / 8, 0, 5 / 8, 0])
    assert found[1, 0].tolist() == [0, 1, 0, 0]
    told = batch._replace(x=x.clone(), y=y.clone())
    told.x[0, :, 3], told.y[:, 8:] = torch.inf, 3
    model = tables.MODELS["random forest (100)"]
    assert torch.equal(tables.predict(model, batch, 4)[0], tables.predict(model, told, 4)[0])


def test_mean_of_visible_values() -> None:
    mean, variance = sequences.marginal(np.array([0.0, 1.0]), np.array([1.0, 4.0]), np.array([0.5, 9.0, 2.0]))
    assert mean.tolist() == [2.5] * 3
    assert variance.tolist() == [1.5] * 3


def test_brownian_bridge() -> None:
    x, y = np.array([0.0, 2.0, 4.0]), np.array([1.0, 3.0, 1.0])
    mean, variance = sequences.bridge(x, y, np.array([-1.0, 0.5, 2.0, 3.0, 6.5]))
    assert mean.tolist() == [1.0, 1.5, 3.0, 2.0, 1.0]
    assert variance.tolist() == [1.0, 0.375, 0.0, 0.5, 2.5]


def test_densities_of_sequences() -> None:
    x = torch.tensor([[0.0, 1.0, 2.0, 0.0, 3.0, 1.5, 7.0, 9.0]])
    y = torch.tensor([[1.0, 2.0, 4.0, 9.0, torch.nan, 50.0, torch.nan, 60.0]])
    member = torch.tensor([[0, 0, 0, 1, 0, 0, 1, 2]])
    batch = PairBatch(x, y, member, 5)
    found = sequences.predict(sequences.bridge, batch, mean=-3.0, std=2.0)
    assert found.mean.tolist() == [[3.0, 9.0, -3.0]]
    # Left out, the points of member 0 err by 1 over a distance of 1, by .5 within a variance of .5, and by 2 over 1.
    factor = (1 + 0.25 / 0.5 + 4) / 3
    expected = [math.sqrt(0.25 * factor), math.sqrt(7 * factor), 2.0]
    assert found.stddev[0].tolist() == pytest.approx(expected)
    hidden = batch._replace(padding=torch.tensor([[False, False, True, *[False] * 5]]))
    assert sequences.predict(sequences.bridge, hidden, -3.0, 2.0).mean[0, 0] == 2.0


def test_known_targets_have_the_least_variance() -> None:
    batch = PairBatch(torch.tensor([[0.0, 1.0, 1.0]]), torch.tensor([[0.0, 5.0, 5.0]]), torch.zeros(1, 3).long(), 2)
    assert sequences.predict(sequences.bridge, batch, 0.0, 2.0).stddev.item() == pytest.approx(0.002)


def test_pairs_without_visible_points() -> None:
    data = SyntheticPairs(kind="const", batch_size=2)
    (batch, *_) = iter(data.test_dataloader())
    blind = batch._replace(y=batch.y.clone())
    blind.y[:, : batch.context] = torch.nan
    found = sequences.predict(sequences.bridge, blind, 0.5, 2.0)
    assert (found.mean == 0.5).all()
    assert (found.stddev == 2.0).all()


def cells_of(categories: tuple[str, ...] = ()) -> tuple[CellBatch, list[Column]]:
    """Table of eight rows and three columns; the target, the last column, is hidden in the last two rows."""
    source = torch.Generator().manual_seed(0)
    truth = torch.randn(1, 8, 3, generator=source)
    truth[..., 2] = torch.arange(8) % 2 if categories else 2 * truth[..., 0] + 1
    truth[0, 0, 1] = torch.nan
    hidden = truth.isnan()
    hidden[0, 6:, 2] = True
    columns = [Column("a"), Column("b"), Column("c", categories, target=True)]
    return CellBatch(
        torch.where(hidden, 0.0, truth), hidden, truth, hidden & ~truth.isnan(), 6, torch.arange(8)[None]
    ), columns


def test_constant_prediction_of_cells() -> None:
    batch, columns = cells_of()
    found = cells.predict(cells.constant, batch, columns, 2, batch.scored[0, :, 2])
    assert found.point.tolist() == pytest.approx([batch.truth[0, :6, 2].mean().item()] * 2)
    assert found.density is not None
    assert found.density.mean.tolist() == found.point.tolist()
    batch, columns = cells_of(("no", "yes"))
    found = cells.predict(cells.constant, batch, columns, 2, batch.scored[0, :, 2])
    assert found.point.tolist() == [[0.5, 0.5]] * 2


def test_linear_prediction_of_cells() -> None:
    batch, columns = cells_of()
    found = cells.predict(cells.linear, batch, columns, 2, batch.scored[0, :, 2])
    assert torch.allclose(found.point, batch.truth[0, 6:, 2], atol=0.05)


@pytest.mark.parametrize("name", cells.MODELS)
def test_hidden_cells_are_not_read(name: str) -> None:
    batch, columns = cells_of()
    rows = batch.scored[0, :, 2]
    other = batch._replace(x=torch.where(batch.hidden, 99.0, batch.x), truth=batch.truth.clone())
    other.truth[0, 6:, 2] = 77.0
    first, second = (cells.predict(cells.MODELS[name], each, columns, 2, rows) for each in (batch, other))
    assert torch.equal(first.point, second.point)
    assert first.density is not None
    assert second.density is not None
    assert torch.equal(first.density.variance, second.density.variance)


def test_contexts_are_pooled() -> None:
    batch, columns = cells_of()
    two = CellBatch(
        *(torch.cat([part, part]) for part in batch[:4]), batch.context, torch.cat([batch.row, batch.row + 100])
    )
    two.row[1, 6:] = batch.row[0, 6:]
    two.truth[1, :6, 2] += 1
    two.x[1, :6, 2] += 1
    found = cells.predict(cells.constant, two, columns, 2, two.scored[0, :, 2])
    assert found.point[0].item() == pytest.approx(batch.truth[0, :6, 2].mean().item() + 0.5, abs=1e-6)


def test_several_targets_have_scores_of_their_own() -> None:
    data = TableCells(table="sklearn:iris", target=["target", "sepal length (cm)"])
    data.prepare_data()
    data.setup("test")
    found = cells.score("mean or frequencies", data, data.test_dataloader(), "test")
    targets = [column.name for column in data.columns if column.target]
    assert len(targets) == 2
    losses = [found[f"test/{name}/loss"] for name in targets]
    assert found["test/loss"] == pytest.approx(np.mean(losses))


def test_oracles_are_those_that_the_task_logs() -> None:
    scores = [{"test/ll": 0.1, "test/ll_oracle": 0.5, "test/inside/ll_oracle": 0.6}, {"test/ll_oracle": 0.7}]
    (row,) = logged("pairs", scores)
    assert row["kind"] == "oracle"
    assert row["scores"] == pytest.approx({"test/ll": 0.6, "test/inside/ll": 0.6})
    assert logged("prior", [{"test/auroc": 0.9}]) == []
    assert logged("prior", []) == []


def test_frequencies_of_tokens() -> None:
    own = {"test/unigram_perplexity": 100.0, "test/loss": 3.0, "test/bits_per_character": 2.0}
    (row,) = logged("mlm", [own])
    expected = {"perplexity": 100.0, "loss": math.log(100), "bits_per_character": 2 * math.log(100) / 3}
    assert row["scores"] == pytest.approx({f"test/{name}": value for name, value in expected.items()})
    assert logged("mlm", [{"test/loss": 3.0}]) == []


def test_random_graphs() -> None:
    (row,) = logged("sparsity", [{"test/sparsity": 0.8, "test/gold_sparsity": 0.9, "test/f1": 0.5}])
    assert row["scores"] == pytest.approx({"test/recall": 0.2, "test/precision": 0.1, "test/f1": 2 * 0.02 / 0.3})


def test_constant_networks() -> None:
    (row,) = logged("zoo", [{"test/functional_r2": 0.8, "test/functional_r2_good": 0.5, "test/loss": 1.0}])
    assert row["scores"] == {"test/functional_r2": 0.0, "test/functional_r2_good": 0.0}
