"""Task of reconstruction: loss, scores in the data's units, runs from the command line and from Python."""

import csv
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from sklearn.metrics import log_loss, mean_absolute_error, roc_auc_score
from torch.distributions import MixtureSameFamily, Normal

from datamodules import TableCells
from datamodules.reconstruction import ContextOptions
from tabattn.contract.cells import CellBatch, Column
from tabattn.contract.errors import TableWarning
from tabattn.nn.densities import mixture
from tabattn.reconstruction import CellTransformer, GaussianTransformer, LegacyNPT, LossOptions, ProcessTransformer
from tabattn.reconstruction.cell_network import Kinds, Reconstruction
from tabattn.reconstruction.losses import cell_losses, group_means
from tabattn.reconstruction.metrics import ColumnScores, Predicted, mixed
from tabattn.reconstruction.predictions import Filled, filled, prediction_table
from tabattn.tasks import TableReconstruction
from tabattn.training.cli import main

CONFIG = str(Path(__file__).parents[2] / "configs" / "reconstruction.yaml")
SMALL = ["--model.network.dim=8", "--model.network.heads=2", "--model.network.hidden=8", "--model.network.layers=1"]
SMALL += ["--data.steps_per_epoch=3", "--trainer.max_steps=6", "--trainer.accelerator=cpu"]
SMALL += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
SIZES: dict[str, Any] = {"dim": 8, "heads": 2, "hidden": 8, "layers": 1}
SMALLEST = partial(CellTransformer, **SIZES)


def frame(rows: int = 40) -> pd.DataFrame:
    """Make a table with a missing cell in each feature."""
    draws = np.random.default_rng(0)
    size, kind = draws.normal(size=rows), draws.choice(["a", "b", "c"], rows).astype(object)
    price = 1000 + 50 * size + 5 * draws.normal(size=rows)
    size[3], kind[4] = np.nan, None
    return pd.DataFrame({"size": size, "kind": kind, "price": price})


def trainer(**options: Any) -> lightning.Trainer:
    """Make a quiet trainer."""
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return lightning.Trainer(max_steps=4, accelerator="cpu", **quiet, **options)


def normal(mean: torch.Tensor, std: torch.Tensor) -> MixtureSameFamily:
    """Make a mixture of one Gaussian."""
    return mixture(torch.zeros_like(mean)[..., None], mean[..., None], std[..., None])


def found(kinds: Kinds, logits: torch.Tensor, mean: torch.Tensor, std: float = 0.5) -> Reconstruction:
    """Make predictions with one Gaussian a number."""
    spread = torch.full_like(mean, std)[..., None]
    return Reconstruction(mean, mixture(torch.zeros_like(spread), mean[..., None], spread), logits)


def test_losses_are_squared_errors_densities_and_cross_entropies() -> None:
    kinds = Kinds.of([Column("x"), Column("c", ("a", "b"))])
    mean, logits = torch.tensor([[[0.5], [1.0]]]), torch.tensor([[[[0.0, 1.0]], [[2.0, 0.0]]]])
    truth = torch.tensor([[[1.5, 1.0], [torch.nan, torch.nan]]])
    error = cell_losses(found(kinds, logits, mean), truth, kinds, 0.0)
    torch.testing.assert_close(error[0, 0], torch.tensor([1.0, -torch.tensor([0.0, 1.0]).log_softmax(0)[1]]))
    assert error[0, 1].tolist() == [0.0, 0.0]
    dense = cell_losses(found(kinds, logits, mean), truth, kinds, 2.0)
    torch.testing.assert_close(dense[0, 0, 0], 1.0 - 2 * Normal(0.5, 0.5).log_prob(torch.tensor(1.5)))


@pytest.mark.parametrize("network", [CellTransformer, GaussianTransformer, ProcessTransformer])
@pytest.mark.parametrize("columns", ["numbers", "categories", "both"])
def test_every_parameter_that_may_be_trained_gets_a_gradient(network: Any, columns: str) -> None:
    """Otherwise distributed training stops, such as by parameters of categories in a table of numbers alone."""
    kinds = {"numbers": [()], "categories": [("a", "b")], "both": [(), ("a", "b")]}[columns]
    task = TableReconstruction(partial(network, **SIZES))
    task.build(tuple(Column(f"{at} {len(kind)}", kind, target=at == 1) for kind in kinds for at in range(2)))
    truth = torch.ones(1, 12, len(task.columns))
    truth[:, ::3] = 0.0
    hidden = torch.zeros(truth.shape, dtype=torch.bool)
    hidden[:, 8:] = True
    task.prepare(truth[0])
    found = task(CellBatch(truth, hidden, truth, hidden, 8, torch.arange(12)[None]))
    sum(group_means(cell_losses(found, truth, task.network.kinds, 1.0), hidden, task.targets)).backward()
    assert [name for name, each in task.named_parameters() if each.requires_grad and each.grad is None] == []
    assert all(each.requires_grad == (each.numel() > 0) for each in task.parameters())


