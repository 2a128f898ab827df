"""Piecewise-linear embedding: bins of the training rows, and parity with the library's own."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import pytest
import torch
from rtdl_num_embeddings import PiecewiseLinearEncoding, compute_bins

from datamodules import TableCells
from datamodules.reconstruction.splits import TEST, TRAIN
from datamodules.reconstruction.table import BINS, CellEncoder
from tabattn.contract.cells import Column
from tabattn.contract.errors import TableWarning
from tabattn.reconstruction import CellTransformer
from tabattn.reconstruction.column_check import check_columns
from tabattn.reconstruction.embedding import PiecewiseLinear, _bins
from tabattn.tasks import TableReconstruction

SMALLEST = partial(CellTransformer, dim=8, heads=2, hidden=8, layers=1, embedding="piecewise")


def learned(frame: pd.DataFrame) -> tuple[Column, ...]:
    """Learn columns from all rows."""
    rows = np.arange(len(frame))
    return CellEncoder().fit(frame, rows, rows).columns


def random(columns: tuple[Column, ...]) -> PiecewiseLinear:
    """Make an embedding whose bins are no longer silent."""
    torch.manual_seed(0)
    made = PiecewiseLinear(columns, 4)
    torch.nn.init.normal_(made.inside.linear.weight)
    return made


def trained(data: TableCells) -> tuple[TableReconstruction, lightning.Trainer]:
    """Train for a few steps."""
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    run = lightning.Trainer(max_steps=3, accelerator="cpu", enable_checkpointing=False, **quiet)
    task = TableReconstruction(SMALLEST)
    run.fit(task, data)
    return task, run


def table(rows: int = 300) -> pd.DataFrame:
    """Make a table with a heavy tail, a column of few values, and one with missing cells."""
    draws = np.random.default_rng(0)
    size = np.exp(3 * draws.normal(size=rows))
    holes = np.where(draws.random(rows) < 0.3, np.nan, draws.normal(size=rows))
    return pd.DataFrame({"size": size, "few": draws.integers(4, size=rows) / 4, "holes": holes})


def test_bins_are_the_quantiles_of_the_library() -> None:
    frame = table()
    columns = learned(frame)
    for column in columns:
        values = frame[column.name].dropna().to_numpy()
        standard = torch.tensor((values - column.mean) / column.std, dtype=torch.float32)
        (expected,) = compute_bins(standard[:, None], BINS)
        torch.testing.assert_close(torch.tensor(column.quantiles), expected)
    assert [len(column.quantiles) for column in columns] == [BINS + 1, 4, BINS + 1]


def test_embedding_of_the_training_range_is_that_of_the_library() -> None:
    frame = table().dropna()
    columns = learned(frame)
    x = torch.tensor(np.stack([(frame[c.name] - c.mean) / c.std for c in columns], axis=1), dtype=torch.float32)
    made = random(columns)
    torch.testing.assert_close(made(x), made.inside(x) + made.beyond.bias)
    # The encoding itself: the library's, of the bins that it computes.
    encoding = PiecewiseLinearEncoding([torch.tensor(column.quantiles) for column in columns])
    torch.testing.assert_close(made.inside.impl(x).flatten(1)[:, : BINS - 1], encoding(x)[:, : BINS - 1])


def test_beyond_the_training_range_it_goes_on_linearly() -> None:
    # The outer bins are a thousand times narrower than the range.
    column = Column("x", quantiles=(-1.0, -0.999, 0.0, 0.999, 1.0))
    made = random((column,))
    x = torch.tensor([-1.0, -2.0, -3.0, 1.0, 2.0, 3.0])[:, None]
    found = made(x)[:, 0]
    slope = made.beyond.weight[0, 0]
    for step in (found[0] - found[1], found[1] - found[2], found[4] - found[3], found[5] - found[4]):
        torch.testing.assert_close(step, slope)


@pytest.mark.parametrize(
    "quantiles", [(0.5,), (-1.0, 1.0), (0.0, 1e-30, 1.0), (1.0, 1.0 + 1e-7, 2.0), (-8e37, 0.0, 8e37), (2.0, 1.0, 0.0)]
)
def test_any_bins_have_finite_embeddings_and_gradients(quantiles: tuple[float, ...]) -> None:
    made = random((Column("x", quantiles=quantiles),))
    x = torch.tensor([[0.0], [quantiles[0]], [quantiles[-1]], [8.5e37], [-8.5e37]])
    found = made(x)
    assert found.isfinite().all()
    found[:3].square().mean().sqrt().backward()
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters() if parameter.grad is not None)


def test_bins_that_single_precision_does_not_tell_apart_are_one() -> None:
    assert _bins(Column("x", quantiles=(1.0, 1.0 + 1e-7, 2.0))).tolist() == [1.0, 2.0]
    assert _bins(Column("x", quantiles=(0.0, 1e-30, 1.0))).tolist() == [0.0, 1.0]
    assert _bins(Column("x", quantiles=(0.5,))).tolist() == [-0.5, 1.5]


def test_statistics_are_those_of_training_rows() -> None:
    frame = table().assign(price=lambda each: each["size"] + 1)
    data = TableCells(frame, "price")
    train = (data.prepared.cells.roles == TRAIN).numpy()
    size = data.columns[0]
    assert size.quantiles[0] * size.std + size.mean == pytest.approx(frame["size"][train].min(), rel=1e-4, abs=1e-3)
    assert size.quantiles[-1] * size.std + size.mean == pytest.approx(frame["size"][train].max(), rel=1e-5)


def test_constant_few_and_infinite_values(tmp_path: Path) -> None:
    frame = table(60)[["size", "few"]].assign(one=1.0, two=lambda each: each.index % 2, price=lambda each: each["few"])
    row = int((TableCells(frame, "price").prepared.cells.roles == TEST).nonzero()[0, 0])
    frame.loc[row, "one"] = 7.0
    frame.loc[3, "size"] = np.inf
    frame.loc[4, "size"] = 1e300
    with pytest.warns(TableWarning) as said:
        data = TableCells(frame, "price", steps_per_epoch=3)
    words = [str(each.message) for each in said]
    assert any("'size' has 'inf', which cannot be read" in each for each in words)
    assert any("'size' has 1e+300 in row 4" in each for each in words)
    assert data.prepared.cells.truth[3, 0].isnan()
    assert data.columns[2][2:4] == (1.0, 1.0)
    task, run = trained(data)
    (scores,) = run.test(task, data, verbose=False)
    assert all(np.isfinite(value) for value in scores.values())
    run.save_checkpoint(tmp_path / "a.ckpt")
    loaded = TableReconstruction.load_from_checkpoint(tmp_path / "a.ckpt").eval()
    assert loaded.columns == task.columns
    batch = next(iter(data.test_dataloader()))
    torch.testing.assert_close(loaded(batch).mean, task.eval()(batch).mean)


def test_a_column_without_quantiles_is_refused() -> None:
    with pytest.raises(ValueError, match=r"embedding piecewise needs the quantiles .*, there are none of 'x': give"):
        CellTransformer((Column("x"), Column("y", target=True)), embedding="piecewise")


def test_columns_of_earlier_checkpoints_have_no_quantiles() -> None:
    plain = {"name": "x", "categories": [], "mean": 1.0, "std": 2.0, "target": True}
    column = Column.of(plain)
    assert column == Column("x", (), 1.0, 2.0, True, ())
    assert Column.of(Column("x", quantiles=(0.0, 1.0)).plain()).quantiles == (0.0, 1.0)
    task = TableReconstruction(partial(CellTransformer, dim=8, heads=2, layers=1), columns=[plain])
    check_columns(task.columns, (Column("x", (), 1.0, 2.0, True, (0.0, 1.0)),))
    with pytest.raises(ValueError, match="quantiles of a column must be numbers, got those of 'x'"):
        Column.of({**plain, "quantiles": ["a"]})


def test_a_table_without_numbers() -> None:
    columns = (Column("a", ("x", "y")), Column("b", ("x", "y"), target=True))
    x = torch.zeros(1, 4, 2)
    made = CellTransformer(columns, dim=8, heads=2, hidden=8, layers=1, embedding="piecewise")
    assert made(x, x > 0, 4).logits.shape == (1, 4, 2, 2)
