"""Comparison of imputers: mechanisms of missingness, scores, and a run that goes on where it was."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import KNNImputer

from benchmarks import imputation, imputation_report
from benchmarks.missingness import MECHANISMS, hide, shuffled


def table(rows: int = 2000) -> pd.DataFrame:
    draws = np.random.default_rng(0)
    frame = pd.DataFrame(draws.normal(size=(rows, 4)), columns=list("abcd"))
    frame["word"] = draws.choice(["x", "y", "z"], rows)
    return frame


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_shares_of_hidden_cells(mechanism: str, rate: float) -> None:
    hidden = hide(table(), mechanism, rate, 0)  # type: ignore[arg-type]
    shares = hidden.mean(0)
    some = shares > 0
    assert int(some.sum()) == (2 if mechanism == "MAR" else 5)
    np.testing.assert_allclose(shares[some], rate, atol=0.06)


def test_missing_completely_at_random_depends_on_nothing() -> None:
    frame = table()
    hidden = hide(frame, "MCAR", 0.3, 0)
    related = [abs(np.corrcoef(hidden[:, place], frame[name])[0, 1]) for place, name in enumerate("abcd")]
    assert max(related) < 0.1


def test_missing_at_random_depends_on_a_column_that_is_seen() -> None:
    frame = table().drop(columns="word")
    hidden = hide(frame, "MAR", 0.3, 0)
    for place in np.flatnonzero(hidden.any(0)):
        related = np.asarray([abs(np.corrcoef(hidden[:, place], frame[name])[0, 1]) for name in frame])
        driver = int(related.argmax())
        assert related[driver] > 0.3
        assert not hidden[:, driver].any()
        assert related[place] < 0.1


def test_missing_not_at_random_depends_on_the_value() -> None:
    frame = table()
    hidden = hide(frame, "MNAR", 0.3, 0)
    for place, name in enumerate("abcd"):
        assert np.corrcoef(hidden[:, place], frame[name])[0, 1] > 0.3
    by_word = pd.Series(hidden[:, 4]).groupby(frame["word"].to_numpy()).mean()
    assert by_word.max() > 2 * by_word.min()


def test_missing_cells_are_not_hidden_and_rates_are_bounded() -> None:
    frame = table(50)
    frame.iloc[3, 0] = np.nan
    assert not hide(frame, "MNAR", 0.5, 0)[3, 0]
    with pytest.raises(ValueError, match=r"rate must be above 0 and at most 0\.5, got 0\.6"):
        hide(frame, "MCAR", 0.6, 0)


def test_shuffled_columns_have_their_values_and_no_relation() -> None:
    frame = pd.DataFrame({"a": np.arange(500.0), "b": np.arange(500.0)})
    found = shuffled(frame, 0)
    assert sorted(found["b"]) == list(frame["b"])
    assert abs(found.corr().iloc[0, 1]) < 0.15


def test_scores() -> None:
    truth = pd.DataFrame({"n": [0.0, 2.0, 4.0], "w": ["a", "b", "b"]})
    found = pd.DataFrame({"n": [1.0, 2.0, 4.0], "w": ["a", "a", "b"]})
    hidden = np.array([[True, True], [False, True], [True, False]])
    scores = imputation.scores(truth, found, hidden)
    assert scores["nrmse"] == pytest.approx(np.sqrt(0.5) / 2)
    assert scores["error"] == 0.5
    assert np.isnan(imputation.scores(truth, found, hidden & [True, False])["error"])


def test_the_baselines_fill_and_keep_known_cells() -> None:
    frame = table(40)
    gaps = frame.mask(hide(frame, "MCAR", 0.3, 0))
    for found in (imputation.mean_or_mode(gaps), imputation.encoded(gaps, KNNImputer())):
        assert not found.isna().any().any()
        known = gaps["a"].notna()
        np.testing.assert_allclose(found["a"][known].astype(float), gaps["a"][known])
        assert (found["word"][gaps["word"].notna()] == gaps["word"].dropna()).all()


def run(folder: Path) -> None:
    size = ["--steps", "2", "--trees", "2", "--max-rows", "30"]
    cases = ["--tables", str(folder), "--rates", "0.3", "--mechanisms", "MCAR"]
    imputation.main([*cases, *size, "--out", str(folder / "out" / "report.md")])


def test_a_run_and_its_resumption(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(40).to_csv(tmp_path / "tiny.csv", index=False)
    run(tmp_path)
    text = (tmp_path / "out" / "report.md").read_text()
    lines = (tmp_path / "out" / "report.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 4
    assert "Summary of 1 cases on 1 tables" in text
    assert "## Control" in text
    assert text in capsys.readouterr().out
    (tmp_path / "out" / "report.csv").write_text("\n".join(lines[:4]) + "\n")
    run(tmp_path)
    again = pd.read_csv(tmp_path / "out" / "report.csv")
    assert again["method"].tolist() == [line.split(",")[3] for line in lines[1:]]
    kept = again.drop(columns="seconds")
    pd.testing.assert_frame_equal(kept[:3], pd.read_csv(tmp_path / "out" / "report.csv").drop(columns="seconds")[:3])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rates", "0.7"], "rates must be above 0 and at most 0.5, got 0.7"),
        (["--only", "none"], "no table is called 'none'; tables: tiny"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
    ],
)
def test_bad_arguments(tmp_path: Path, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    table(5).to_csv(tmp_path / "tiny.csv", index=False)
    with pytest.raises(SystemExit):
        imputation.arguments(["--tables", str(tmp_path), *flags])
    assert said in capsys.readouterr().err


def test_the_best_of_a_row_is_bold_and_ranks_are_means() -> None:
    rows = [
        {"table": "t", "mechanism": "MCAR", "rate": 0.3, "method": method, "rows": 9, "columns": 2}
        | {"nrmse": nrmse, "error": error, "seconds": 1.0}
        for method, nrmse, error in (("mean or mode", 1.0, 0.5), ("TabularImputer", 0.5, 0.6))
    ]
    text = imputation_report.report(pd.DataFrame(rows), "Origin.", "Protocol.")
    assert "| MCAR 30% | 1.000 | **0.500** |" in text
    assert "| TabularImputer | 1.50 | 0.5000 | 0.6000 | 1.0 |" in text
    assert "| mean or mode | 1, 0, -0.5000 | 0, 1, +0.1000 |" in text
