"""What is in a dump: counts by hand, on files of this and of other projects, in bounded memory."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.prior.dump import __main__ as command
from datamodules.prior.dump import contents, write_tasks
from datamodules.prior.dump.contents import EDGES, cells_of, classes_of
from datamodules.prior.dump.read import Dump
from tests.datamodules.prior.dump.foreign import original

NAN = float("nan")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two tasks: of 6 rows, 4 of context, and 3 columns; of 5 rows, 2 of context, and 2 columns."""
    first = [[0, 7, NAN], [2, 7, 1], [0, 7, 2], [2, 7, 3], [11, 8, 2], [1, 8, NAN]]
    second = [[0, NAN], [1, NAN], [2, 5], [3, 6], [0.5, 7]]
    write_tasks(
        tmp_path / "a.h5",
        [np.asarray(first), np.asarray(second)],
        [[0, 1, 0, 1, 2, 0], [1, 0, 0, 1, 1]],
        [4, 2],
        strict=False,
    )
    return tmp_path / "a.h5"


def test_classes_are_counted_in_every_task(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = classes_of(Dump(path))
    assert found.distinct.tolist() == [3, 2]
    assert found.largest.tolist() == [3 / 6, 3 / 5]
    assert found.smallest.tolist() == [1 / 6, 2 / 5]
    assert found.unseen.tolist() == [1, 0]
    monkeypatch.setattr(contents, "LABELS", 1)
    assert all((one == other).all() for one, other in zip(classes_of(Dump(path)), found, strict=True))


def test_cells_are_standardised_by_the_context_of_their_column(path: Path) -> None:
    found = cells_of(Dump(path))
    assert (found.tasks, found.columns) == (2, 5)
    assert found.missing == 4 / 28
    assert found.gaps == 2 / 5
    assert found.constant == 2 / 5  # 7, 7, 7, 7 and what is missing there
    assert found.few == 1
    z = [-1, 1, -1, 1, 0, *((np.asarray([1, 2, 3, 2]) - 2) / np.sqrt(2 / 3)), -1, 1, 3, 5, 0]
    assert found.counts.tolist() == np.histogram(z, EDGES)[0].tolist()
    assert found.beyond == 1 / 15


def test_a_sample_of_large_tasks_is_read(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "CELLS", 1)
    assert cells_of(Dump(path)).tasks == 1
    many = Dump(original(tmp_path / "many.h5", tasks=40))
    monkeypatch.setattr(contents, "CELLS", 280)  # 40 cells a task
    assert cells_of(many).tasks == 7
    monkeypatch.setattr(contents, "SAMPLE", 5)
    assert cells_of(many).tasks == 5
    assert cells_of(many).counts.sum() > 0


def test_the_command_shows_a_file_as_a_table_and_a_picture(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--check", str(path), "--plot"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: whole, its checksum matches"
    assert [line.split() for line in lines[2:6]] == [
        ["rows", "5", "5.5", "5.5", "6"],
        ["context", "rows", "2", "3", "3", "4"],
        ["features", "2", "2.5", "2.5", "3"],
        ["classes", "2", "2.5", "2.5", "3"],
    ]
    assert lines[6].split()[-4:] == ["0.500", "0.550", "0.550", "0.600"]
    assert lines[8] == "targets whose class is absent in the context: 1 of 5, in 1 of 2 tasks"
    assert lines[9] == "cells of all tasks, 5 columns:"
    assert lines[10].split() == ["missing", "cells", "14.29%"]
    assert lines[-1] == f"picture: {path.with_suffix('.png')}"
    assert path.with_suffix(".png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("newer", [False, True])
def test_files_of_other_projects_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], newer: bool) -> None:
    absent = dict.fromkeys(("single_eval_pos", "num_datapoints", "num_features", "max_num_classes"))
    other = {**absent, "train_test_split_index": np.full(6, 4, np.int32), "problem_type": "classification"}
    path = original(tmp_path / "a.h5", **(other if newer else {}))
    assert command.main(["--check", str(path), "--plot", f"{tmp_path}/seen.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: 6 tasks; it has no checksum"
    assert lines[3].split()[2:] == (["4"] if newer else ["7"]) * 4
    assert (tmp_path / "seen.png").exists()
    assert command.main(["--check", str(path)]) == 3
    assert "it has no checksum" in capsys.readouterr().err


def test_what_cannot_be_shown_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = original(tmp_path / "a.h5", y=np.full((6, 10), 2, np.float32))
    assert command.main(["--check", str(path), "--plot"]) == 3
    message = f"error: {path} cannot be used: labels of tasks 0 to 5 are not 0 to 1\n"
    assert capsys.readouterr().err == message
    path = original(tmp_path / "b.h5")
    assert command.main(["--check", str(path), "--plot", f"{tmp_path}/none/a.png"]) == 3
    assert capsys.readouterr().err == f"error: {tmp_path}/none/a.png cannot be written: No such file or directory\n"
    assert command.main(["--prior", "scm", "--plot"]) == 2
    assert capsys.readouterr().err == "error: --plot goes with --check only\n"


def test_labels_of_absent_rows_do_not_count(tmp_path: Path) -> None:
    y = np.tile(np.asarray([0, 1], np.float32), (6, 5))
    y[2, 8:] = NAN, -1
    rows = np.asarray([10, 10, 8, 10, 10, 10], np.int32)
    found = classes_of(Dump(original(tmp_path / "a.h5", y=y, num_datapoints=rows)))
    assert found.distinct.tolist() == [2] * 6
    assert found.largest.tolist() == [0.5] * 6
