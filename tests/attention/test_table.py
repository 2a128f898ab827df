import subprocess
import sys

import pytest

from tabattn.attention import MECHANISMS, Softmax
from tabattn.attention.__main__ import main, table


def test_table_has_a_full_row_for_each_mechanism():
    lines = table().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines[2:]]
    assert [row[0] for row in rows] == [f"`{name}`" for name in MECHANISMS]
    assert all(cell.strip() for row in rows for cell in (*row[:4], row[-1]))
    assert len({line.count(" | ") for line in lines if "---" not in line}) == 1
    assert "`window=8`, `dropout=0.0`" in table()


def test_table_is_written_by_the_module():
    done = subprocess.run([sys.executable, "-m", "tabattn.attention"], capture_output=True, text=True, check=True)
    assert done.stdout == table()


def test_table_is_written_between_its_marks(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- mechanisms -->\nold\n<!-- end of mechanisms -->\nafter\n")
    main([str(page)])
    assert page.read_text() == f"before\n<!-- mechanisms -->\n{table()}<!-- end of mechanisms -->\nafter\n"
    page.write_text("no marks")
    for name, said in ((page, "has no lines"), (tmp_path / "none.md", "there is no file")):
        with pytest.raises(SystemExit, match="2"):
            main([str(name)])
        assert said in capsys.readouterr().err
    assert page.read_text() == "no marks"


def test_docstring_without_its_facts_is_named(monkeypatch):
    class Silent(Softmax):
        """Says nothing about itself."""

    monkeypatch.setitem(MECHANISMS, "Silent", Silent)
    with pytest.raises(ValueError, match="docstring of Silent must have a line for each of Cost, Exactness, Source"):
        table()
