"""Deciding rows: weights of attention between rows, by number of the row, and the change without them."""

import csv
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import pytest
import torch

from datamodules import TableCells
from datamodules.reconstruction import ContextOptions, LookupOptions, MaskOptions
from datamodules.reconstruction.splits import TRAIN
from tabattn.attention import MECHANISMS, Local, Mechanism, Pooling, Softmax, capture
from tabattn.contract.cells import CellBatch, Column
from tabattn.reconstruction import NETWORKS, CellTransformer, LossOptions, PredictOptions
from tabattn.reconstruction.cell_network import CellNetwork
from tabattn.reconstruction.deciding import _random, decide, deciding_table, described
from tabattn.reconstruction.leave_out import Context, Left, changes
from tabattn.tasks import TableReconstruction
from tabattn.training.cli import main
from tests.reconstruction.test_network import COLUMNS, cells
from tests.reconstruction.test_network import network as silent_less
from tests.reconstruction.test_task import CONFIG, SMALL, frame

NETWORK = partial(CellTransformer, dim=8, heads=2, hidden=8, layers=2, dropout=0.0)
SAID = ", ".join(name for name in MECHANISMS if name != "Pooling")


def trainer(**options: Any) -> lightning.Trainer:
    """Make a quiet trainer."""
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(accelerator="cpu", enable_checkpointing=False, **quiet, **options)


def batch_of(context: int, rows: int, tables: int = 1) -> CellBatch:
    """Make a batch whose targets are hidden behind the context; each table has other context rows."""
    x, hidden = cells(rows, tables)
    hidden = torch.zeros_like(hidden)
    hidden[:, context:, 3:] = True
    truth = x.clone()
    number = torch.stack([torch.randperm(100)[:context] for _ in range(tables)])
    asked = (100 + torch.arange(rows - context)).expand(tables, -1)
    if context == rows:
        number, hidden[:, -2:, 3:] = torch.arange(rows).expand(tables, -1), True
        asked = number[:, :0]
    return CellBatch(torch.where(hidden, 0.0, x), hidden, truth, hidden, context, torch.cat([number, asked], 1))


def test_the_duplicate_of_a_row_decides_and_without_it_the_prediction_changes() -> None:
    lightning.seed_everything(0)
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(80, 7)), columns=list("abcdefy"))
    context = ContextOptions(rows=16, lookup=LookupOptions(copies=True, shuffled=True))
    data = TableCells(table, "y", masks=MaskOptions(features=0.1, targets=1.0), context=context)
    network = partial(NETWORK, heads=1, hidden=16, layers=1, embedding="linear", datapoints="rows")
    task = TableReconstruction(network, loss=LossOptions(density=0.0), predict=PredictOptions(2))
    task.check_data(data)
    weight = task.network.get_submodule("blocks.0.rows.rows.attention").qkv.weight
    width = weight.shape[1]
    with torch.no_grad():  # Queries and keys are alike and stay so: a row attends to rows like it.
        weight[: 2 * width] = 3 * torch.eye(width).repeat(2, 1)
    weight.requires_grad_(False)
    task.use_optimizer(partial(torch.optim.AdamW, lr=1e-2))
    run = trainer(max_steps=40, limit_val_batches=0, gradient_clip_val=1.0)
    run.fit(task, data)
    outputs = run.predict(task, data)
    assert outputs
    for output in outputs:
        found = output.deciding
        assert torch.equal(found.rows[:, 0, 0], output.row)
        assert (found.weights[:, 0, 0] > 0.8).all()
        assert (found.labels[:, 0, 0, 0] * data.columns[-1].std + data.columns[-1].mean).tolist() == pytest.approx(
            table["y"][output.row.tolist()].tolist(), rel=1e-4
        )
    changes = torch.cat([output.deciding.changes for output in outputs]).abs().mean((0, 1))
    assert changes[0] > 20 * changes[1]


