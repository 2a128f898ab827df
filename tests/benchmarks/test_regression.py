"""Benchmark of regressors: equal folds, scores of predictive distributions, and report."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import regression
from benchmarks.regression_report import OURS
from benchmarks.regressors import REGRESSORS, NormalForecast
from tabattn.prior import weights
from tests.prior.estimator.test_regressor import network

ROWS = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = np.random.default_rng(0)
    size, colour = source.normal(size=ROWS), source.choice(["red", "green"], ROWS)
    y = 100 + 10 * np.sin(size) + (colour == "red") + source.normal(size=ROWS)
    frame = pd.DataFrame({"size": size, "colour": colour, "y": y})
    frame.loc[::9, "size"] = np.nan
    frame.to_csv(tmp_path / "first.csv", index=False)
    frame[["y", "size", "colour"]].to_csv(tmp_path / "second.csv", index=False)
    index = [{"name": "second", "file": "second.csv", "target": "y"}]
    pd.DataFrame(index).to_csv(tmp_path / "index.csv", index=False)
    tensors, arguments = weights.described(network())
    weights.write(tmp_path / "net.safetensors", tensors, {"network": arguments})
    return tmp_path


def test_report_and_scores_are_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "docs" / "regression.md"
    fast = ["ridge regression", "random forest (100)"]
    words = [str(folder / "first.csv"), str(folder), "--folds", "2", "--methods", *fast]
    regression.main([*words, "--out", str(out)])
    text = out.read_text()
    assert capsys.readouterr().out == text
    scores = pd.read_csv(out.with_suffix(".csv"))
    assert list(scores.method) == [OURS, *fast] * 2
    assert list(scores.table.unique()) == ["first", "second"]
    np.testing.assert_allclose(scores.rmse[:3], scores.rmse[3:], rtol=0.3)
    assert scores[scores.method == OURS].r2.min() > 0.7
    assert scores.coverage.between(0.5, 1).all()
    assert "Weights: the packaged weights (SHA-256" in text
    assert f"| {OURS} | " in text


def test_resume_keeps_scores_of_equal_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [str(folder / "first.csv"), "--folds", "2", "--out", str(folder / "r.md"), "--methods"]
    measured: list[Any] = []
    scores = {"rmse": 1.0, "r2": 0.5, "nll": 1.0, "crps": 0.123456, "coverage": 0.9, "seconds": 1.0}
    monkeypatch.setattr(regression, "evaluate", lambda *given: measured.append(given) or scores)
    regression.main([*words, "ridge regression"])
    assert len(measured) == 2
    before = (folder / "r.md").read_text()
    regression.main([*words, "ridge regression", "--resume"])
    assert len(measured) == 2
    assert (folder / "r.md").read_text() == before
    regression.main([*words, "ridge regression", "random forest (100)", "--resume"])
    assert len(measured) == 3
    regression.main([*words, "ridge regression", "--resume", "--seed=1"])
    assert len(measured) == 5
    words += ["ridge regression", "--resume", "--seed=1", "--model", str(folder / "net.safetensors")]
    regression.main(words)
    assert len(measured) == 6


def test_parts_of_a_network(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = str(folder / "net.safetensors"), folder / "r.md"
    words = [str(folder / "first.csv"), "--model", model, "--estimators", "2", "--device", "cpu", "--out", str(out)]
    regression.main([*words, "--folds", "2", "--max-rows", "40", "--methods", *regression.PARTS])
    scores = pd.read_csv(out.with_suffix(".csv")).set_index("method")
    assert list(scores.index) == [OURS, *regression.PARTS]
    assert (scores.rows == 40).all()
    both = scores.loc[list(regression.PARTS), "rmse"]
    assert both.iloc[0] < both.iloc[1]  # the network's parameters are random
    assert scores.rmse[OURS] < both.iloc[1]
    assert "Weights: net.safetensors (SHA-256" in capsys.readouterr().out


def test_scores_of_a_normal_distribution() -> None:
    y = np.random.default_rng(0).normal(size=50)
    found = NormalForecast(np.zeros(50), np.full(50, 2.0))
    scores = regression.score(found, found.mean(), y)
    np.testing.assert_allclose(scores["square"], y**2)
    np.testing.assert_allclose(scores["nll"], -stats.norm(0, 2).logpdf(y))
    np.testing.assert_array_equal(scores["coverage"], np.abs(y) < 2 * stats.norm.ppf(0.95))
    z = y / 2
    closed = 2 * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    np.testing.assert_allclose(scores["crps"], closed, atol=5e-3)


@pytest.mark.parametrize("name", REGRESSORS)
def test_baselines_predict_and_are_calibrated(name: str) -> None:
    source = np.random.default_rng(0)
    x = np.column_stack([source.normal(size=(240, 2)), source.integers(0, 3, 240)])
    y = 3 * x[:, 0] + (x[:, 2] == 1) + 0.5 * source.normal(size=240)
    flags = np.array([False, False, True])
    found = REGRESSORS[name](flags, 0, x[:160], y[:160], x[160:])
    assert np.square(found.mean() - y[160:]).mean() < 0.2 * y.var()
    inside = np.abs(found.cdf(y[160:, None])[:, 0] - 0.5) < 0.45
    assert 0.75 < inside.mean() <= 1
    np.testing.assert_allclose(found.cdf(found.quantile(np.array([0.1, 0.7]))), np.tile([0.1, 0.7], (80, 1)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{folder}/first.csv", "--folds=1"], "folds must be at least 2, got 1"),
        (["{folder}/first.csv", "--model=none.ckpt"], "model: there is no file none.ckpt"),
        (["{folder}/docs"], "there is no"),
    ],
)
def test_wrong_arguments(folder: Path, words: list[str], message: str, capsys: Any) -> None:
    (folder / "docs").mkdir()
    with pytest.raises(SystemExit) as caught:
        regression.arguments([word.format(folder=folder) for word in words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [("first.csv::colour", "y must hold numbers"), ("first.csv::z", "has no column 'z'"), ("none.csv", "none.csv")],
)
def test_tables_that_cannot_be_read(folder: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        regression.main([str(folder / name), "--out", str(folder / "x.md")])
    assert caught.value.code == 3
    assert message in capsys.readouterr().err