def test_groups_are_means_over_their_own_cells() -> None:
    losses = torch.tensor([[[1.0, 10.0], [3.0, 20.0], [5.0, 30.0]]])
    scored = torch.tensor([[[True, False], [True, True], [False, True]]])
    features, targets = group_means(losses, scored, torch.tensor([False, True]))
    assert (float(features), float(targets)) == (2.0, 25.0)
    assert float(group_means(losses, scored & False, torch.tensor([False, True]))[0]) == 0.0


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"tradeoff": 1.0, "annealing": "cosine"}, (1.0, 0.5, 0.0)),
        ({"tradeoff": 0.8, "annealing": "linear", "proportion": 0.5}, (0.8, 0.0, 0.0)),
        ({"tradeoff": 0.3, "annealing": "constant"}, (0.3, 0.3, 0.3)),
    ],
)
def test_tradeoff(options: dict[str, Any], weights: tuple[float, ...]) -> None:
    assert [LossOptions(**options).weight(step, 100) for step in (0, 50, 100)] == pytest.approx(weights)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tradeoff": 1.1}, "loss.tradeoff must be between 0 and 1, got 1.1"),
        ({"proportion": 0.0}, "loss.proportion must be above 0 and at most 1, got 0.0"),
        ({"density": -1.0}, "loss.density must be at least 0 and finite, got -1.0"),
        ({"density": float("nan")}, "loss.density must be at least 0 and finite, got nan"),
        ({"annealing": "step"}, "loss.annealing must be constant, linear or cosine, got 'step'"),
    ],
)
def test_bad_loss_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LossOptions(**options)


def test_scores_of_numbers_are_in_the_units_of_the_data() -> None:
    torch.manual_seed(0)
    truth, point = torch.randn(200), torch.randn(200)
    density = Normal(point, torch.full_like(point, 2.0))
    scores = ColumnScores(Column("price", mean=7.0, std=10.0))
    for part in (slice(120), slice(120, 200)):
        rows = torch.arange(200)[part]
        scores.update(Predicted(truth[part], point[part], normal(density.loc[part], density.scale[part])), rows)
    scores.settle()
    found = scores.compute()
    assert found["mae"] == pytest.approx(10 * mean_absolute_error(truth, point), rel=1e-5)
    assert found["rmse"] == pytest.approx(10 * float((truth - point).square().mean().sqrt()), rel=1e-5)
    units = Normal(7 + 10 * point, torch.full_like(point, 20.0))
    assert found["nll"] == pytest.approx(-float(units.log_prob(7 + 10 * truth).mean()), rel=1e-5)
    inside = ((truth - point).abs() / 2 <= 0.67449).float().mean()
    assert found["coverage_50"] == pytest.approx(float(inside))


def test_scores_of_categories_are_those_of_scikit_learn() -> None:
    torch.manual_seed(0)
    truth, probabilities = torch.randint(3, (90,)), torch.randn(90, 3).double().softmax(-1)
    scores = ColumnScores(Column("kind", ("a", "b", "c")))
    scores.update(Predicted(truth.float(), probabilities, None), torch.arange(90))
    found = scores.compute()
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, probabilities, multi_class="ovr"), rel=1e-5)
    assert found["nll"] == pytest.approx(log_loss(truth, probabilities), rel=1e-5)
    assert found["accuracy"] == pytest.approx(float((probabilities.argmax(1) == truth).float().mean()))


def test_rows_that_equal_a_training_row_are_also_left_out() -> None:
    scores = ColumnScores(Column("price"))
    scores.duplicated = torch.tensor([False, True])
    point = torch.tensor([1.0, 5.0])
    scores.update(Predicted(torch.zeros(2), point, normal(point, torch.ones(2))), torch.arange(2))
    found = scores.compute()
    assert (found["mae"], found["distinct/mae"]) == (3.0, 1.0)


def test_contexts_are_mixed_in_equal_parts() -> None:
    parts = mixture(torch.randn(3, 5, 2), torch.randn(3, 5, 2), torch.rand(3, 5, 2) + 0.1)
    y = torch.randn(5)
    expected = parts.log_prob(y.expand(3, 5)).logsumexp(0) - torch.tensor(3.0).log()
    torch.testing.assert_close(mixed(parts).log_prob(y), expected)


