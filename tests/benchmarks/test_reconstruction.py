"""Benchmark of reconstruction: it runs on a small table, resumes, and reports paired differences."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import reconstruction, reconstruction_sweep
from benchmarks.reconstruction_report import report
from datamodules import TableCells
from datamodules.reconstruction.options import SplitOptions

SMALL = ["--trainer.max_steps=2", "--data.steps_per_epoch=1", "--model.network.dim=8", "--model.network.hidden=8"]
SMALL += ["--model.network.layers=1", "--trainer.accelerator=cpu"]


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Write a small table with a numeric target."""
    draws = np.random.default_rng(0)
    size = draws.normal(size=40)
    frame = pd.DataFrame({"size": size, "kind": draws.choice(["a", "b"], 40), "price": 3 * size + 100})
    frame.to_csv(tmp_path / "houses.csv", index=False)
    return f"{tmp_path / 'houses.csv'}::price"


def run(source: str, out: Path, *words: str) -> pd.DataFrame:
    """Run the benchmark on one fold; return the results that it keeps."""
    options = reconstruction.arguments(
        [source, "--folds", "4", "--only", "1", "--out", str(out / "report.md"), *words, *SMALL]
    )
    return reconstruction.measure_all(options)


def test_ours_and_baselines_are_scored_in_units_of_the_data(source: str, tmp_path: Path) -> None:
    found = run(source, tmp_path, "--methods", "ours", "linear", "ExtraTrees (300)").set_index("method")
    assert found.loc["linear", "rmse"] < 0.1
    assert found.loc["ours", "rmse"] < 3
    assert 0 <= found.loc["ours", "coverage_90"] <= 1
    assert (found["seconds"] > 0).all()


class Nearest:
    """Baseline that says which rows it has seen: labels of ``fit`` are told by their first feature."""

    def __init__(self) -> None:
        self.known: dict[float, float] = {}
        self.asked: list[float] = []

    def fit(self, x: np.ndarray, y: np.ndarray) -> None:
        self.known = dict(zip(x[:, 0].tolist(), y.tolist(), strict=True))

    def predict(self, x: np.ndarray) -> np.ndarray:
        self.asked = x[:, 0].tolist()
        return np.zeros((len(x), 1))


def test_a_baseline_is_fitted_to_the_training_rows_of_its_fold_and_asked_for_the_test_rows(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Nearest] = []
    method = reconstruction.METHODS | {"linear": lambda *_: made.append(Nearest()) or made[-1]}
    monkeypatch.setattr(reconstruction, "METHODS", method)
    options = reconstruction.arguments([source, "--folds", "4"])
    found = [reconstruction.measure(source, fold, "linear", options) for fold in range(4)]
    table = pd.read_csv(source.partition("::")[0])
    prices = dict(zip(table["size"], table["price"], strict=True))
    assert sorted(row for each in made for row in each.asked) == sorted(prices)
    for fold, (each, scores) in enumerate(zip(made, found, strict=True)):
        roles = TableCells(source, split=SplitOptions(folds=4, fold=fold)).roles.numpy()
        assert list(each.known) == table["size"][roles == 0].tolist()
        assert each.asked == table["size"][roles == 2].tolist()
        assert np.mean(list(each.known.values())) == pytest.approx(0, abs=1e-9)
        assert np.std(list(each.known.values())) == pytest.approx(1)
        errors = table["price"][roles == 2] - table["price"][roles == 0].mean()
        assert scores["rmse"] == pytest.approx(np.square(errors).mean() ** 0.5)
        assert scores["mae"] == pytest.approx(errors.abs().mean())


@pytest.mark.parametrize("name", [name for name in reconstruction.METHODS if name not in reconstruction.EXTRA])
def test_each_baseline_classifies(name: str) -> None:
    options = reconstruction.arguments(["sklearn:iris"])
    found = reconstruction.measure("sklearn:iris", 0, name, options)
    assert found["auroc"] > 0.9
    assert found["accuracy"] > 0.8
    assert found["nll"] < 2


