"""Simple methods beside ``SequenceInferrer``: what each predicts, what is scored, and what is measured anew."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import sequence_inferrer as program
from benchmarks.sequence_baselines import BASELINES, Window, interpolation, marginal, ridge, shifted_ridge
from benchmarks.sequence_inferrer import Inferred, Table, curves, read_table
from benchmarks.sequence_inferrer_report import OURS, report

SHORT = ["--length=8", "--rows=150", "--seeds=1"]


def parallel(level: float = 3.0, shown: tuple[int, ...] = (0, 1)) -> Window:
    """A sequence that is twice another one, and a constant."""
    x = np.arange(6.0)
    other = np.sin(x * (1 + level))[:, None]
    known = np.isin(np.arange(6), shown)
    return Window(x, 2 * other[:, 0] + level, other, known)


def test_the_marginal_is_that_of_all_known_values() -> None:
    train = [parallel(level) for level in (1.0, 5.0)]
    values = np.concatenate([window.y for window in train])
    mean, std = marginal(train)(parallel())
    assert mean == pytest.approx([values.mean()] * 4)
    assert std == pytest.approx([values.std()] * 4)


def test_interpolation_joins_the_context_and_goes_on_level() -> None:
    window = Window(
        np.arange(5.0), np.array([0.0, 9, 2, 3, 7]), np.zeros((5, 1)), np.array([1, 0, 1, 0, 0], dtype=bool)
    )
    mean, std = interpolation([window])(window)
    assert mean.tolist() == [1, 2, 2]
    assert window.distance.tolist() == [1, 1, 2]
    assert std[0] == std[1] == pytest.approx(np.sqrt((8**2 + 1) / 2))
    assert std[2] == pytest.approx(5)


def test_ridge_finds_a_linear_map_and_its_level_from_the_context() -> None:
    train = [parallel(3.0 + 1e-6 * number) for number in range(9)]
    for method in (ridge, shifted_ridge):
        mean, std = method(train)(parallel())
        assert mean == pytest.approx(parallel().y[2:], abs=0.1)
        assert (std < 0.2).all()
    other = parallel()._replace(y=parallel().y + 10)
    assert shifted_ridge(train)(other)[0] == pytest.approx(other.y[2:], abs=0.1)
    assert ridge(train)(other)[0] == pytest.approx(other.y[2:] - 10, abs=0.1)


@pytest.mark.parametrize("name", list(BASELINES))
def test_methods_are_calibrated_on_what_they_learned_from_and_serve_gaps(name: str) -> None:
    table = Table("curves", curves(400).to_numpy().copy(), 300, 24)
    table.values[5::17] = np.nan
    train = [window for _, window in table.windows(0, 300, 4, "interp")]
    infer = BASELINES[name](train)
    inside = []
    for window in train:
        mean, std = infer(window)
        assert mean.shape == std.shape == (int(window.hidden.sum()),)
        inside.append(np.abs(window.y[window.hidden] - mean) < 1.645 * std)
    assert 0.7 < np.concatenate(inside).mean() < 0.99


def test_windows_hide_all_but_a_quarter_and_are_cut_from_the_rows_asked_for() -> None:
    table = Table("t", np.arange(80.0).reshape(40, 2), 30, 8)
    for way, shown in (("forecast", [0, 1]), ("interp", None)):
        found = table.windows(30, 40, 2, way)
        assert [first for first, _ in found] == [30, 32]
        for first, window in found:
            assert window.y.tolist() == [2.0 * row + 1 for row in range(first, first + 8)]
            assert window.shown.sum() == 2
            assert shown is None or np.flatnonzero(window.shown).tolist() == shown


def test_scores_are_in_units_of_the_scale() -> None:
    truth = np.array([0.0, 4])
    scores = Inferred(truth, truth + 2, stats.norm.logpdf(truth, truth + 2, 2), truth - [1, -1], truth + 9).scores(2.0)
    assert scores["rmse"] == pytest.approx(1)
    assert scores["ll"] == pytest.approx(stats.norm.logpdf(0, 1, 1))
    assert scores["coverage90"] == 0.5


def test_the_estimator_is_scored_on_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    values = curves(150).to_numpy().copy()
    values[110, 0] = values[120, 1] = np.nan
    table = Table("t", values, 100, 8)
    found = program.infer(program.fit(table, 0, max_steps=2), table, "interp")
    windows = [window for _, window in table.windows(100, 150, 2, "interp")]
    assert sorted(found.truth) == sorted(np.concatenate([window.y[window.hidden] for window in windows]))
    assert np.isfinite(found.log_density).all()
    assert (found.low < found.mean).all()
    assert (found.mean < found.high).all()


def test_what_is_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[int] = []
    fit = program.fit
    monkeypatch.setattr(program, "fit", lambda table, seed: (fitted.append(seed), fit(table, seed, max_steps=1))[1])
    words = ["curves", *SHORT, f"--out={tmp_path / 'x.md'}"]
    program.main(words)
    first = (tmp_path / "x.csv").read_text()
    program.main(words)
    assert fitted == [0]
    assert (tmp_path / "x.csv").read_text() == first
    program.main([*words, "--seeds=2"])
    assert fitted == [0, 1]
    found = pd.read_csv(tmp_path / "x.csv")
    assert len(found) == 2 * (len(BASELINES) + 2)
    assert set(found["way"]) == {"forecast", "interp"}


def test_the_best_of_each_table_is_bold(tmp_path: Path) -> None:
    options = program.arguments(["curves", *SHORT])
    lines = [("ridge", -1.0, 0.5), (OURS, 0.5, 0.7)]
    made = [
        {
            "table": "curves",
            "method": name,
            "seed": 0,
            "way": way,
            "ll": ll,
            "rmse": rmse,
            "coverage90": 0.9,
            "seconds": 3.0,
        }
        for way in program.WAYS
        for name, ll, rmse in lines
    ]
    text = report(pd.DataFrame(made), options)
    assert "| ridge | -1.00, **0.500**, 0.90 |" in text
    assert f"| {OURS} | **0.50**, 0.700, 0.90 |" in text


def test_a_file_is_read_by_its_columns_from_a_row(tmp_path: Path) -> None:
    pd.DataFrame({"a": range(200), "b": range(200, 400), "c": "x"}).to_csv(tmp_path / "t.csv", index=False)
    options = program.arguments(["curves", *SHORT])
    table = read_table(f"{tmp_path / 't.csv'}:b,a:20", options)
    assert table.name == "t: b → a"
    assert table.values[0].tolist() == [220, 20]
    assert table.values.shape == (150, 2)
    assert table.train == 100


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["{file}"],
            "a table must be FILE.csv:COLUMN,COLUMN,... or FILE.csv:COLUMN,COLUMN,...:FIRST or rooms or curves",
        ),
        (["{file}:a,b:x"], "a table must be"),
        (["none.csv:a,b"], "there is no file none.csv"),
        (["{file}:a,z"], "has no column z; columns: a, b, c"),
        (["{file}:a,c", "--length=8"], "must have columns of numbers"),
        (["{file}:a,b", "--length=40"], "must have a window of 40 rows in each part, got 200 rows"),
        (["curves", "--test=1"], "test must be above 0 and below 1, got 1"),
        (["curves", "--length=4"], "length must be at least 8, got 4"),
    ],
)
def test_wrong_tables_are_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.csv"
    pd.DataFrame({"a": range(200), "b": range(200), "c": "x"}).to_csv(path, index=False)
    with pytest.raises(SystemExit):
        program.arguments([word.format(file=path) for word in words])
    assert said in " ".join(capsys.readouterr().err.split())