@pytest.mark.parametrize(("datapoints", "order"), [("cells", "rows"), ("cells", "columns"), ("rows", "rows")])
@pytest.mark.parametrize("tables", [1, 3])
def test_weights_are_the_mean_over_heads_layers_and_contexts(datapoints: str, order: str, tables: int) -> None:
    model = silent_less(datapoints=datapoints, order=order)
    batch = batch_of(6, 9, tables)
    with capture(model, items=None) as maps:
        output = model(batch.x, batch.hidden, batch.context)
    found = decide(model, batch, output, COLUMNS, PredictOptions(4))
    paths = [path for path in maps if "features" not in path and "attributes" not in path]
    assert len(paths) == 2
    for row, position in enumerate(range(6, 9)):
        for at, place in enumerate((3, 4)):
            weights = dict.fromkeys(batch.row[:, :6].flatten().tolist(), 0.0)
            for path in paths:
                (record,) = maps[path]
                for table in range(tables):
                    item = table * len(COLUMNS) + place if datapoints == "cells" else table
                    for key in range(6):
                        number = int(batch.row[table, key])
                        weights[number] += float(record.weights[item, :, position, key].mean()) / (2 * tables)
            best = sorted(weights, key=lambda number: -weights[number])[:4]
            assert found.rows[row, at].tolist() == best
            assert found.weights[row, at].tolist() == pytest.approx([weights[number] for number in best], rel=1e-4)
    assert found.target.tolist() == [3, 4]


@pytest.mark.parametrize("context", [6, 9])
def test_changes_are_those_of_a_table_without_the_rows(context: int) -> None:
    model = silent_less().requires_grad_(False)
    batch = batch_of(context, 9)
    output = model(batch.x, batch.hidden, batch.context)
    found = decide(model, batch, output, COLUMNS, PredictOptions(2))
    for row, position in enumerate(batch.hidden[0, :, 4].nonzero()[:, 0].tolist()):
        out = [batch.row[0, :context].tolist().index(number) for number in found.rows[row, 1].tolist()]
        assert position not in out
        kept = [place for place in range(context) if place not in out]
        rows = [*kept, position] if position >= context else kept
        without = model(batch.x[:, rows], batch.hidden[:, rows], len(kept))
        change = without.mean[0, rows.index(position), 2] - output.mean[0, position, 2]
        assert found.changes[row, 1, 0] == pytest.approx(float(change), rel=1e-3, abs=1e-6)
        before = output.logits[0, position, 1].softmax(-1)
        out = [batch.row[0, :context].tolist().index(number) for number in found.rows[row, 0].tolist()]
        kept = [place for place in range(context) if place not in out]
        rows = [*kept, position] if position >= context else kept
        after = model(batch.x[:, rows], batch.hidden[:, rows], len(kept)).logits[0, rows.index(position), 1].softmax(-1)
        assert found.changes[row, 0, 0] == pytest.approx(float((after - before)[before.argmax()]), rel=1e-3, abs=1e-6)
    assert found.changes.isfinite().all()
    again = decide(model, batch, output, COLUMNS, PredictOptions(2))
    assert torch.equal(found.changes, again.changes)
    assert not torch.equal(found.changes[..., 0], found.changes[..., 1])


def test_a_row_does_not_decide_itself_but_its_copy_may() -> None:
    model = silent_less().requires_grad_(False)
    batch = batch_of(9, 9)
    output = model(batch.x, batch.hidden, 9)
    found = decide(model, batch, output, COLUMNS, PredictOptions(50))
    for row, number in enumerate((7, 8)):
        assert sorted(found.rows[row, 0].tolist()) == [each for each in range(9) if each != number]
    batch.row[0, 0] = 8  # The first row is a copy of the last.
    found = decide(model, batch, output, COLUMNS, PredictOptions(50, leave_out=False))
    assert 8 in found.rows[1, 0]
    without = model(batch.x[:, 1:], batch.hidden[:, 1:], 8).mean[0, 7, 2] - output.mean[0, 8, 2]
    left = [Left(8, 4, torch.tensor([7]))]
    change = changes(model, batch, output, COLUMNS, Context.of(batch), left)
    assert Context.of(batch).numbers[7] == 8
    assert change.tolist() == [pytest.approx(float(without), rel=1e-3, abs=1e-6)]


