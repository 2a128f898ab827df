"""Courses of trainings: which histories are runs of one thing, and the figures of several runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from benchmarks.plots import AUC, KINDS, curve, main, markdown, read, summary
from datamodules.tables.real import Folds, load_tables


def history(steps: int = 4, loss: float = 1.0, second: float = 0.5, **columns: Any) -> pd.DataFrame:
    times = second * (1 + np.arange(steps))
    told = {"step": np.arange(steps), "cumulative time": times, "step time": second, "train loss": loss}
    return pd.DataFrame({**told, **columns})


def written(path: Path, frame: pd.DataFrame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    return path


def test_runs_of_one_thing_lie_in_one_folder(tmp_path: Path) -> None:
    folders = ("prior/Local/version_0", "prior/Local/version_1", "prior/Softmax/version_0", "pairs/Softmax/version_0")
    paths = [written(tmp_path / folder / "history.csv", history(2 + index)) for index, folder in enumerate(folders)]
    paths.append(written(tmp_path / "other.csv", history(9)))
    found = {name: [len(frame) for frame in frames] for name, frames in read(paths).items()}
    assert found == {"Local": [2, 3], "prior/Softmax": [4], "pairs/Softmax": [5], "other": [9]}


def test_a_curve_is_the_mean_and_the_deviation_where_all_runs_have_values() -> None:
    places, means, deviations = curve([history(5, loss=1.0), history(9, loss=4.0)], KINDS["loss_step"])
    assert (places[0], places[-1]) == (0, 4)
    assert means == pytest.approx(np.full(len(places), 2.5))
    assert deviations == pytest.approx(np.full(len(places), 3 / np.sqrt(2)))
    _, _, alone = curve([history()], KINDS["loss_step"])
    assert np.isnan(alone).all()


def test_scores_are_joined_over_the_steps_without_one() -> None:
    scored = history(5)
    scored["ROC AUC"] = [0.5, np.nan, np.nan, np.nan, 0.9]
    places, means, _ = curve([scored], KINDS["auc_step"])
    assert means == pytest.approx(0.5 + 0.1 * places)
    assert len(curve([scored, history(5)], KINDS["auc_step"])[0]) == 0


def test_a_summary_averages_over_runs() -> None:
    slow = history(3, second=1.0, **{"current mem MB": [1.0, 2.0, 6.0], "peak mem MB": 8.0})
    slow["step time"] = [0.5, 1.0, 3.0]
    (line,) = summary({"Local": [slow, history(5, second=0.5)]}).to_dict("records")
    assert line["runs"] == 2
    assert line["steps"] == 4
    assert line["training time, s"] == pytest.approx((3.0 + 2.5) / 2)
    assert line["mean step, ms"] == pytest.approx((1500 + 500) / 2)
    assert line["median step, ms"] == pytest.approx((1000 + 500) / 2)
    assert line["mean current memory, MB"] == 3
    assert line["mean peak memory, MB"] == 8


def test_a_table_has_a_cell_for_each_number_and_none_for_what_is_not_there() -> None:
    text = markdown(pd.DataFrame({"name": ["a", "b"], "runs": [2, 1], "time": [12.0, 3.25], "memory": [np.nan, 0.5]}))
    assert text.splitlines() == [
        "| name | runs | time | memory |",
        "| --- | ---: | ---: | ---: |",
        "| a | 2 | 12 |  |",
        "| b | 1 | 3.2 | 0.5 |",
    ]


def test_the_program_draws_and_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "Local/version_0/history.csv", history())
    main([str(path), f"--out={tmp_path / 'plots'}"])
    told = capsys.readouterr()
    assert told.out == (tmp_path / "plots/summary.md").read_text()
    assert told.out.splitlines()[2].startswith("| Local | 1 | 4.0 |")
    assert "auc_step.png is without Local: no values of 'ROC AUC' in every run" in told.err
    assert {file.name for file in (tmp_path / "plots").iterdir()} == {"loss_step.png", "loss_time.png", "summary.md"}


def test_runs_without_a_step_are_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = written(tmp_path / "Local/version_0/history.csv", history(0))
    path = written(tmp_path / "Local/version_1/history.csv", history())
    other = written(tmp_path / "Softmax/version_0/history.csv", history(0))
    main([str(empty), str(path), str(other), f"--out={tmp_path / 'plots'}"])
    told = capsys.readouterr()
    assert told.out.splitlines()[2].startswith("| Local | 1 | 4.0 |")
    assert "Softmax" not in told.out
    assert "Local: 1 of 2 histories without a step left out\nSoftmax: 1 of 1 histories" in told.err
    with pytest.raises(SystemExit, match="2"):
        main([str(empty), f"--out={tmp_path / 'none'}"])
    assert "no history has a step" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_lines_of_classical_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "history.csv", history(4, **{AUC: [0.5, 0.6, 0.7, 0.8]}))
    plain, lined = tmp_path / "plain", tmp_path / "lined"
    main([str(path), f"--out={plain}"])
    main([str(path), f"--out={lined}", "--tables", "sklearn:iris"])
    assert (plain / "loss_step.png").read_bytes() == (lined / "loss_step.png").read_bytes()
    assert (plain / "auc_step.png").read_bytes() != (lined / "auc_step.png").read_bytes()
    text = (lined / "summary.md").read_text()
    iris = load_tables("sklearn:iris", 1000, 0)
    folds = Folds.of(iris, 5, 0).val
    forest = np.concatenate(
        [
            RandomForestClassifier(100, random_state=0)
            .fit(fold.x[0, : fold.context], fold.y[0, : fold.context])
            .predict_proba(fold.x[0, fold.context :])
            for fold in folds
        ]
    )
    truth = np.concatenate([fold.y[0, fold.context :] for fold in folds])
    assert f"ROC AUC of random forest (100): {roc_auc_score(truth, forest, multi_class='ovr'):.4f}" in text
    assert "ROC AUC of decision tree: 0." in text
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main([str(path), f"--out={lined}", "--tables", "none.csv"])
    assert "none.csv" in capsys.readouterr().err


def test_what_is_no_history_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.csv", history().drop(columns="step time"))
    with pytest.raises(SystemExit, match="2"):
        main([str(path), f"--out={tmp_path / 'plots'}"])
    assert f"{path} is no history of a training: it has no column 'step time'" in capsys.readouterr().err
    assert not (tmp_path / "plots").exists()
