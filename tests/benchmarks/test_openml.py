"""Benchmark on OpenML tables: equal folds, scores of pooled predictions, and report."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import openml
from benchmarks.baselines import BASELINES
from benchmarks.openml_report import OURS, report
from tabattn.prior import weights
from tests.prior.estimator.tiny import tiny_network

ROWS = 90

ARFF = """@relation {name}
@attribute size numeric
@attribute colour {{red,green,blue}}
@attribute class {{{classes}}}
@data
{rows}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    random = np.random.default_rng(0)
    index = []
    for name, classes in (("pair", "ab"), ("triple", "abc")):
        y = np.arange(ROWS) % len(classes)
        sizes, colours = 2 * y + random.standard_normal(ROWS), random.choice(["red", "green", "blue", "?"], ROWS)
        cells = zip(sizes, colours, y, strict=True)
        rows = [f"{size:.3f},{colour},{classes[label]}" for size, colour, label in cells]
        if name == "triple":
            rows += ["0.0,red,d"] * 2
        text = ARFF.format(name=name, classes=",".join("abcd"), rows="\n".join(rows))
        (tmp_path / f"{name}.arff.gz").write_bytes(gzip.compress(text.encode()))
        index.append({"name": name, "file": f"{name}.arff.gz", "target": "class"})
    pd.DataFrame(index).to_csv(tmp_path / "index.csv", index=False)
    tensors, arguments = weights.described(tiny_network())
    weights.write(tmp_path / "net.safetensors", tensors, {"network": arguments})
    return tmp_path


def command(folder: Path, *more: str) -> Any:
    model = str(folder / "net.safetensors")
    return [str(folder), "--model", model, "--folds", "3", "--estimators", "2", "--device", "cpu", *more]


def test_report_and_scores_are_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "docs" / "openml.md"
    openml.main(command(folder, "--out", str(out)))
    text = out.read_text()
    assert capsys.readouterr().out == text
    scores = pd.read_csv(out.with_suffix(".csv"))
    assert list(scores.method) == [OURS, "its kernel member alone", *BASELINES] * 2
    assert list(scores.table.unique()) == ["pair", "triple"]
    assert list(scores.drop_duplicates("table").rows) == [ROWS, ROWS]  # the class of two rows is left out
    assert list(scores.drop_duplicates("table").classes) == [2, 3]
    for name in (OURS, *BASELINES):
        assert f"| {name} | {scores[scores.method == name].auc.mean():.4f} |" in text
    assert "net.safetensors (SHA-256 " in text


def test_parts_are_those_of_the_estimator(folder: Path) -> None:
    options = openml.arguments(command(folder, "--kernel-weight", "0.4"))
    (pair, _) = openml.tables(options)
    found = [openml.evaluate(pair, openml.ours(options, weight), options) for weight in (0.0, 0.4, 1.0)]
    assert len({scores["log_loss"] for scores in found}) == 3
    chosen = openml.measure(openml.arguments(command(folder, "--kernel-weight", "0.4", "--methods", *openml.PARTS)))
    assert list(chosen.log_loss[:3]) == [found[index]["log_loss"] for index in (1, 2, 0)]


def test_kernel_weight_has_bounds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        openml.arguments(command(folder, "--kernel-weight", "1.5"))
    assert "argument --kernel-weight: must be between 0 and 1, got 1.5" in capsys.readouterr().err


def test_methods_see_the_same_folds(folder: Path) -> None:
    options = openml.arguments(command(folder))
    (pair, _) = openml.tables(options)
    seen = []

    def predict(x: Any, y: Any, rest: Any) -> Any:
        seen.append((tuple(x.index), tuple(rest.index)))
        return np.array([1, 0]), np.tile([0.3, 0.7], (len(rest), 1))

    scores = [openml.evaluate(pair, predict, options) for _ in range(2)]
    assert seen[:3] == seen[3:]
    assert sorted(row for _, rest in seen[:3] for row in rest) == list(range(ROWS))
    assert scores[0]["auc"] == 0.5
    assert scores[0]["accuracy"] == pytest.approx((pair.y == 0).mean())


def test_rows_are_sampled_by_class(folder: Path) -> None:
    options = openml.arguments(command(folder, "--max-rows", "20"))
    (pair, triple) = openml.tables(options)
    assert np.bincount(pair.y).tolist() == [10, 10]
    assert len(triple.y) <= 20


def test_baselines_learn(folder: Path) -> None:
    options = openml.arguments(command(folder))
    (pair, _) = openml.tables(options)
    for name in BASELINES:
        assert openml.evaluate(pair, openml.baseline(name, 0), options)["auc"] > 0.6


def test_summary_counts_wins_and_ranks() -> None:
    figures = {"a": (0.9, 0.8), "b": (0.7, 0.7001), "c": (0.5, 0.6)}
    rows = [
        {"table": table, "rows": 9, "features": 2, "classes": 2, "method": method}
        | {"auc": auc, "accuracy": 0.5, "log_loss": 1.0, "seconds": 2.0}
        for table, pair in figures.items()
        for method, auc in zip((OURS, "other"), pair, strict=True)
    ]
    text = report(pd.DataFrame(rows), "Here.", "Thus.")
    assert "| other | 1 | 1 | 1 | -0.0000 |" in text
    assert f"| {OURS} | 0.7000 | 1.67 | 0.5000 | 1.0000 | 6.0 |" in text
    assert "| a | 9 | 2 | 2 | **0.900** | 0.800 |" in text


def test_mistakes_are_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        openml.arguments([str(folder / "none")])
    assert "there is no" in capsys.readouterr().err
    for words, message in (
        (["--tables", "other"], "no table is called 'other'; tables: pair, triple"),
        (["--folds", "1"], "folds must be at least 2, got 1"),
        (["--estimators", "0"], "estimators must be at least 1, got 0"),
        (["--model", "none.safetensors"], "model: there is no file none.safetensors"),
    ):
        with pytest.raises(SystemExit):
            openml.arguments(command(folder, *words))
        assert message in capsys.readouterr().err


def test_an_index_is_checked_before_a_method_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "triple.arff.gz").unlink()
    openml.arguments(command(folder, "--tables", "pair"))
    for index, message in (
        ("name,file,target\npair,pair.arff.gz,class\ntriple,triple.arff.gz,class\n", "triple.arff.gz, which"),
        ("name,file\npair,pair.arff.gz\n", "has no column target, but name, file"),
    ):
        (folder / "index.csv").write_text(index)
        with pytest.raises(SystemExit):
            openml.arguments(command(folder))
        assert message in capsys.readouterr().err


def test_a_table_that_cannot_be_read_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "pair.arff.gz").write_bytes(b"nothing of the sort")
    with pytest.raises(SystemExit) as caught:
        openml.main(command(folder, "--out", str(folder / "openml.md")))
    assert caught.value.code == 3
    assert capsys.readouterr().err.startswith("error: ")


def test_auc_is_that_of_scikit_learn(folder: Path) -> None:
    options = openml.arguments(command(folder))
    (_, triple) = openml.tables(options)
    fixed = np.random.default_rng(1).dirichlet(np.ones(3), len(triple.y))

    def predict(x: Any, y: Any, rest: Any) -> Any:
        return np.arange(3), fixed[rest.index]

    expected = roc_auc_score(triple.y, fixed, multi_class="ovr")
    assert openml.evaluate(triple, predict, options)["auc"] == pytest.approx(expected)
