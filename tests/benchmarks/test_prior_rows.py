"""Comparison of in-context classifiers by number of context rows, on small networks and tables."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import prior_rows
from benchmarks.baselines import LEVELS
from benchmarks.prior_rows import arguments, auc, main, tasks

SMALL = ["--rows", "20", "40", "--easy", "1", "--steps", "2", "--count", "1", "--repeats", "1"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior_rows, "SIZES", {"dim": 8, "heads": 2, "hidden": 8, "layers": 1, "classes": 4})
    monkeypatch.setattr(prior_rows, "TARGETS", 20)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_costs_and_scores_of_each_attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--mechanisms", "Softmax", "Linear", *SMALL, "--tables", "sklearn:iris", "--out", str(tmp_path)]
    main(options)
    found = pd.read_csv(tmp_path / "prior_rows.csv")
    assert list(found["name"]) == [name for name in ("Softmax", "Linear", *LEVELS) for _ in range(2)]
    own = found[found["name"].isin(["Softmax", "Linear"])]
    assert (own[["step_seconds", "prediction_seconds", "step_mib", "prediction_mib"]] > 0).all(axis=None)
    assert (own["step_mib"] > own["prediction_mib"]).all()
    assert found["auc iris"].between(0, 1).all()
    assert found.loc[found["name"] == "random forest (100)", "auc iris"].min() > 0.8
    text = (tmp_path / "prior_rows.md").read_text()
    assert "## ROC AUC, iris" in text
    assert (tmp_path / "prior_rows.png").stat().st_size > 10_000
    with monkeypatch.context() as patch:  # the second time nothing is measured
        patch.setattr(prior_rows, "lines_of", lambda *_: pytest.fail("measured again"))
        main(options)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "prior_rows.csv"), found)
    assert prior_rows.settings(arguments([*options, "--count", "2"])) != prior_rows.settings(arguments(options))
    kept = tmp_path / "Softmax_1_2_0.ckpt"
    written = kept.stat().st_mtime_ns
    main(["--checkpoints", str(kept), *SMALL, "--out", str(tmp_path / "again")])
    assert kept.stat().st_mtime_ns == written
    again = pd.read_csv(tmp_path / "again" / "prior_rows.csv")
    assert again.loc[0, "name"] == "Softmax_1_2_0"
    assert again.loc[0, "auc synthetic"] == pytest.approx(found.loc[0, "auc synthetic"], abs=1e-6)


def test_targets_are_the_same_behind_every_context(tmp_path: Path) -> None:
    (task,) = tasks(arguments([*SMALL, "--out", str(tmp_path)]))
    short, long = task.cut(20), task.cut(40)
    assert short is not None
    assert long is not None
    assert torch.equal(short[0].y[:, 20:], long[0].y[:, 40:])
    assert torch.equal(short[0].y[:, :20], long[0].y[:, :20])
    assert long[0].y[0].tolist() == [*task.y[:40], *task.y[-20:]]
    assert short[0].y.shape == (1, 20 + prior_rows.TARGETS)
    assert task.cut(41) is None


def test_more_classes_than_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="error: digits has 10 classes, the network Softmax 4"):
        main(["--mechanisms", "Softmax", *SMALL, "--tables", "sklearn:digits", "--out", str(tmp_path)])


def test_auc_is_one_against_the_rest_of_the_classes_of_the_table() -> None:
    y = torch.arange(6).numpy() % 2
    probabilities = torch.eye(3)[y].numpy()
    assert auc(y, probabilities, 2) == 1.0
    assert auc(y, 1 - probabilities, 2) == 0.0


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--checkpoints", "none.ckpt"])
    assert "checkpoints: there is no file none.ckpt" in capsys.readouterr().err
    assert arguments(["--checkpoints", "shipped"]).rows == [100, 500, 1000, 5000]


def test_training_tables_are_easy_first_and_then_grow() -> None:
    tables = prior_rows.training_tables(0, 2, 4)
    shapes = [next(tables).x.shape for _ in range(8)]
    assert all(rows <= 70 and features <= 6 for _, rows, features in shapes[:2])
    assert max(rows for _, rows, _ in shapes[5:]) > 70
