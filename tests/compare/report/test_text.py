"""Table, conclusions, CSV and JSON of comparisons."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from tabattn.compare.report import write
from tabattn.compare.report.__main__ import main
from tabattn.compare.report.files import as_csv, as_json
from tabattn.compare.report.frame import read
from tabattn.compare.report.lines import groups
from tabattn.compare.report.sets import sets_of
from tabattn.compare.report.text import as_text
from tests.compare.folders import CPU, edit, fail, make, put, rescore

OTHER = {"cpu": "Intel Xeon 8481C", "gpu": "NVIDIA H100", "cores": 16, "threads": 4, "host": "there"}


def text_of(folder: Path, width: int = 300) -> str:
    comparison = read(folder)
    return as_text(comparison, groups(comparison), width)


def lines_of(text: str) -> dict[str, list[str]]:
    """Cells of the rows of a table that is not broken, by their first cell."""
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows if len(row) > 1}


def results_of(folder: Path) -> dict[str, Any]:
    comparison = read(folder)
    found = groups(comparison)
    told: dict[str, Any] = json.loads(as_json(comparison, found, [sets_of(comparison, group) for group in found]))
    return told


def small(folder: Path, scores: dict[str, list[float]], **options: Any) -> Path:
    """A comparison with given scores of seeds."""
    seeds = len(next(iter(scores.values())))
    make(folder, tuple(scores), seeds, sets=0, curves=False, maps=False, **options)
    for at, values in enumerate(scores.values()):
        for seed, value in enumerate(values):
            rescore(folder, f"{at:02d}{seed:02d}", value)
    return folder


def test_row_of_each_attention(tmp_path: Path) -> None:
    folder = small(tmp_path, {"Softmax": [0.80, 0.82, 0.84], "Local(window=8)": [0.81, 0.84, 0.84]})
    rows = lines_of(text_of(folder))
    assert rows["attention"][:2] == ["test/auroc", "difference to Softmax"]
    head = rows["attention"][2:]
    assert head[:5] == ["seeds", "step, ms", "range", "speed-up", "attention, %"]
    assert head[5:] == ["memory, MB", "parameters", "steps"]
    # Standard errors: .02 / sqrt(3), .01 / sqrt(3) and .01 / sqrt(3).
    assert rows["Softmax"][:3] == ["0.8200 ± 0.0115", "-", "3"]
    assert rows["Local(window=8)"][:3] == ["0.8300 ± 0.0100", "+0.0100 ± 0.0058", "3"]
    assert rows["Local(window=8)"][3:] == ["32.0", "31.0 to 34.0", "1.25x", "25", "310", "251,001", "500"]


def test_conclusions(tmp_path: Path) -> None:
    scores = {
        "Softmax": [0.900, 0.902, 0.905],
        "Local(window=8)": [0.901, 0.901, 0.906],
        "Linear": [0.80, 0.802, 0.804],
    }
    text = text_of(small(tmp_path, scores))
    assert "Best quality: Local(window=8) (0.9027" in text
    assert "Not distinguishable from it with these seeds: Softmax." in text
    assert "Distinguishably worse: Linear." in text
    assert (
        "Fastest within the noise of the best: Local(window=8) (32.0 ms a step, 1.25 times as fast as Softmax)." in text
    )
    assert "With 3 seeds, one difference is significant at 5 % where it exceeds 4.3 standard errors" in text
    assert "Attention is 30% of a step of Softmax: no other can make the step more than 1.43 times" in text


@pytest.mark.parametrize("fresh", [True, False])
def test_what_a_seed_varies(tmp_path: Path, fresh: bool) -> None:
    folder = small(tmp_path, {"Softmax": [0.3, 0.3], "Linear": [0.5, 0.5]})
    edit(folder / "comparison.json", fresh=fresh)
    text = " ".join(text_of(folder).split())
    assert ("A seed sets the initial weights and the training batches: other data" in text) is fresh
    assert ("A seed sets the initial weights alone" in text) is not fresh


def test_lower_is_better(tmp_path: Path) -> None:
    folder = small(tmp_path, {"Softmax": [0.3, 0.3], "Linear": [0.5, 0.5]}, metric="test/loss", mode="min")
    text = text_of(folder)
    assert "best test/loss (lower is better)" in text
    put(folder / "baselines.json", {"rows": [{"name": "mean", "scores": {"test/loss": 0.2}}]})
    assert "mean (0.2000), is better than every attention here." in text_of(folder)
    assert "Best quality: Softmax" in text
    assert lines_of(text)["Linear"][1] == "+0.2000 ± 0.0000"


def test_reference_is_softmax_or_the_first(tmp_path: Path) -> None:
    folder = small(tmp_path / "a", {"Linear": [0.7, 0.7], "Softmax": [0.8, 0.8]})
    assert "difference to Softmax" in text_of(folder)
    folder = small(tmp_path / "b", {"Linear": [0.7, 0.7], "Entmax": [0.8, 0.8]})
    assert "difference to Linear" in text_of(folder)


def test_one_seed(tmp_path: Path) -> None:
    text = text_of(small(tmp_path, {"Softmax": [0.8], "Linear": [0.9]}))
    assert "Best quality: Linear (0.9000 over one seed)." in text
    assert "With one seed, no difference can be told from chance." in text
    assert "One seed says nothing about chance" in text
    assert "worse" not in text
    assert "±" not in text


def test_one_attention(tmp_path: Path) -> None:
    text = text_of(small(tmp_path, {"Softmax": [0.8, 0.9]}))
    assert "Best quality: Softmax (0.850 ± 0.050 over 2 seeds)." in text
    assert "istinguishabl" not in text
    assert "difference" not in text


def test_failures_are_shown_and_are_not_the_best(tmp_path: Path) -> None:
    folder = small(tmp_path, {"Softmax": [0.8, 0.81], "Linear": [0.9, 0.91]})
    fail(folder, "0101", "RuntimeError: first reason")
    fail(folder, "0101", "RuntimeError: out of memory", attempt=10)
    fail(folder, "0101", "RuntimeError: second reason", attempt=2)
    text = text_of(folder)
    assert "Failed: Linear, seed 1: RuntimeError: out of memory" in text
    assert "1 of 4 cells failed" in text
    assert lines_of(text)["Linear"][:3] == ["0.9000", "+0.1000", "1 of 2"]
    assert "Best quality: Softmax" in text
    rows = list(csv.DictReader(as_csv(read(folder)).splitlines()))
    assert rows[3]["status"] == "failed"
    assert rows[3]["reason"] == "RuntimeError: out of memory"


def test_nan_scores_are_failures(tmp_path: Path) -> None:
    folder = small(tmp_path, {"Softmax": [0.8, 0.81], "Linear": [0.9, math.nan], "Entmax": [math.nan, math.nan]})
    text = text_of(folder)
    assert "Failed: Linear, seed 1: test/auroc is nan" in text
    assert lines_of(text)["Entmax"][0] == "failed"
    assert "Best quality: Softmax" in text
    found = results_of(folder)["results"]["attentions"][0]
    assert found[2]["quality"] == {"mean": None, "standard_error": None, "seeds": 0}


def test_failed_attentions_are_best_only_where_all_failed(tmp_path: Path) -> None:
    folder = small(tmp_path, {"Softmax": [0.8, math.nan], "Linear": [0.9, math.nan]})
    assert "Best quality: Linear (0.9000 over one seed)." in text_of(folder)


def test_waiting_cells(tmp_path: Path) -> None:
    folder = small(tmp_path, {"Softmax": [0.8, 0.81], "Linear": [0.9, 0.91]})
    (folder / "cells" / "0101" / "result.json").unlink()
    text = text_of(folder)
    assert "1 of 4 cells are not done: this table is preliminary." in text
    assert "failed" not in text
    rows = csv.DictReader(as_csv(read(folder)).splitlines())
    assert [row["status"] for row in rows] == ["done", "done", "done", "waiting"]
    for cell in (folder / "cells").iterdir():
        (cell / "result.json").unlink(missing_ok=True)
    text = text_of(folder)
    assert "No cell is done yet." in text
    assert "No cell has a score yet." in text


def test_machines_are_kept_apart(tmp_path: Path) -> None:
    scores = {"Softmax": [0.8, 0.1, 0.82, 0.1], "Linear": [0.7, 0.9, 0.72, 0.9]}
    text = text_of(small(tmp_path, scores, machines=(CPU, OTHER)))
    assert "Rows of different machines are not compared" in text
    first, second = text.split("Machine: ")[1:]
    assert first.startswith("AMD EPYC 7B13, 1 thread\n")
    assert second.startswith("NVIDIA H100, Intel Xeon 8481C, 4 threads\n")
    assert lines_of(first)["Softmax"][0] == "0.8100 ± 0.0100"
    assert "Best quality: Softmax" in first
    assert "Best quality: Linear (0.9000 ± 0.0000 over 2 seeds)" in second
    # The steps were measured on the first machine alone.
    assert "speed-up" in first
    assert "speed-up" not in second


def test_steps_of_another_gpu_are_not_shown(tmp_path: Path) -> None:
    folder = small(tmp_path, {"Softmax": [0.8, 0.1]})
    assert "speed-up" in text_of(folder)
    edit(folder / "timing.json", machine={**CPU, "threads": 2})
    assert "speed-up" in text_of(folder)
    for name in ("gpu", "cpu"):
        edit(folder / "timing.json", machine={**CPU, name: "another"})
        assert "speed-up" not in text_of(folder)


def test_differences_have_digits_of_their_own(tmp_path: Path) -> None:
    folder = small(tmp_path, {"Softmax": [1.2, 1.8], "Linear": [1.2003, 1.8001]})
    assert lines_of(text_of(folder))["Linear"][:2] == ["1.50 ± 0.30", "+0.00020 ± 0.00010"]


def test_threads_are_part_of_the_machine(tmp_path: Path) -> None:
    text = text_of(small(tmp_path, {"Softmax": [0.8, 0.1]}, machines=(CPU, {**CPU, "threads": 2})))
    assert "AMD EPYC 7B13, 2 threads" in text


def test_baselines_and_oracle(tmp_path: Path) -> None:
    folder = small(tmp_path, {"Softmax": [0.8, 0.82], "Linear": [0.7, 0.72]})
    rows = [
        {"name": "majority", "scores": {"test/auroc": 0.5}},
        {"name": "random forest", "scores": {"test/auroc": 0.9}},
        {"name": "ridge", "scores": {}, "reason": "ValueError: no cells"},
        {"name": "process", "kind": "oracle", "scores": {"test/auroc": 0.95}},
        {"name": "of another metric", "scores": {"test/loss": 0.95}},
    ]
    put(folder / "baselines.json", {"rows": rows})
    text = text_of(folder)
    shown = lines_of(text)
    assert shown["baseline: random forest"][0] == "0.9000"
    assert shown["baseline: ridge"][0] == "failed"
    assert shown["oracle: process"][0] == "0.9500"
    assert "Failed: ridge: ValueError: no cells" in text
    assert "another" not in text
    assert "The best simple baseline, random forest (0.9000), is better than every attention here." in text
    assert "The exact oracle reaches 0.9500: the best attention is 0.140 from it." in text
    put(folder / "baselines.json", {"rows": rows[:1]})
    assert "majority (0.5000), is worse than the best attention." in text_of(folder)


def test_narrow_terminals_lose_nothing(tmp_path: Path) -> None:
    folder = make(tmp_path)
    wide, narrow = text_of(folder, 300), text_of(folder, 72)
    assert max(map(len, narrow.splitlines())) <= 72
    assert set(wide.split()) - set(narrow.split()) <= {line for line in wide.split() if set(line) == {"-"}}


def test_resumed_comparisons_have_equal_reports(tmp_path: Path) -> None:
    for name, attempt in (("a", 1), ("b", 3)):
        make(tmp_path / name, attempt=attempt)
    cell = tmp_path / "b" / "cells" / "0001" / "result.json"
    edit(cell, train_seconds=99.0, peak_memory_mb=1.0)
    edit(tmp_path / "b" / "timing.json", rows=[])
    assert results_of(tmp_path / "a")["results"] == results_of(tmp_path / "b")["results"]
    assert "0.9100 ± 0.0007" in text_of(tmp_path / "b")


def test_elo_and_win_rates(tmp_path: Path) -> None:
    board = results_of(make(tmp_path))["results"]["sets"][0]["board"]
    assert board[0]["label"] == "Entmax"
    assert board[-1]["label"] == "Linear"
    for row in board:
        for value, low, high in (row["elo"], row["win_rate"], row["rank"]):
            assert low <= value <= high
        assert row["win_rate"][0] == pytest.approx((4 - row["rank"][0]) / 3)
    assert sum(row["elo"][0] for row in board) / 4 == pytest.approx(1000)
    assert results_of(tmp_path)["results"]["sets"][0]["ranking"]["ranks"] == {
        row["label"]: row["rank"][0] for row in sorted(board, key=lambda row: row["label"] != "Softmax")
    }


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("comparison.json", None, "is not the folder of a comparison"),
        ("comparison.json", "{", "comparison.json is damaged"),
        ("comparison.json", "[]", "holds a list"),
        ("comparison.json", '{"cells": []}', "names no cells"),
        ("comparison.json", '{"cells": ["none"]}', "neither cell.json nor result.json"),
        ("timing.json", "{]", "timing.json is damaged"),
    ],
)
def test_damaged_folders(
    tmp_path: Path, name: str, content: str | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, curves=False, maps=False)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert words in capsys.readouterr().err


def test_results_with_different_metrics_or_modes_are_refused(tmp_path: Path) -> None:
    folder = small(tmp_path, {"Softmax": [0.8, 0.9]})
    edit(folder / "cells" / "0001" / "result.json", metric="test/loss")
    with pytest.raises(ValueError, match="one metric, got test/auroc, test/loss"):
        write(folder)
    edit(folder / "comparison.json", metric="test/auroc", mode="most")
    with pytest.raises(ValueError, match="must be max or min, got most"):
        write(folder)


def test_another_metric(tmp_path: Path) -> None:
    folder = make(tmp_path, ("Softmax", "Linear"), sets=2, curves=False, maps=False)
    for path in folder.glob("cells/*/result.json"):
        scores = json.loads(path.read_text())["scores"]
        edit(path, scores={**scores, "test/iris/log_loss": 0.5, "test/iris/auroc": 0.9, "test/log_loss_far": 9.0})
    assert list(results_of(folder)["results"]["sets"][0]["scores"]["Linear"]) == ["set 0", "set 1", "iris"]
    edit(folder / "comparison.json", metric="test/log_loss", mode="min")
    found = results_of(folder)["results"]
    assert (found["metric"], found["mode"], found["best"]) == ("test/log_loss", "min", ["Softmax"])
    assert found["attentions"][0][0]["quality"]["mean"] == pytest.approx(0.09, abs=0.01)
    assert found["sets"][0]["scores"]["Linear"] == {"iris": {"mean": 0.5, "error": 0.0, "seeds": 3}}
    edit(folder / "comparison.json", metric="test/none", mode="min")
    assert "Failed: Softmax, seed 0: test/none is nan" in text_of(folder)


def test_refused_cells_are_failures(tmp_path: Path) -> None:
    folder = small(tmp_path, {"Softmax": [0.8], "Linear": [0.9]})
    (folder / "cells" / "0100" / "result.json").unlink()
    edit(folder / "cells" / "0100" / "cell.json", refusal="window must be at least 1, got 0")
    assert "Failed: Linear, seed 0: window must be at least 1, got 0" in text_of(folder)


def test_steps_that_could_not_be_measured(tmp_path: Path) -> None:
    folder = small(tmp_path, {"Softmax": [0.8, 0.84], "Linear": [0.81, 0.86]})
    rows = json.loads((folder / "timing.json").read_text())["rows"]
    rows[1] = {"attention": "Linear", "step_ms": None, "reason": "out of memory"}
    edit(folder / "timing.json", rows=rows)
    text = text_of(folder)
    assert "Not timed: Linear: out of memory" in text
    assert lines_of(text)["Linear"][3:6] == ["-", "-", "-"]
    assert "Best quality: Linear" in text
    # Softmax may be as good, and it is not known which of the two is faster.
    assert "Fastest" not in text


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path)
    main([str(tmp_path)])
    out = capsys.readouterr().out
    assert "Best quality: Entmax" in out
    shutil.rmtree(tmp_path / "cells" / "0000")
    with pytest.raises(SystemExit):
        main([str(tmp_path)])


def test_another_argument_is_called_by_its_name(tmp_path: Path) -> None:
    folder = small(tmp_path, {"kmeans": [0.80, 0.82], "fixed": [0.81, 0.84]}, task="sparsity")
    assert "Which attention gives the best test/auroc" in text_of(folder)
    edit(folder / "comparison.json", settings={"vary": "model.graph.grouping", "seeds": 2})
    text = text_of(folder)
    assert "Which grouping gives the best test/auroc" in text
    assert lines_of(text)["grouping"][0] == "test/auroc"
    assert "best attention" not in text
    write(folder)
    assert "<h1>Comparison of grouping: sparsity</h1>" in (folder / "report.html").read_text()
