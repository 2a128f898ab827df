"""Swap tables by the command line: of the task's own test, and by number of context rows."""

import csv
import json
from pathlib import Path

import pytest

from tabattn.compare.command import main as compare
from tabattn.compare.swap.command import main
from tabattn.prior.weights import packaged_path

FEW = ["--count=1", "--features=3", "--targets=20", "--rounds=2"]


def measured(folder: Path, *words: str) -> dict[str, dict[str, object]]:
    """Rows of a swap table by label; the program must succeed."""
    assert main([*words, f"--out={folder}"]) == 0
    found = json.loads((folder / "swap.json").read_text())
    return {row["label"]: row for row in found["rows"]}


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which the program refuses."""
    assert main(list(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_equal_mechanisms_lose_nothing_by_context_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attention = "Scratch,Local:window=64,Local:window=4,TopK:keep=64,Pooling"
    rows = measured(tmp_path, "shipped", "--rows", "40", *FEW, "--attention", attention)
    assert list(rows) == ["Softmax", "Scratch", "Local:window=64", "Local:window=4", "TopK:keep=64", "Pooling"]
    for label in ("Scratch", "Local:window=64", "TopK:keep=64"):
        assert rows[label]["lost"] == pytest.approx(0.0, abs=1e-9)
        assert rows[label]["largest"] == pytest.approx(0.0, abs=1e-5)
        assert rows[label]["decisions"] == 1.0
    assert float(str(rows["Local:window=4"]["largest"])) > 1e-3
    assert rows["Pooling"]["score"] is None
    assert rows["Pooling"]["reason"] == "needs training, of memory_keys, memory_values"
    assert rows["Softmax"]["faster"] == 1.0
    assert all(rows[label]["rounds"] == 2 for label in rows if label != "Pooling")
    out = capsys.readouterr().out
    assert "40 context rows" in out
    assert "Softmax (trained)" in out
    assert "Pooling: needs training" in out


def test_it_writes_csv_a_picture_and_a_page(tmp_path: Path) -> None:
    rows = measured(
        tmp_path, "shipped", "--rows", "20", "30", *FEW, "--attention", "Linear", "--tables", "sklearn:iris"
    )
    assert set(rows) == {"Softmax", "Linear"}
    lines = list(csv.DictReader((tmp_path / "swap.csv").read_text().splitlines()))
    assert [(line["label"], line["context"]) for line in lines] == [
        ("Softmax", "20"),
        ("Linear", "20"),
        ("Softmax", "30"),
        ("Linear", "30"),
    ]
    assert float(lines[1]["auroc"]) == pytest.approx(
        (float(lines[1]["synthetic 0/auroc"]) + float(lines[1]["iris/auroc"])) / 2
    )
    assert float(lines[1]["lost"]) == pytest.approx(float(lines[0]["score"]) - float(lines[1]["score"]))
    assert float(lines[1]["faster"]) == pytest.approx(float(lines[0]["seconds"]) / float(lines[1]["seconds"]))
    assert (tmp_path / "swap.png").read_bytes().startswith(b"\x89PNG")
    assert "30 context rows" in (tmp_path / "report.html").read_text()


def test_untrained_mechanisms_where_they_are_wanted(tmp_path: Path) -> None:
    words = ["--rows", "20", *FEW, "--attention", "Inducing:points=3", "--untrained"]
    row = measured(tmp_path, "shipped", *words)["Inducing:points=3"]
    assert row["score"] is not None
    assert row["reason"] == "needs training, of inducing"


@pytest.mark.parametrize("words", [["--swap", "shipped"], ["--swap=shipped"]])
def test_it_is_an_option_of_comparisons(tmp_path: Path, words: list[str]) -> None:
    assert compare(["--rows", "20", *words, *FEW, "--attention", "Scratch", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "swap.json").is_file()


def test_attention_between_columns(tmp_path: Path) -> None:
    words = ["--rows", "20", *FEW, "--attention", "Scratch,Local:window=1", "--where", "columns"]
    rows = measured(tmp_path, "shipped", *words)
    assert rows["Scratch"]["largest"] == pytest.approx(0.0, abs=1e-5)
    assert float(str(rows["Local:window=1"]["largest"])) > 1e-3
    assert json.loads((tmp_path / "swap.json").read_text())["where"] == ["feature_attention"]


def test_what_would_take_too_long_is_left_out(tmp_path: Path) -> None:
    words = ["--rows", "20", "60", *FEW, "--attention", "Scratch", "--longest", "1e-9"]
    measured(tmp_path, "shipped", *words)
    rows = json.loads((tmp_path / "swap.json").read_text())["rows"]
    assert [(row["label"], row["context"], row["score"] is None) for row in rows] == [
        ("Softmax", 20, False),
        ("Scratch", 20, False),
        ("Softmax", 60, False),
        ("Scratch", 60, True),
    ]
    assert rows[-1]["reason"].endswith(" s (--longest 1e-09)")


def test_test_of_pairs(tmp_path: Path, pairs_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = measured(tmp_path, str(pairs_checkpoint), "--attention", "Scratch,Inducing,Linear", "--rounds=2")
    assert rows["Scratch"]["lost"] == pytest.approx(0.0, abs=1e-4)
    assert rows["Scratch"]["decisions"] is None
    assert rows["Linear"]["lost"] is not None
    assert rows["Inducing"]["score"] is None
    table = json.loads((tmp_path / "swap.json").read_text())
    assert (table["metric"], table["mode"], table["task"]) == ("test/ll", "max", "PairInference")
    assert "test/ll of the exact oracle" in capsys.readouterr().out


def test_test_of_reconstruction(tmp_path: Path, cells_checkpoint: Path) -> None:
    words = ["--attention", "Scratch,Local:window=4", "--where", "both", "--rounds=1", "--metric=test/loss"]
    rows = measured(tmp_path, str(cells_checkpoint), *words)
    assert rows["Scratch"]["lost"] == pytest.approx(0.0, abs=1e-4)
    table = json.loads((tmp_path / "swap.json").read_text())
    assert table["mode"] == "min"
    assert table["where"] == ["attention", "attribute_attention"]


def test_flags_change_the_test(tmp_path: Path, pairs_checkpoint: Path) -> None:
    words = [str(pairs_checkpoint), "--attention", "Scratch", "--rounds=1", "--where=rows", "--threads=1"]
    one = measured(tmp_path, *words)["Softmax"]["score"]
    assert measured(tmp_path, *words)["Softmax"]["score"] == one
    assert measured(tmp_path, *words, "--data.seed=7")["Softmax"]["score"] != one


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "error: the checkpoint must be a file (.ckpt, .safetensors) or one of shipped, const, "),
        (["no.ckpt"], "error: there is no file no.ckpt"),
        (["no.safetensors"], "error: there is no file no.safetensors"),
        (["shipped", "--attention", "Locl"], "error: --attention must be one of Softmax, Scratch, "),
        (["shipped", "--attention", "Local:windo=3"], "error: Local has no setting 'windo' (did you mean 'window'?)"),
        (["shipped", "--attention", "Local:window=0"], "error: --attention Local:window=0: window must be at least 1"),
        (["shipped", "--attention", "Softmax"], "prior.safetensors was trained with Softmax: nothing to swap"),
        (["shipped", "--rows", "3"], "error: --rows must be at least 10, got 3"),
        (["shipped", "--rows", "200", "--count=0", "--tables=sklearn:iris"], "iris has 150"),
        (["shipped", "--rows", "20", "--count=0"], "error: --count 0 needs --tables to score on"),
        (["shipped", "--rows", "1790", "--count=0", "--tables=sklearn:digits"], "digits has 1797"),
        (["shipped", "--rows", "20", "--data.seed=1"], "error: --rows takes no flags of the test, got --data.seed=1"),
        (["shipped", "--fast=1"], "error: unrecognized argument --fast=1"),
        (["shipped", "--rows=many"], "error: argument --rows: invalid int value: 'many'"),
        ([], "error: the following arguments are required: CHECKPOINT"),
        (["shipped", "--rounds=0"], "error: --rounds must be at least 1, got 0"),
        (["shipped", "--longest=0"], "error: --longest must be above 0, got 0"),
        (["const", "--rows", "20"], "error: --rows is of in-context classifiers, "),
        (["const", "--where=columns"], "error: PairInference has no attention between columns: --where rows"),
        (["const", "--config=prior"], "the configuration of PriorClassification"),
    ],
)
def test_refusals_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert message in refused(capsys, *words, f"--out={tmp_path}")


def test_a_metric_that_is_not_logged(
    tmp_path: Path, pairs_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(pairs_checkpoint), "--attention=Scratch", "--rounds=1", "--metric=test/lll", f"--out={tmp_path}"]
    assert main(words) == 2
    assert "error: --metric must be one of " in (line := capsys.readouterr().err.splitlines()[-1])
    assert line.endswith("got 'test/lll' (did you mean 'test/ll'?)")


def test_a_checkpoint_without_a_configuration(
    tmp_path: Path, pairs_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone.ckpt"
    alone.write_bytes(pairs_checkpoint.read_bytes())
    assert refused(capsys, str(alone)).startswith("error: --config is needed: there is no ")


def test_weights_of_a_regressor_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(packaged_path("regression"))
    assert refused(capsys, path, "--rows", "40").endswith("must hold a network that predicts classes, this one numbers")