@pytest.mark.parametrize("context", [6, 9])
def test_predictions_at_a_time_are_those_one_by_one(context: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = silent_less().requires_grad_(False)
    batch = batch_of(context, 9, 1 if context == 9 else 3)
    output = model(batch.x, batch.hidden, batch.context)
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda _, given: sizes.append(given[0].numel()))
    together = decide(model, batch, output, COLUMNS, PredictOptions(2)).changes
    passes = len(sizes) - 1
    most = max(sizes[1:])
    monkeypatch.setattr("tabattn.reconstruction.leave_out.CELLS_AT_ONCE", 1)
    sizes.clear()
    alone = decide(model, batch, output, COLUMNS, PredictOptions(2)).changes
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-6)
    assert len(sizes) - 1 == together.numel() * len(batch.x) > 2 * passes
    assert max(sizes[1:]) <= 9 * len(COLUMNS) < most
    monkeypatch.setattr("tabattn.reconstruction.leave_out.CELLS_AT_ONCE", 2 * 9 * len(COLUMNS))
    sizes.clear()
    torch.testing.assert_close(decide(model, batch, output, COLUMNS, PredictOptions(2)).changes, together)
    assert max(sizes[1:]) <= 2 * 9 * len(COLUMNS)
    every = Context.of(batch)
    means = []
    for table, places in enumerate(every.places):
        kept = [*(places != int(every.places[0, 0])).nonzero()[:, 0].tolist(), *([8] if context == 6 else [])]
        left_over = model(batch.x[table, kept][None], batch.hidden[table, kept][None], len(kept) - (context == 6))
        means.append(float(left_over.mean[0, -1, 2]))
    expected = sum(means) / len(means) - float(output.mean[:, 8, 2].mean())
    first = changes(model, batch, output, COLUMNS, every, [Left(8, 4, every.places[0, :1])])
    assert first.tolist() == [pytest.approx(expected, rel=1e-3, abs=1e-6)]
    # Without any context row in one of the tables there is no prediction.
    left = [Left(8, place, every.places[0]) for place in (3, 4)] + [Left(8, 4, every.places[0, :1])]
    assert changes(model, batch, output, COLUMNS, every, left).isnan().tolist() == [context == 6, context == 6, False]


def test_random_rows_are_others() -> None:
    kept = torch.tensor([[0.4, 0.3, 0.2, -torch.inf, 0.1]])
    for seed in range(5):
        assert set(_random(kept, torch.tensor([[0, 2]]), seed)[0].tolist()) == {1, 4}
        assert _random(kept, torch.tensor([[0, 1, 2]]), seed)[0].tolist() == [4]


def test_more_rows_than_there_are_and_no_check() -> None:
    model = silent_less()
    batch = batch_of(3, 5)
    output = model(batch.x, batch.hidden, batch.context)
    found = decide(model, batch, output, COLUMNS, PredictOptions(50))
    assert found.rows.shape == (2, 2, 3)
    assert found.weights.sum(-1).tolist() == [pytest.approx([1.0, 1.0])] * 2
    assert found.changes.isnan().all()  # Without all of them there is no context, and no others to draw.
    assert decide(model, batch, output, COLUMNS, PredictOptions(1, leave_out=False)).changes.isnan().all()
    nothing = batch._replace(hidden=torch.zeros_like(batch.hidden))
    assert decide(model, nothing, output, COLUMNS, PredictOptions(2)).rows.shape[0] == 0


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_every_mechanism_has_deciding_rows(name: str) -> None:
    model = silent_less(attention=MECHANISMS[name])
    batch = batch_of(6, 9)
    found = decide(model, batch, model(batch.x, batch.hidden, 6), COLUMNS, PredictOptions(2))
    assert set(found.rows.flatten().tolist()) <= set(batch.row[0, :6].tolist())
    assert found.weights.isfinite().all()


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_says_where_its_rows_attend(name: str) -> None:
    torch.manual_seed(0)
    columns = COLUMNS
    if name == "PatchTransformer":
        columns = tuple(column._replace(group="patch" if at in (0, 2) else "") for at, column in enumerate(COLUMNS))
    model = NETWORKS[name](columns, Local, Softmax).eval()
    tokens = len(COLUMNS) if model.token_of is None else max(model.token_of) + 1
    assert tokens == len(COLUMNS) - (name == "PatchTransformer")
    mechanisms = {path for path, module in model.named_modules() if isinstance(module, Mechanism)}
    assert {site.path for site in model.sites()} == mechanisms
    batch = batch_of(6, 9)
    with capture(model, items=None) as maps:
        output = model(batch.x, batch.hidden, 6)
    found = decide(model, batch, output, COLUMNS, PredictOptions(2))
    assert set(found.rows.flatten().tolist()) <= set(batch.row[0, :6].tolist())
    for site in model.sites():
        (record,) = maps[site.path]
        assert record.weights is not None
        batches = {"rows": 1 if site.tokens == "rows" else tokens, "columns": 9}[site.axis]
        queries = len(site.queries_of(9, 6)) if site.axis == "rows" else tokens
        assert (record.weights.shape[0], record.weights.shape[2]) == (batches, queries)