def test_a_repeated_run_measures_only_what_is_missing(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(source, tmp_path, "--methods", "linear")
    asked = []
    original = reconstruction.measure
    monkeypatch.setattr(reconstruction, "measure", lambda *given: asked.append(given[2]) or original(*given))
    found = run(source, tmp_path, "--methods", "linear", "SVM")
    assert asked == ["SVM"]
    assert list(found["method"]) == ["linear", "SVM"]


def test_what_was_measured_otherwise_is_neither_taken_nor_reported(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(source: str, fold: int, method: str, options: argparse.Namespace) -> dict[str, object]:
        return {"table": "houses", "fold": fold, "method": method, "seconds": 1.0, "rmse": float(options.seed)}

    monkeypatch.setattr(reconstruction, "measure", measure)
    first = run(source, tmp_path, "--methods", "ours", "linear")
    again = run(source, tmp_path, "--methods", "ours", "linear", "--seed", "7")
    assert list(again["rmse"]) == [7.0, 7.0]
    other = run(source, tmp_path, "--methods", "ours", "linear", "--model.attention=Local")
    assert list(other["method"]) == ["linear", "ours"]
    assert other["flags"].iloc[1].startswith("--model.attention=Local")
    path = tmp_path / "report.csv"
    assert len(pd.read_csv(path)) == 5
    pd.read_csv(path).drop(columns=["folds", "seed"]).to_csv(path, index=False)
    words = [source, "--only", "1", "--methods", "linear", "--out", str(tmp_path / "report.md")]
    kept = reconstruction.measure_all(reconstruction.arguments(words))
    assert list(kept["method"].unique()) == ["linear"]
    pd.testing.assert_frame_equal(run(source, tmp_path, "--methods", "ours", "linear")[list(first)], first)


def test_classes_are_scored_by_their_probabilities() -> None:
    y, probabilities = np.array([0, 1, 1]), np.array([[0.8, 0.2], [0.4, 0.6], [0.6, 0.4]])
    found = reconstruction.categorical_scores(y, probabilities)
    assert found["auroc"] == 1
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["nll"] == pytest.approx(-np.log([0.8, 0.6, 0.4]).mean())


def test_the_report_has_paired_differences(tmp_path: Path) -> None:
    options = reconstruction.arguments(["sklearn:wine", "--out", str(tmp_path / "report.md")])
    rows = [
        {"table": "houses", "fold": fold, "method": method, "rmse": rmse, "seconds": 1.0}
        for method, figures in {"ours": (1.0, 3.0), "linear": (2.0, 4.5)}.items()
        for fold, rmse in enumerate(figures)
    ]
    text = report(pd.DataFrame(rows), options)
    assert "| ours | 2 | 2.000 ± 1.000 |  | 1 |" in text
    assert "| linear | 2 | 3.250 ± 1.250 | 1.250 ± 0.250 | 1 |" in text
    assert text.index("| ours") < text.index("| linear"), "the best comes first"
    classes = [{**row, "auroc": row["rmse"] / 5} for row in rows]
    text = report(pd.DataFrame(classes).drop(columns="rmse"), options)
    assert text.index("| linear") < text.index("| ours")


@pytest.mark.parametrize("words", [["--only", "10"], ["--methods", "magic"], ["--data.split.fold=1"]])
def test_wrong_arguments_are_refused_at_once(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        reconstruction.arguments(["sklearn:wine", *words])
    assert words[-1].partition("=")[0] in capsys.readouterr().err


def test_several_targets_and_large_gaussian_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = reconstruction.arguments(["sklearn:linnerud", "--out", str(tmp_path / "report.md")])
    monkeypatch.setattr(reconstruction, "LARGEST", 10)
    assert reconstruction.measure("sklearn:iris", 0, "Gaussian process", options) is None


def test_the_sweep_scores_each_mechanism(source: str, tmp_path: Path) -> None:
    out = tmp_path / "sweep.md"
    words = [source, "--attentions", "Linear", "Local", "--steps", "2", "--out", str(out), *SMALL[1:]]
    reconstruction_sweep.main(words)
    found = pd.read_csv(out.with_suffix(".csv"))
    assert list(found["mechanism"]) == ["Linear", "Local"]
    assert (found[["rmse", "ms of a step", "MB of a step"]] > 0).all(axis=None)
    assert "## houses" in out.read_text()
