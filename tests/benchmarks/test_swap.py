"""Report of the swap tables of the shipped weights."""

import json
from pathlib import Path

import pytest

from benchmarks import swap

FEW = ["--rows", "20", "--rounds=1", "--attention=Scratch,Pooling", "--kinds", "const", "--batches=1"]


def test_it_tells_what_is_lost_and_gained_and_measures_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "swap.md"
    swap.main([*FEW, f"--out={out}"])
    text = out.read_text()
    assert text == capsys.readouterr().out
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| Softmax", "| Scratch"))]
    assert [row[0] for row in rows] == ["| Softmax (trained)", "| Scratch"] * 2
    assert [float(row[2]) for row in rows if row[2]] == [0.0, 0.0]
    assert text.count("- Pooling: needs training, of memory_keys, memory_values") == 2
    assert "### 20 context rows" in text
    assert "The exact oracle has" in text
    assert (tmp_path / "swap.csv").read_text().count("\n") == 4
    assert (tmp_path / "swap.png").read_bytes().startswith(b"\x89PNG")
    kept = tmp_path / "swap" / "shipped" / "swap.json"
    table = json.loads(kept.read_text())
    table["rows"][1]["score"] = 0.1234
    kept.write_text(json.dumps(table))
    swap.main([*FEW, f"--out={out}"])
    assert "| 0.1234 |" in out.read_text()
