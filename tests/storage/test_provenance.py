"""Provenance: versions, state of the source code, and fingerprint of the data."""

import hashlib
import subprocess
from pathlib import Path

import pytest
import torch

from tabattn.storage import provenance
from tabattn.storage.provenance import code_version, data_files, data_fingerprint, git_state, versions


def test_versions_are_those_in_use() -> None:
    found = versions()
    assert found["torch"] == torch.__version__
    assert "scikit-learn" in found


def test_a_fingerprint_is_of_the_configuration_and_of_the_bytes_of_its_files(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    arguments = {"table": f"{table}:b", "rows": [1, 2], "none": None}
    data = {"class_path": "datamodules.TableCells", "init_args": arguments}
    first = data_fingerprint(data)
    assert len(first) == 16
    assert data_fingerprint(data) == first
    assert data_files(data) == {str(table): hashlib.sha256(table.read_bytes()).hexdigest()}
    assert data_fingerprint({**data, "init_args": {**arguments, "rows": [1, 3]}}) != first
    table.write_text("a,b\n1,3\n")
    assert data_fingerprint(data) != first


def test_a_folder_stands_for_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a.csv").write_text("1")
    first = data_fingerprint([folder])
    (folder / "inner" / "a.csv").rename(folder / "inner" / "b.csv")
    second = data_fingerprint([folder])
    (folder / "c.csv").write_text("")
    assert len({first, second, data_fingerprint([folder])}) == 3


def test_names_that_are_no_files_count_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iris").write_text("1")
    assert data_files(["sklearn:wine", "x" * 5000, "a\0b", ".", 3, None, {"a": ("..",)}]) == {}
    assert list(data_files("sklearn:iris")) == ["iris"]


def test_of_a_large_file_both_ends_and_the_size_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "WHOLE", 10)
    monkeypatch.setattr(provenance, "CHUNK", 4)
    path = tmp_path / "large"
    found = []
    for content in ("0123456789ab", "0123..6789ab", "x123456789ab", "0123456789ax", "0123456789.89ab"):
        path.write_text(content)
        found.append(data_fingerprint(str(path)))
    assert found[0] == found[1]
    assert len(set(found)) == 4


def test_the_code_version_is_of_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in provenance.PACKAGES:
        (tmp_path / package).mkdir()
    source = tmp_path / "tabattn" / "a.py"
    source.write_text("x = 1\n")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    first = code_version()
    (tmp_path / "tabattn" / "notes.txt").write_text("x")
    assert code_version() == first
    source.write_text("x = 2\n")
    assert code_version() != first


def test_the_state_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert git_state() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    (tmp_path / "a.py").write_text("1")
    for words in (["init", "-q"], ["add", "a.py"], ["commit", "-qm", "a"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    state = git_state()
    assert state is not None
    assert len(state["commit"]) == 40
    assert state["changed"] is False
    (tmp_path / "a.py").write_text("2")
    assert (git_state() or {})["changed"] is True
