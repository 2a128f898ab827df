"""Atomic folders: whole, or not there."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tabattn.storage.files import FRESH
from tabattn.storage.folders import new_folder

ROOT = Path(__file__).parents[2]
KILLED = """
import os, sys
from tabattn.storage.folders import new_folder
with new_folder(sys.argv[1]) as draft:
    (draft / "part").write_text("half")
    os._exit(9)
"""


def test_a_folder_gets_its_name_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "parent" / "made"
    with new_folder(target) as draft:
        (draft / "file").write_text("whole")
        assert draft.parent == target.parent
        assert not target.exists()
    assert (target / "file").read_text() == "whole"
    assert stat.S_IMODE(target.stat().st_mode) == 0o777 & ~_umask()
    assert list(target.parent.iterdir()) == [target]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "made") as draft:
        (draft / "no" / "file").write_text("half")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_another_process_stays(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with new_folder(target) as draft:
        (draft / "file").write_text("second")
        with new_folder(target) as other:
            (other / "file").write_text("first")
    assert (target / "file").read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    """Unless it is so new that its writer may not have locked it yet."""
    target = tmp_path / "made"
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], cwd=ROOT, check=False)
    assert done.returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".made.")
    for age, remains in ((0.0, True), (2 * FRESH, False)):
        os.utime(left, (time.time() - age,) * 2)
        with pytest.raises(FileNotFoundError), new_folder(target) as draft:
            (draft / "no" / "file").write_text("half")
        assert left.exists() == remains
