"""Row interactions: what networks that read other rows, or none, do where rows are corrupted, deleted or left out."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from benchmarks import row_experiments, row_interactions
from benchmarks.row_experiments import Figures, corrupted, corruptions, deletions, left_out, singles
from datamodules import TableCells
from datamodules.reconstruction import ContextOptions
from tabattn.contract.cells import CellBatch
from tabattn.reconstruction import CellTransformer, PredictOptions
from tabattn.reconstruction.deciding import decide
from tabattn.tasks import TableReconstruction
from tabattn.training.cli import main
from tests.benchmarks.test_lookup import Constant, Copies
from tests.reconstruction.test_task import CONFIG, SMALL


class Average(Constant):
    """Predicts the mean of each column in the context."""

    def predict(self, x: Tensor, context: int) -> Tensor:
        return x[:, :context].mean(1, keepdim=True).expand_as(x)


def frame() -> pd.DataFrame:
    """Make a table in which each row is there ten times."""
    rows = np.random.default_rng(0).normal(size=(10, 4)).repeat(10, axis=0)
    return pd.DataFrame(rows, columns=list("abcy"))


def made(network: Any, **options: Any) -> tuple[TableReconstruction, list[CellBatch]]:
    """A task with an untrained network, and the batches of the test rows."""
    data = TableCells(frame(), "y", context=ContextOptions(**options))
    torch.manual_seed(0)
    task = TableReconstruction(network)
    task.build(data.columns)
    return task.eval(), list(data.test_dataloader())


@pytest.mark.parametrize("transductive", [False, True])
def test_each_row_is_predicted_from_all_others(transductive: bool) -> None:
    _, (batch,) = made(Constant, transductive=transductive)
    asked = batch.row[0][batch.scored[0].any(-1)].tolist()
    found = list(singles(batch))
    assert [int(each.row[0, -1]) for each in found] == asked
    for each in found:
        context = set(batch.row[0, : batch.context].tolist())
        assert each.row[0, :-1].tolist() == sorted(context - {int(each.row[0, -1])}, key=batch.row[0].tolist().index)
        assert each.context == len(each.row[0]) - (not transductive)


def test_corruption_permutes_each_column_on_its_own() -> None:
    _, (batch,) = made(Constant)
    single = next(singles(batch))
    other = corrupted(single, torch.Generator().manual_seed(0))
    assert torch.equal(other.x[:, -1], single.x[:, -1])
    assert torch.equal(other.x.sort(1).values[..., :3], single.x.sort(1).values[..., :3])
    together = (other.x[0, :-1, None] == single.x[0, None, :-1]).all(-1).any(-1)
    assert together.float().mean() < 0.1


def test_corruption_harms_a_network_that_reads_rows_one_by_one() -> None:
    task, batches = made(Copies)
    (figures,) = corruptions(task, batches, 3, 0)
    assert list(figures) == ["rmse, plain", "rmse, permuted"]
    assert figures["rmse, plain"] == pytest.approx(0.0, abs=1e-6)
    assert figures["rmse, permuted"] > 0.5 * task.columns[3].std
    task, batches = made(Average)  # A mean over rows is that of permuted rows.
    (figures,) = corruptions(task, batches, 3, 0)
    assert figures["rmse, permuted"] == pytest.approx(figures["rmse, plain"])
    task, (batch,) = made(Constant)
    (figures,) = corruptions(task, [batch], 3, 0)
    truth = batch.truth[0, batch.context :, 3]
    assert figures["rmse, plain"] == pytest.approx(task.columns[3].std * float(truth.square().mean().sqrt()))
    assert figures["rmse, permuted"] == figures["rmse, plain"]


def lines(figures: list[Figures]) -> Figures:
    (found,) = figures
    return found


def test_deletion_keeps_the_rows_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_experiments, "GROWTH", 2.0)
    monkeypatch.setattr(row_experiments, "BLOCK", 0.2)
    task, batches = made(Copies)
    found = lines(deletions(task, batches, 3, 0, 5))
    assert found["test rows"] == 5
    assert found["distance of the kept"] < 0.9 * found["distance of all"]
    assert found["p (Wilcoxon)"] < 0.05
    task, batches = made(Constant)
    found = lines(deletions(task, batches, 3, 0, 5))
    assert found["share kept"] <= row_experiments.LEAST + 1 / batches[0].context
    assert found["distance of the kept"] > 0.5 * found["distance of all"]
    assert found["p (Wilcoxon)"] > 0.05


def test_deciding_rows_are_left_out_in_growing_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_experiments, "SHARES", (0.01, 0.1))
    task, batches = made(partial(CellTransformer, dim=8, heads=1, hidden=8, layers=1, datapoints="rows"))
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    first, second = left_out(task, batches, 3)
    (batch,) = batches
    assert (first["share left out"], second["share left out"]) == (0.01, 0.1)
    for figures, most in ((first, 1), (second, round(0.1 * batch.context))):
        found = decide(task.network, batch, task(batch), task.columns, PredictOptions(most)).changes[:, 0].abs()
        assert figures["change without deciding rows"] == pytest.approx(float(found[:, 0].mean()))
        assert figures["without random rows"] == pytest.approx(float(found[:, 1].mean()))
    assert second["change without deciding rows"] > first["without random rows"]


@pytest.mark.slow
def test_report_of_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(row_experiments, "SHARES", (0.5,))
    frame().assign(kind=lambda rows: np.where(rows["a"] > 0, "p", "n")).to_csv("table.csv", index=False)
    runs = []
    for number, target in enumerate(("y", "kind")):
        train = ["--data.table=table.csv", f"--data.target={target}", f"--seed_everything={number}"]
        assert main(["fit", "--config", CONFIG, *SMALL, *train]) == 0
        runs.append(str(tmp_path / "runs" / "reconstruction" / "Softmax" / f"version_{number}"))
    row_interactions.main(["corruption", "deletion", "deciding", "--run", *runs, "--rows", "2"])
    out = tmp_path / "runs" / "benchmarks" / "row_interactions.md"
    text = out.read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Corruption",
        "## Deletion",
        "## Deciding",
    ]
    assert (
        "| table | network | seed | target | accuracy, plain | accuracy, permuted | nll, plain | nll, permuted |"
        in text
    )
    figures = pd.read_csv(out.with_suffix(".csv"))
    assert figures.groupby(["experiment", "target"]).size().to_dict() == {
        ("corruption", "y"): 2,
        ("corruption", "kind"): 4,
        **{("deletion", target): 5 for target in ("y", "kind")},
        **{("deciding", target): 3 for target in ("y", "kind")},
    }
    assert dict(zip(figures["target"], figures["seed"], strict=True)) == {"y": 0, "kind": 1}
    assert set(figures["table"]) == {"table.csv"}
