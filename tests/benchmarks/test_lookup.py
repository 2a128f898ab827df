"""Lookup of duplicates: the measures of a network that copies, and of one that does not."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from benchmarks import lookup
from benchmarks.lookup import Looked, boosted, followed, intervene, nearest, numeric_target, report
from datamodules import TableCells
from datamodules.reconstruction import ContextOptions, LookupOptions, MaskOptions
from tabattn.contract.cells import Column
from tabattn.nn.densities import mixture
from tabattn.reconstruction.cell_network import CellNetwork, Kinds, Reconstruction
from tabattn.tasks import TableReconstruction


class Constant(CellNetwork):
    """Predicts the mean of every column."""

    def __init__(self, columns: Sequence[Column], *attentions: Any) -> None:
        super().__init__()
        self.kinds = Kinds.of(columns)
        self.features = [place for place, column in enumerate(columns) if not column.target]

    def forward(self, x: Tensor, hidden: Tensor, context: int) -> Reconstruction:
        mean = self.predict(x, context)
        density = mixture(torch.zeros_like(mean)[..., None], mean[..., None], torch.ones_like(mean)[..., None])
        return Reconstruction(mean, density, mean.new_zeros(*x.shape[:2], 0, 0))

    def predict(self, x: Tensor, context: int) -> Tensor:
        return torch.zeros_like(x)


class Copies(Constant):
    """Predicts the cells of the context row with the nearest features."""

    def predict(self, x: Tensor, context: int) -> Tensor:
        features = x[..., self.features]
        near = torch.cdist(features, features[:, :context]).argmin(-1)
        return x.gather(1, near[..., None].expand_as(x))


def table(rows: int = 60) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).normal(2.0, 3.0, size=(rows, 5)), columns=list("abcdy"))


def trained(network: type[CellNetwork], **options: Any) -> tuple[TableReconstruction, TableCells, float]:
    """A task with an untrained network, its table, and its test error."""
    context = ContextOptions(rows=16, partitions=2, lookup=LookupOptions(copies=True, **options))
    data = TableCells(table(), "y", masks=MaskOptions(targets=1.0), context=context)
    task = TableReconstruction(network)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(accelerator="cpu", enable_checkpointing=False, **quiet)
    return task, data, float(trainer.test(task, data, verbose=False)[0]["test/rmse"])


def test_a_network_that_copies_has_no_error_and_follows_an_intervention() -> None:
    task, data, rmse = trained(Copies)
    assert rmse == pytest.approx(0.0, abs=1e-5)
    batches = list(data.test_dataloader())
    values, predicted = intervene(task, batches, 4)
    np.testing.assert_allclose(values, predicted, atol=1e-6)
    assert len(values) == 6 * len(lookup.SWEEP)
    assert set(values) == set(lookup.SWEEP.tolist())
    assert followed(values, predicted) == (pytest.approx(1.0), pytest.approx(1.0))
    assert nearest(batches, 4) == pytest.approx(0.0, abs=1e-6)


def test_a_network_that_copies_is_off_by_what_was_added() -> None:
    task, data, rmse = trained(Copies, added=1.5)
    assert numeric_target(task) == (4, data.columns[4].std)
    assert rmse == pytest.approx(1.5 * data.columns[4].std)
    assert nearest(list(data.test_dataloader()), 4) == pytest.approx(1.5)
    task, data, rmse = trained(Copies, random=4)
    assert rmse > 0.5 * data.columns[4].std
    assert nearest(list(data.test_dataloader()), 4) > 0.5


def test_a_constant_network_follows_nothing() -> None:
    task, data, rmse = trained(Constant)
    column, truth = data.columns[4], table()["y"][(data.roles == 2).numpy()]
    assert rmse == pytest.approx(float(np.sqrt(np.square(truth - column.mean).mean())), rel=1e-5)
    values, predicted = intervene(task, list(data.test_dataloader()), 4)
    assert followed(values, predicted) == (0.0, pytest.approx(0.0))


def test_boosting_sees_no_copies() -> None:
    _, data, _ = trained(Constant)
    assert boosted(data.cells, 4) > 0.5
    truth = data.cells.truth.clone()
    truth[:, 4] = (truth[:, 0] > 0).float()
    assert boosted(data.cells._replace(truth=truth), 4) < 0.5


def test_no_or_several_numeric_targets_are_refused() -> None:
    task = TableReconstruction(Constant)
    task.build((Column("a", target=True), Column("b", target=True)))
    with pytest.raises(SystemExit, match=r"choose it by --data\.target="):
        numeric_target(task)


@pytest.mark.slow
def test_report_and_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    table().to_csv("table.csv", index=False)
    command = ["--steps", "1", "--seeds", "3", "--variants", "copies as they are", "target + 1 std"]
    lookup.main([*command, "--data.table=table.csv", "--data.target=y"])
    out = tmp_path / "runs" / "benchmarks" / "lookup.md"
    text = out.read_text()
    assert text == capsys.readouterr().out
    assert "`python -m benchmarks.lookup --steps 1 --seeds 3 --data.table=table.csv --data.target=y`" in text
    first, second = pd.read_csv(out.with_suffix(".csv")).to_dict("records")
    assert (first["copies"], second["copies"], first["seed"]) == ("copies as they are", "target + 1 std", 3)
    std = first["std"]
    assert std == pytest.approx(second["std"])
    assert 0.5 * std < first["alone"] < 2 * std  # Nothing is learned in a step.
    assert np.isnan(second["alone"])
    assert first["nearest"] == pytest.approx(0.0, abs=1e-5)
    assert second["nearest"] > 0.9 * std


def test_lines_of_the_report() -> None:
    found = {("both", 1): Looked(0.5, float("nan"), 3.0, 6.0, 6.1, 0.99912, 1.01, 2.04)}
    options = Namespace(steps=None, seeds=[1], further=["--data.table=my.csv"])
    text = report(found, options)
    assert "| both | 1 | 0.5 |  | 3 | 6 | 6.1 | 0.9991 | 1.010 | 2.0 |" in text
    assert "`python -m benchmarks.lookup --seeds 1 --data.table=my.csv`" in text