def test_predictions_of_several_contexts_are_averaged_in_the_units_of_the_data() -> None:
    columns = (Column("price", mean=100.0, std=10.0, target=True),)
    mean = torch.tensor([[[0.0], [1.0]], [[0.0], [3.0]]])
    hidden = torch.tensor([[[False], [True]]]).expand(2, 2, 1)
    batch = CellBatch(mean, hidden, torch.full((2, 2, 1), 0.5), hidden, 1, torch.tensor([[4, 7], [5, 7]]))
    output = filled(found(Kinds.of(columns), torch.zeros(2, 2, 0, 0), mean), batch, columns, Kinds.of(columns))
    assert output.row.tolist() == [7]
    assert output.truth.tolist() == [[105.0]]
    assert output.cells.tolist() == [[120.0]]
    # Variance within the contexts, and between their means.
    assert output.std.item() == pytest.approx(10 * (0.5**2 + 1.0**2) ** 0.5)


@pytest.mark.parametrize("target", ["price", "kind", ("price", "kind")])
def test_python(target: Any) -> None:
    data = TableCells(frame(), target, context=ContextOptions(rows=16), steps_per_epoch=2)
    task, run = TableReconstruction(SMALLEST), trainer()
    run.fit(task, data)
    logged = run.callback_metrics
    weight = logged["train/tradeoff"]
    expected = weight * logged["train/features"] + (1 - weight) * logged["train/targets"]
    torch.testing.assert_close(logged["train/loss"], expected)
    assert weight > 0
    (scores,) = run.test(task, data, verbose=False)
    assert not any(metric.rows for metric in task.scores.values())
    names = {"price": "rmse", "kind": "auroc"}.get(target, "price/rmse") if isinstance(target, str) else "price/rmse"
    assert f"test/{names}" in scores
    assert np.isfinite(scores["test/loss"])
    (filled, *_) = run.predict(task, data)
    table = task.prediction_table(None, filled, 0)
    assert table["row"] == filled.row.tolist()


def test_a_target_without_a_scored_value_has_no_score() -> None:
    table = frame()
    data = TableCells(table, ("price", "kind"), steps_per_epoch=2)
    table.loc[(data.prepared.cells.roles == 2).numpy(), "price"] = np.nan
    task, run = TableReconstruction(SMALLEST), trainer()
    data = TableCells(table, ("price", "kind"), steps_per_epoch=2)
    run.fit(task, data)
    (scores,) = run.test(task, data, verbose=False)
    assert "test/price/rmse" not in scores
    assert scores["test/loss"] == pytest.approx(scores["test/kind/nll"])


@pytest.mark.parametrize(("column", "outlier"), [("price", 1e20), ("price", -1e300), ("size", 1e20)])
def test_outliers_of_held_out_rows_leave_scores_finite(column: str, outlier: float) -> None:
    table = frame()
    roles = TableCells(table, "price").prepared.cells.roles
    for role in (1, 2):
        table.loc[int((roles == role).nonzero()[0, 0]), column] = outlier
    with pytest.warns(TableWarning, match=f"column '{column}' has .*2 such rows in all"):
        data = TableCells(table, "price", steps_per_epoch=2)
    task, run = TableReconstruction(SMALLEST), trainer()
    run.fit(task, data)
    scores = {**run.callback_metrics, **run.test(task, data, verbose=False)[0]}
    assert all(np.isfinite(float(value)) for value in scores.values())
    assert scores["test/loss"] < 1e4
    if column == "price":
        assert scores["test/rmse"] > 1e19
        (filled,) = run.predict(task, data)
        written = task.prediction_table(None, filled, 0)
        errors = np.subtract(written["predicted price"], written["price"])
        assert scores["test/rmse"] == pytest.approx(np.sqrt(np.square(errors / 1e30).mean()) * 1e30, rel=1e-6)


def test_errors_beyond_20_standard_deviations_grow_as_a_logarithm_in_the_loss() -> None:
    scores = ColumnScores(Column("price", std=10.0))
    truth = torch.tensor([1.0, 20.0, -20.0 - (np.e - 1)])
    scores.update(Predicted(truth, torch.zeros(3), normal(torch.zeros(3), torch.ones(3))), torch.arange(3))
    found = scores.compute()
    assert found["loss"] == pytest.approx((1 + 20**2 + 21**2) / 3)
    assert found["rmse"] == pytest.approx(10 * float(truth.square().mean().sqrt()))


def test_large_targets_have_finite_scores() -> None:
    table = frame().assign(price=lambda each: each["price"] * 1e200)
    data = TableCells(table, "price", steps_per_epoch=2)
    task, run = TableReconstruction(SMALLEST), trainer()
    run.fit(task, data)
    (scores,) = run.test(task, data, verbose=False)
    assert 1e200 < scores["test/rmse"] < np.inf


