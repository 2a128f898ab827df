"""The benchmark of the KV cache compares two ways that give one answer."""

from pathlib import Path

import pytest

from benchmarks.predict_cache import arguments, main


def test_report_is_written_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "cache.md"
    main(["--contexts", "12", "--targets", "1", "5", "--features", "3", "--repeats", "1", "--out", str(out)])
    text = out.read_text()
    assert capsys.readouterr().out == text
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| 12")]
    assert [row[1].strip() for row in rows] == ["1", "5"]
    assert all(float(row[5]) < 1e-5 for row in rows)


@pytest.mark.parametrize("wrong", [["--repeats", "0"], ["--targets", "0"], ["--classes", "1"]])
def test_mistakes_are_said(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(wrong)
    assert f"{wrong[0][2:]} must be" in capsys.readouterr().err
