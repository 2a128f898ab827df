"""Benchmark of zoos: every kind of work is timed."""

from pathlib import Path

import pytest

from benchmarks.zoo import arguments, main


def test_a_report_of_every_kind_of_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "zoo.md"
    main(["--networks=12", "--steps=10", "--single=2", f"--out={out}"])
    text = out.read_text()
    assert capsys.readouterr().out == text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row[0].strip("| ") for row in rows] == ["generated", "trained one by one", "tokenised", "sensitivities"]
    assert all(float(row[1].replace(",", "")) > 0 for row in rows)


def test_wrong_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--networks=1"])
    assert "networks must be at least 10, got 1" in capsys.readouterr().err