def test_names_that_would_be_the_same_are_numbered() -> None:
    columns = (Column("row", target=True), Column("predicted row", target=True))
    part = torch.zeros(1, 2).double()
    table = prediction_table(Filled(torch.tensor([4]), part, part + 1, part + 2, torch.zeros(1, 0, 0)), columns)
    assert table["row"] == [4]
    assert table["row (2)"] == [0.0]
    assert table["predicted row"] == [1.0]
    assert table["predicted row (2)"] == [0.0]
    assert table["predicted predicted row"] == [1.0]


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    frame().to_csv("table.csv", index=False)
    table = ["--data.table=table.csv", "--data.target=price"]
    assert main(["fit", "--config", CONFIG, *SMALL, *table]) == 0
    run = tmp_path / "runs" / "reconstruction" / "Softmax" / "version_0"
    checkpoint = f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}"
    assert main(["test", "--config", str(run / "config.yaml"), checkpoint]) == 0
    assert main(["predict", "--config", str(run / "config.yaml"), checkpoint]) == 0
    with open(run / "predict_0" / "predictions" / "batch00000.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["row", "price", "predicted price", "std price"]
    assert float(rows[0]["price"]) == pytest.approx(frame()["price"][int(rows[0]["row"])], rel=1e-5)
    said = capfd.readouterr().err
    assert "may be scored" not in said
    assert "columns of the checkpoint" not in said, "which the configuration leaves to the data"
    with pytest.warns(UserWarning, match="rows that trained the network may be scored"):
        assert main(["test", "--config", str(run / "config.yaml"), checkpoint, "--data.split.fold=1"]) == 0


@pytest.mark.parametrize(
    "network", [partial(ProcessTransformer, **SIZES), SMALLEST, partial(LegacyNPT, dim=8, heads=2)]
)
def test_double_precision(network: Any) -> None:
    data = TableCells(frame(), ("price", "kind"), steps_per_epoch=1)
    task, run = TableReconstruction(network), trainer(precision="64-true")
    run.fit(task, data)
    assert all(np.isfinite(value) for value in run.test(task, data, verbose=False)[0].values())


@pytest.mark.parametrize("precision", ["16-true", "bf16-true"])
def test_precisions_that_round_the_cells_are_refused(precision: Any) -> None:
    said = f"precision {precision} would round the cells .*: choose {precision[:-4]}mixed"
    with pytest.raises(MisconfigurationException, match=said):
        trainer(precision=precision).fit(TableReconstruction(SMALLEST), TableCells(frame(), "price"))


def test_a_checkpoint_holds_its_columns(tmp_path: Path) -> None:
    task, run = TableReconstruction(SMALLEST), trainer()
    data = TableCells(frame(), "price")
    run.fit(task, data)
    run.save_checkpoint(tmp_path / "a.ckpt")
    loaded = TableReconstruction.load_from_checkpoint(tmp_path / "a.ckpt").eval()
    assert loaded.columns == task.columns
    batch: CellBatch = next(iter(data.test_dataloader()))
    torch.testing.assert_close(loaded(batch).mean, task.eval()(batch).mean)
    with pytest.raises(MisconfigurationException, match="the network was built for 3 columns, the data has 2"):
        trainer().test(loaded, TableCells(frame()[["size", "kind"]], "kind"))
    with pytest.raises(MisconfigurationException, match="column 'price', the data has 'cost' in its place"):
        trainer().test(loaded, TableCells(frame().rename(columns={"price": "cost"}), "cost"))
    with pytest.raises(MisconfigurationException, match="'kind', which was a feature, and in the data is a target"):
        trainer().test(loaded, TableCells(frame(), ("price", "kind")))
    for kind, said in (
        (frame()["kind"].where(frame()["kind"] != "c", "new"), "3 categories, and in the data holds 3 categories: 'c'"),
        (1.5, "3 categories, and in the data holds numbers"),
    ):
        with pytest.raises(MisconfigurationException, match=f"column 'kind', which held {said}"):
            trainer().test(loaded, TableCells(frame().assign(kind=kind), "price"))


def test_missing_cells_are_filled() -> None:
    table = frame()
    data = TableCells(table, "price")
    task, run = TableReconstruction(SMALLEST), trainer()
    run.fit(task, data)
    roles = data.prepared.cells.roles
    row = int((roles == 2).nonzero()[0, 0])
    table.loc[row, ["size", "kind"]] = np.nan, None
    (filled,) = run.predict(task, TableCells(table, "price"))
    columns = task.prediction_table(None, filled, 0)
    at = columns["row"].index(row)
    assert isinstance(columns["filled size"][at], float)
    assert columns["filled kind"][at] in ("a", "b", "c")
    assert sum(each is not None for each in columns["filled kind"]) == 1 + sum(
        int(absent) for absent in (roles[4] == 2, False)
    )


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ([{"name": "a"}], "a table needs at least 1 target column, got none of 1"),
        ([{"name": "a", "targets": True}], "a column has the parts name, .*, got targets"),
        ([{"target": True}], "a column has the parts .*, got no name"),
    ],
)
def test_bad_columns(columns: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TableReconstruction(SMALLEST, columns=columns)