def test_long_tables_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for attention in (Softmax, partial(Local, window=3)):
        model = silent_less(attention=attention)
        batch = batch_of(9, 9)
        output = model(batch.x, batch.hidden, 9)
        whole = decide(model, batch, output, COLUMNS, PredictOptions(2))
        monkeypatch.setattr("tabattn.reconstruction.deciding.QUERIES_AT_ONCE", 1)
        parts = decide(model, batch, output, COLUMNS, PredictOptions(2))
        torch.testing.assert_close(parts.weights, whole.weights)


def test_a_mechanism_without_a_map_over_rows_is_refused() -> None:
    model = silent_less(attention=Pooling)
    batch = batch_of(9, 9)
    output = model(batch.x, batch.hidden, 9)
    with pytest.raises(ValueError, match=rf"Pooling has no attention map over rows, .*: {SAID}$"):
        decide(model, batch, output, COLUMNS, PredictOptions(2))

    class Own(CellNetwork):
        def forward(self, x: torch.Tensor, hidden: torch.Tensor, context: int) -> Any:
            return model(x, hidden, context)

    with pytest.raises(ValueError, match=r"Own names no attention between rows: predict.deciding_rows must be 0"):
        decide(Own(), batch, output, COLUMNS, PredictOptions(2))
    with pytest.raises(ValueError, match=r"predict.deciding_rows must be at least 0, got -1"):
        PredictOptions(-1)


def test_table_of_deciding_rows() -> None:
    model = silent_less()
    batch = batch_of(6, 8)
    batch.truth[0, 0, 4] = torch.nan
    columns = (*COLUMNS[:4], Column("price", mean=100.0, std=10.0, target=True))
    found = decide(model, batch, model(batch.x, batch.hidden, 6), columns, PredictOptions(6))
    table = deciding_table(batch.row[0, 6:], found, columns)
    assert list(table) == [
        *("row", "target", "rank", "deciding row", "weight", "kind of the deciding row", "price of the deciding row"),
        *("change without all of them", "change without random rows"),
    ]
    assert table["row"] == [100] * 12 + [101] * 12
    assert table["target"] == (["kind"] * 6 + ["price"] * 6) * 2
    assert table["rank"] == list(range(1, 7)) * 4
    for number, kind, price in zip(
        table["deciding row"], table["kind of the deciding row"], table["price of the deciding row"], strict=True
    ):
        truth = batch.truth[0, batch.row[0, :6].tolist().index(number)]
        assert kind == COLUMNS[3].categories[int(truth[3])]
        assert price == (None if truth[4].isnan() else pytest.approx(100 + 10 * float(truth[4])))
    changes = torch.tensor([[[1.0, 0.25], [0.5, 0.0]], [[-3.0, -0.25], [torch.nan, 0.0]]])
    first, second = described(changes, columns[3:], 5)
    assert first.startswith(
        "Without its 5 deciding rows the probability of the predicted kind changes by 2 on average,"
    )
    assert second.endswith("the predicted price changes by 0.5 on average, without as many random rows by 0")


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    frame().to_csv("table.csv", index=False)
    assert main(["fit", "--config", CONFIG, *SMALL, "--data.table=table.csv", "--data.target=price"]) == 0
    run = tmp_path / "runs" / "reconstruction" / "Softmax" / "version_0"
    predict = ["predict", "--config", str(run / "config.yaml"), f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}"]
    assert main([*predict, "--model.predict.deciding_rows=3"]) == 0
    assert "Without its 3 deciding rows the predicted price changes by" in caplog.text
    folder = run / "predict_0" / "predictions"
    with open(folder / "batch00000.csv") as file:
        predicted = [row["row"] for row in csv.DictReader(file)]
    with open(folder / "batch00000_deciding.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == [row for row in predicted for _ in range(3)]
    train = np.flatnonzero(TableCells(frame(), "price").prepared.cells.roles == TRAIN)
    assert {int(row["deciding row"]) for row in rows} <= set(train.tolist())
    parquet = pd.read_parquet(folder / "batch00000_deciding.parquet")
    assert parquet["weight"].tolist() == pytest.approx([float(row["weight"]) for row in rows])
    arrays = np.load(folder / "batch00000.npz")
    assert arrays["deciding.rows"].shape == (len(predicted), 1, 3)
    assert main([*predict]) == 0
    assert sorted(path.name for path in (run / "predict_1" / "predictions").iterdir()) == [
        f"batch00000.{ending}" for ending in ("csv", "npz", "parquet")
    ]
