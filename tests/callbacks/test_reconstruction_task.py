"""Callbacks on the reconstruction task: maps sorted by label, rows as points, predictions against truth."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from sklearn.calibration import calibration_curve

from callbacks import AttentionMaps, Embeddings, PredictionPlots
from callbacks.attention_maps import _viewed
from callbacks.scored import LEVELS, coverage, draw, reliability
from datamodules import TableCells
from datamodules.reconstruction import ContextOptions, MaskOptions
from tabattn.attention import MECHANISMS, Local, capture
from tabattn.contract.cells import CellBatch
from tabattn.contract.views import ScoredColumn, rounded
from tabattn.reconstruction import CellTransformer
from tabattn.reconstruction.views import label_of
from tabattn.tasks import TableReconstruction
from tests.callbacks.test_embeddings import folder, index
from tests.callbacks.test_embeddings import table as metadata
from tests.callbacks.tiny import TinyTask, board, fit, trainer

SMALLEST = partial(CellTransformer, dim=8, heads=2, hidden=8, layers=1)


def frame(rows: int = 60) -> pd.DataFrame:
    """Make a table with numbers and categories."""
    draws = np.random.default_rng(0)
    size, kind = draws.normal(size=rows), draws.choice(["a", "b", "c"], rows)
    return pd.DataFrame({"size": size, "kind": kind, "price": 1000 + 50 * size + 5 * draws.normal(size=rows)})


def made(data: TableCells, network: Any = SMALLEST, **options: Any) -> TableReconstruction:
    """Build an untrained task for the columns of a datamodule, whose branches are not silent."""
    torch.manual_seed(0)
    task = TableReconstruction(network, **options)
    task.build(data.columns)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return task


def views(task: TableReconstruction, data: TableCells, tokens: int = 64) -> tuple[CellBatch, dict[str, Any]]:
    """Views of the first validation batch."""
    batch = next(iter(data.val_dataloader()))
    task.trainer = trainer(Path())
    task.trainer.datamodule = data  # type: ignore[attr-defined]
    return batch, dict(task.map_views(batch, 2, tokens))


@pytest.mark.parametrize("target", ["price", "kind"])
def test_maps_between_rows_are_sorted_by_label(target: str) -> None:
    table = frame()
    data = TableCells(table, target)
    task = made(data)
    batch, found = views(task, data, 8)
    view = found["network.blocks.0.rows.attention.mechanism"]
    for axis, role, title in (
        (view.queries, 1, f"8 of 12 validation rows by {target}"),
        (view.keys, 0, f"8 of 42 training rows by {target}"),
    ):
        rows = batch.row[0, axis.places]
        assert axis.title == title
        labels = table[target][rows.tolist()].tolist()
        assert labels == sorted(labels)
        assert axis.names == [label if target == "kind" else rounded(label) for label in labels]
        assert (data.roles[rows] == role).all()
        # Thinned evenly: the smallest and the largest label are there.
        of = table[target][(data.roles == role).numpy()]
        assert (labels[0], labels[-1]) == (of.min(), of.max())
    place = [column.name for column in data.columns].index(target)
    assert view.items == {place: f"column {target}"}


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (309700.0, 6, "309700"),
        (44659.287, 4, "44660"),
        (2.9999999, 6, "3"),
        (1.5e-7, 6, "1.5e-07"),
        (-1e20, 6, "-1e+20"),
    ],
)
def test_numbers_have_no_exponent_where_they_are_read_without(value: float, digits: int, text: str) -> None:
    assert rounded(value, digits) == text


def test_maps_between_columns_have_their_names_on_both_axes() -> None:
    data = TableCells(frame(), "price")
    batch, found = views(made(data), data)
    view = found["network.blocks.0.features.mechanism"]
    assert view.queries.names == view.keys.names == ["size", "kind", "price"]
    rows = list(view.items)
    assert batch.scored[0, rows].any(-1).all()
    labels = [label_of(float(batch.truth[0, row, 2]), data.columns[2]) for row in rows]
    expected = [f"row {int(batch.row[0, row])}, price {label}" for row, label in zip(rows, labels, strict=True)]
    assert list(view.items.values()) == expected
    _, few = views(made(data), data, 2)
    assert few["network.blocks.0.features.mechanism"].keys.title == "the first 2 of 3 columns"


@pytest.mark.parametrize("attention", [*MECHANISMS.values(), partial(Local, window=2)])
@pytest.mark.parametrize("datapoints", ["cells", "rows"])
def test_the_drawn_map_is_the_part_of_the_whole_map(attention: Any, datapoints: str) -> None:
    data = TableCells(frame(), "kind")
    task = made(data, partial(SMALLEST, datapoints=datapoints), attention=attention).eval()
    batch, found = views(task, data, 6)
    with capture(task, items=None) as whole:
        task(batch)
    with capture(task, ("q", "k", "mask"), {path: list(view.items) for path, view in found.items()}) as records:
        task(batch)
    assert found.keys() == whole.keys()
    for path, view in found.items():
        (record,), (full,) = records[path], whole[path]
        shown = _viewed(task.get_submodule(path), record, view, torch.device("cpu"))
        assert full.weights is not None
        queries = full.weights[list(view.items)][:, :, view.queries.places]
        torch.testing.assert_close(shown.weights, queries)
        learned = full.weights.shape[-1] != record.k.shape[-2]
        torch.testing.assert_close(shown.drawn, queries if learned else queries[..., view.keys.places])
        assert (shown.names.keys is None) == learned


@pytest.mark.parametrize(
    ("context", "masks"),
    [
        (ContextOptions(transductive=True), MaskOptions(targets=1.0)),
        (ContextOptions(rows=30, partitions=2), MaskOptions()),
    ],
)
def test_every_callback_looks_at_the_task(tmp_path: Path, context: ContextOptions, masks: MaskOptions) -> None:
    table = frame()
    data = TableCells(table, ("price", "kind"), context=context, masks=masks, steps_per_epoch=2)
    callbacks = [AttentionMaps(items=1, heads=[0], layers="rows"), Embeddings(), PredictionPlots()]
    run = trainer(tmp_path, callbacks, max_epochs=1, limit_val_batches=1, num_sanity_val_steps=0)
    task = TableReconstruction(SMALLEST)
    run.fit(task, data)
    run.test(task, data, verbose=False)
    assert {"predictions/price", "predictions/kind", "test/predictions/price"} <= set(board(tmp_path).Tags()["images"])
    names = sorted(path.name for path in (tmp_path / "board" / "version_0" / "figures" / "test_000002").iterdir())
    assert names == ["kind.png", "price.png"]
    header, *rows = metadata(folder(tmp_path) / index(folder(tmp_path))["test/network.blocks.0:00002"].metadata_path)
    assert header[:5] == ["kind", "price", "split", "row", "target"]
    for kind, price, split, row, target, *_ in rows:
        assert kind == table["kind"][int(row)]
        assert price == rounded(table["price"][int(row)])
        assert split == ("training", "validation", "test")[int(data.roles[int(row)])]
        assert target in ("price", "kind")
    assert {row[2] for row in rows} >= {"training", "test"}


def test_points_are_the_tokens_of_the_target() -> None:
    data = TableCells(frame(), "kind")
    task = made(data)
    batch, _ = views(task, data)
    output = torch.arange(batch.x.numel() * 2.0).view(*batch.x.shape, 2)
    points = task.token_points("network.blocks.0", batch, output)
    assert torch.equal(points, output[:, :, 1])
    assert list(task.token_metadata("network.blocks.0", batch, points) or {}) == ["kind", "split", "row"]
    assert task.token_points("network.blocks.0.mlp", batch, output[0]) is not None
    assert task.token_metadata("network.blocks.0.mlp", batch, output[0]) is None


def test_truth_and_predictions_are_kept_in_the_units_of_the_data(tmp_path: Path) -> None:
    table = frame()
    data = TableCells(table, ("price", "kind"))
    task = TableReconstruction(SMALLEST)
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    run.fit(task, data)
    (scores,) = run.test(task, data, verbose=False)
    kind, price = task.scored_columns()
    assert (kind.name, price.name) == ("kind", "price")
    test = (data.roles == 2).numpy()
    assert sorted(price.truth.tolist()) == pytest.approx(sorted(table["price"][test]), rel=1e-5)
    rmse = float((price.truth - price.predicted).square().mean().sqrt())
    assert rmse == pytest.approx(scores["test/price/rmse"], rel=1e-4)
    assert price.below is not None
    share = float((2 * (price.below - 0.5).abs() <= 0.9).float().mean())
    assert share == pytest.approx(scores["test/price/coverage_90"])
    accuracy = float((kind.predicted.argmax(1) == kind.truth).float().mean())
    assert accuracy == pytest.approx(scores["test/kind/accuracy"])


def test_reliability_is_that_of_scikit_learn() -> None:
    draws = np.random.default_rng(0)
    chance = np.concatenate([draws.random(200) ** 3, [0.0, 0.1, 0.3, 1.0]])
    happened = draws.random(204) < chance
    mean, frequency, counts = reliability(chance, happened, 10)
    expected, predicted = calibration_curve(happened, chance, n_bins=10)
    np.testing.assert_allclose(mean, predicted)
    np.testing.assert_allclose(frequency, expected)
    assert counts.sum() == 204


def test_the_event_of_two_categories_is_the_second() -> None:
    chances = torch.tensor([[0.95, 0.05], [0.95, 0.05], [0.25, 0.75], [0.25, 0.75]])
    figure = draw(ScoredColumn("kind", ("no", "yes"), torch.tensor([0, 0, 1, 0]), chances, None), "test", 10, 10)
    curve = figure.axes[1].lines[1]
    assert list(curve.get_xdata()) == pytest.approx([0.05, 0.75])
    assert list(curve.get_ydata()) == pytest.approx([0.0, 0.5])
    assert "ECE 0.150" in figure.axes[1].get_title()


def test_coverage_is_the_share_in_central_intervals() -> None:
    found = coverage(np.asarray([0.5, 0.3, 0.04, 0.96, 1.0]))
    at = {level: found[np.argmin(np.abs(LEVELS - level))] for level in (0.0, 0.45, 0.9, 0.95, 1.0)}
    assert at == pytest.approx({0.0: 0.2, 0.45: 0.4, 0.9: 0.4, 0.95: 0.8, 1.0: 1.0})


@pytest.mark.parametrize("number", [1, 2, 3, 40])
def test_any_column_is_drawn(number: int) -> None:
    rows = 30
    if number == 1:
        values = torch.linspace(0, 1e6, rows)
        figure = draw(ScoredColumn("$x_1$", (), values, values * 0 + 5, values / 1e6), "test", 10, 10)
        assert "10 of 30 points" in figure.axes[0].get_title()
        assert "RMSE" in figure.axes[0].get_title()
        (line,) = figure.axes[0].lines
        assert list(line.get_xdata()) == list(line.get_ydata())
        return
    chances = torch.randn(rows, number).softmax(-1)
    names = tuple(f"category {place}" for place in range(number))
    figure = draw(ScoredColumn("kind", names, torch.arange(rows) % number, chances, None), "test", 10, 10)
    assert "accuracy" in figure.axes[0].get_title()
    event = "category 1" if number == 2 else "the most probable category"
    assert event in figure.axes[1].get_xlabel()


@pytest.mark.parametrize("kept", [0, 2])
def test_predictions_that_are_not_finite_are_left_out_and_counted(kept: int) -> None:
    values = torch.full((5,), torch.nan)
    values[:kept] = 1.0
    figure = draw(ScoredColumn("x", (), torch.ones(5), values, values / 2), "test", 10, 10)
    assert f"5 rows, {5 - kept} of them without a finite prediction" in (figure.get_suptitle())
    assert ("RMSE 0," in figure.axes[0].get_title()) == bool(kept)


def test_the_confusion_matrix_has_truth_down_and_predictions_across() -> None:
    chances = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    figure = draw(ScoredColumn("kind", ("no", "yes"), torch.tensor([1, 0, 1]), chances, None), "test", 10, 10)
    texts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in figure.axes[0].texts}
    assert texts == {(0, 0): "1", (0, 1): "0", (1, 0): "1", (1, 1): "1"}
    assert "accuracy 66.7%" in figure.axes[0].get_title()


@pytest.mark.parametrize(("options", "said"), [({"max_points": 1}, "max_points must be"), ({"every": 0}, "every must")])
def test_bad_options_of_the_plots(options: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PredictionPlots(**options)


def test_a_task_without_kept_predictions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="TinyTask keeps no predictions to plot"):
        fit(tmp_path, TinyTask(), PredictionPlots())
