"""Command that writes dumps: files, messages and exit statuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.prior.dump import __main__ as dump
from datamodules.prior.dump.jobs import Job
from datamodules.prior.dump.read import Dump


def run(*arguments: str) -> int:
    return dump.main(list(arguments))


def test_the_command_cuts_a_table_into_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ("--source", "sklearn:iris", "--tasks", "10", "--rows", "24", "--context", "15", "--features", "3")
    assert run(*common, "--out", f"{tmp_path}/iris.h5", "--seed", "5") == 0
    train, test = Dump(tmp_path / "iris_train.h5"), Dump(tmp_path / "iris_test.h5")
    assert (len(train), len(test)) == (7, 3)
    batch = train.read(np.arange(7))
    assert (batch.x.shape, batch.context) == ((7, 24, 3), 15)
    facts = {name: json.loads(train.attributes[name]) for name in ("provenance", "arguments", "versions")}
    assert facts["provenance"]["source"] == "sklearn:iris"
    assert len(facts["provenance"]["sha256"]) == 64
    assert facts["arguments"]["rows"] == 24
    assert {"tabattn", "torch", "h5py"} <= set(facts["versions"])
    assert (train.attributes["prior"], train.attributes["seed"]) == ("table", 5)
    output = capsys.readouterr()
    assert "7/7" in output.err
    assert f"{tmp_path}/iris_test.h5: 3 tasks, sha256 {test.attributes['sha256']}" in output.out
    assert run(*common, "--out", f"{tmp_path}/one.h5", "--seed", "5", "--split", "test") == 0
    assert torch.equal(Dump(tmp_path / "one.h5").read(np.arange(3)).x, test.read(np.arange(3)).x)
    assert run("--check", f"{tmp_path}/one.h5") == 0


def test_the_command_writes_the_synthetic_prior(tmp_path: Path) -> None:
    common = ("--prior", "scm", "--tasks", "6", "--batch-size", "3", "--rows", "20", "30", "--features", "2", "4")
    assert run(*common, "--classes", "2", "3", "--context", "0.5", "--out", f"{tmp_path}/scm.h5") == 0
    dumped = Dump(tmp_path / "scm.h5")
    assert len(dumped) == 6
    assert ((dumped.sizes.rows >= 20) & (dumped.sizes.rows <= 30)).all()
    assert (dumped.sizes.context == np.round(dumped.sizes.rows / 2)).all()
    assert dumped.attributes["prior"] == "scm"
    dumped.verify()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--source", "sklearn:iris", "--rows", "20", "30"],
            "--rows of tasks cut from a table must be one whole number, got 20 30",
        ),
        (["--source", "sklearn:iris", "--classes", "2"], "--classes goes with --prior only"),
        (["--source", "sklearn:iris", "--rows", "500"], "rows must be at most the 105 of this part of iris, got 500"),
        (
            ["--source", "sklearn:iris", "--rows", "40", "--context", "20", "--tasks", "1"],
            "tasks of the test part must be at least 1, got 0",
        ),
        (["--prior", "scm", "--target", "x"], "--target goes with --source only"),
        (["--prior", "scm", "--kind", "mlp_scm"], "--kind goes with --prior tabicl only"),
        (["--prior", "scm", "--rows", "9", "5"], "rows must be two numbers, 4 <= fewest <= most, got [9, 5]"),
        (
            ["--prior", "scm", "--rows", "9", "20", "--context", "5"],
            "--context must be one share or two, or a number of equal --rows, got 5",
        ),
    ],
)
def test_wrong_arguments_end_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(*arguments, "--out", f"{tmp_path}/a.h5") == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_read_ends_with_status_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.h5").write_bytes(b"text")
    assert run("--check", f"{tmp_path}/a.h5") == 3
    assert capsys.readouterr().err == f"error: {tmp_path}/a.h5 cannot be read: it is not an HDF5 file\n"


def test_an_interrupt_ends_with_status_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "write", interrupted)
    assert run("--prior", "scm", "--out", f"{tmp_path}/a.h5") == 130


def test_the_help_explains_every_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run("--help")
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert "python -m datamodules.dump --source openml:179" in text
    assert "Exit status" in text
