"""Dumps: written whole or not at all, resumed to the same bytes, read as they were written."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from datamodules import dump, h5_write
from datamodules.h5_read import Dump, DumpBatches
from datamodules.h5_write import DumpPlan, write_dump
from tabattn.batches import TableBatch
from tabattn.errors import DataError

TASKS, BATCH = 11, 4


class Tasks(Dataset[TableBatch]):
    """Batch i of four tasks of i-dependent size; fails at a batch when told to."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.made: list[int] = []

    def __getitem__(self, index: int) -> TableBatch:
        if index == self.fails_at:
            raise KeyboardInterrupt
        self.made.append(index)
        source = torch.Generator().manual_seed(index)
        rows = 8 + index % 2
        x = torch.randn(BATCH, rows, 3, generator=source)
        x[0, 0, 0] = torch.nan
        y = torch.arange(rows).expand(BATCH, rows) % 3
        columns = torch.tensor([3, 2, 3, 3]) if index == 1 else None
        return TableBatch(x, y, 5, columns)


def plan(**changes: Any) -> DumpPlan:
    facts = {"prior": "test", "seed": 3, "versions": {"h5py": "3"}}
    return DumpPlan(
        **{"tasks": TASKS, "batch_size": BATCH, "rows": 9, "features": 3, "classes": 3, "facts": facts, **changes}
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.h5"
    write_dump(path, Tasks(), plan())
    return path


def original(path: Path, tasks: int = 6, rows: int = 10, **changes: Any) -> Path:
    """A file as nanoTabPFN writes it."""
    rng = np.random.default_rng(0)
    arrays = {
        "X": rng.normal(size=(tasks, rows, 4)).astype(np.float32),
        "y": (np.arange(tasks * rows).reshape(tasks, rows) % 2).astype(np.float32),
        "num_features": np.full(tasks, 4, np.int32),
        "num_datapoints": np.full(tasks, rows, np.int32),
        "single_eval_pos": np.full(tasks, 7, np.int32),
        "max_num_classes": np.array([2]),
        **changes,
    }
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            if array is not None:
                file[key] = array
    return path


def test_what_is_written_is_read(written: Path) -> None:
    made = Tasks()
    for number in range(3):
        tasks = np.arange(number * BATCH, min((number + 1) * BATCH, TASKS))
        expected, found = made[number], Dump(written).read(tasks)
        torch.testing.assert_close(found.x, expected.x[: len(tasks)], rtol=0, atol=0, equal_nan=True)
        assert torch.equal(found.y, expected.y[: len(tasks)])
        assert found.context == 5
        assert (found.columns is None) == (expected.columns is None)
    columns = Dump(written).read(np.arange(4, 8)).columns
    assert columns is not None
    assert columns.tolist() == [3, 2, 3, 3]


def test_a_file_says_what_it_holds_under_every_name_that_readers_know(written: Path) -> None:
    with h5py.File(written, "r") as file:
        assert file["X"].shape == (TASKS, 9, 3)
        assert file["X"].chunks == (BATCH, 9, 3)
        assert file["X"].fletcher32
        assert file["y"].dtype == np.float32
        assert file["single_eval_pos"][:].tolist() == file["train_test_split_index"][:].tolist() == [5] * TASKS
        assert file["num_datapoints"][:].tolist() == [8] * 4 + [9] * 4 + [8] * 3
        assert file["num_features"][4:8].tolist() == [3, 2, 3, 3]
        assert not file["X"][0, 8:].any()
        assert file["max_num_classes"][0] == 3
        assert file["original_batch_size"][0] == BATCH
        assert file["problem_type"][()].decode() == "classification"
        assert (file.attrs["prior"], file.attrs["seed"]) == ("test", 3)
        assert json.loads(file.attrs["versions"]) == {"h5py": "3"}


def test_an_interrupted_file_is_resumed_to_the_same_content(written: Path, tmp_path: Path) -> None:
    path = tmp_path / "again.h5"
    with pytest.raises(KeyboardInterrupt):
        write_dump(path, Tasks(fails_at=2), plan())
    assert not path.exists()
    with pytest.raises(DataError, match="cannot be used: it is unfinished, 8 of 11 tasks"):
        Dump(path.with_name("again.h5.tmp"))
    rest = Tasks()
    assert write_dump(path, rest, plan()) == Dump(written).attributes["sha256"]
    assert rest.made == [2]
    assert not path.with_name("again.h5.tmp").exists()
    Dump(path).verify()


def test_a_finished_file_that_missed_its_name_gets_it(written: Path) -> None:
    written.rename(written.with_name("other.h5.tmp"))
    rest = Tasks(fails_at=0)
    write_dump(written.with_name("other.h5"), rest, plan())
    Dump(written.with_name("other.h5")).verify()


def test_an_unreadable_rest_is_begun_again(written: Path, tmp_path: Path) -> None:
    (tmp_path / "new.h5.tmp").write_bytes(written.read_bytes()[:2000])
    assert write_dump(tmp_path / "new.h5", Tasks(), plan()) == Dump(written).attributes["sha256"]


def test_a_rest_of_another_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_dump(tmp_path / "a.h5", Tasks(fails_at=1), plan())
    with pytest.raises(ValueError, match=r"a\.h5\.tmp was begun with other arguments"):
        write_dump(tmp_path / "a.h5", Tasks(), plan(tasks=5))


def test_a_file_is_replaced_only_when_told_to(written: Path) -> None:
    with pytest.raises(ValueError, match=r"tasks\.h5 exists: give another name, or --overwrite"):
        write_dump(written, Tasks(), plan())
    write_dump(written, Tasks(), plan(tasks=2), overwrite=True)
    assert len(Dump(written)) == 2


def test_a_full_disk_gives_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5_write, "_put", full)
    with pytest.raises(DataError, match=r"a\.h5 cannot be written: .*No space left on device"):
        write_dump(tmp_path / "a.h5", Tasks(), plan())


def test_files_of_others_are_read(tmp_path: Path) -> None:
    seed = Dump(original(tmp_path / "seed.h5"))
    assert (len(seed), seed.sizes.classes, seed.read(np.arange(3)).context) == (6, 2, 7)
    newer = original(
        tmp_path / "newer.h5",
        single_eval_pos=None,
        num_datapoints=None,
        num_features=None,
        max_num_classes=None,
        train_test_split_index=np.full(6, 4, np.int32),
        original_batch_size=np.array([3]),
        problem_type="classification",
    )
    batch = Dump(newer).read(np.arange(6))
    assert batch.context == 4
    assert batch.x.shape == (6, 10, 4)
    assert batch.columns is None
    assert Dump(newer).sizes.classes == 2


def test_targets_that_no_context_row_answers_are_not_scored(tmp_path: Path) -> None:
    y = np.zeros((6, 10), np.float32)
    y[2, 8] = y[3, [1, 8]] = 1
    found = Dump(original(tmp_path / "a.h5", y=y)).read(np.arange(2, 4)).y
    assert found[0].tolist() == [0] * 8 + [-1, 0]
    assert found[1].tolist() == [0, 1] + [0] * 6 + [1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": None}, r"it is no dump of tasks: it has no array X \(but: "),
        ({"y": np.zeros((6, 9), np.float32)}, r"its sizes do not fit: X is \(6, 10, 4\), y is \(6, 9\)"),
        ({"problem_type": "regression"}, "it holds regression tasks, not classification"),
        ({"single_eval_pos": None}, "it does not say how many rows are context"),
        ({"single_eval_pos": np.full(6, 10)}, "a task has no target rows"),
        ({"single_eval_pos": np.zeros(6)}, "single_eval_pos must hold 6 numbers between 1 and 10"),
        ({"num_features": np.full(6, 5)}, "num_features must hold 6 numbers between 1 and 4"),
        ({"num_datapoints": np.full(5, 10)}, "num_datapoints must hold 6 numbers between 1 and 10"),
    ],
)
def test_a_wrong_file_says_why(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = original(tmp_path / "a.h5", **changes)
    with pytest.raises(DataError, match=rf"a\.h5 cannot be used: {message}"):
        Dump(path)


@pytest.mark.parametrize("label", [-1, 2, 0.5, np.nan])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_labels_out_of_range_are_refused(tmp_path: Path, label: float) -> None:
    y = np.zeros((6, 10), np.float32)
    y[5, 9] = label
    dumped = Dump(original(tmp_path / "a.h5", y=y))
    assert dumped.read(np.arange(5)).y.shape == (5, 10)
    with pytest.raises(DataError, match=r"a\.h5 cannot be used: labels of tasks 4 to 5 are not 0 to 1"):
        dumped.read(np.arange(4, 6))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda raw: b"", "it is not an HDF5 file"),
        (lambda raw: b"text" * 99, "it is not an HDF5 file"),
        (lambda raw: raw[:-500], "it is cut short"),
    ],
)
def test_a_damaged_file_says_why(written: Path, content: Any, message: str) -> None:
    written.write_bytes(content(written.read_bytes()))
    with pytest.raises(DataError, match=rf"tasks\.h5 cannot be read: {message}$"):
        Dump(written)


def test_a_flipped_bit_is_noticed(written: Path) -> None:
    with h5py.File(written, "r") as file:
        place = file["X"].id.get_chunk_info(1).byte_offset + 20
    raw = bytearray(written.read_bytes())
    raw[place] ^= 4
    written.write_bytes(raw)
    Dump(written).read(np.arange(4))
    for use in (lambda: Dump(written).read(np.arange(4, 8)), Dump(written).verify):
        with pytest.raises(DataError, match="cannot be read: its content is damaged: a checksum does not match"):
            use()


def test_content_that_was_changed_is_noticed(written: Path, tmp_path: Path) -> None:
    with h5py.File(written, "r+") as file:
        file["y"][0, 0] = 2
    with pytest.raises(DataError, match="its content is not what its checksum says"):
        Dump(written).verify()
    with pytest.raises(DataError, match="it has no checksum"):
        Dump(original(tmp_path / "a.h5")).verify()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        Dump(tmp_path / "none.h5")


def test_batches_are_of_one_size(tmp_path: Path) -> None:
    rows = np.array([10, 8, 10, 10, 8, 10])
    path = original(tmp_path / "a.h5", num_datapoints=rows, single_eval_pos=np.array([7, 7, 7, 5, 7, 7]))
    groups = [tasks.tolist() for tasks in DumpBatches(Dump(path), 2, seed=None).groups]
    assert groups == [[0, 2], [5], [1, 4], [3]]
    assert [tasks.tolist() for tasks in DumpBatches(Dump(path), 4, 0, (0.3, 0.6)).groups] == [[0, 2, 3, 5], [1, 4]]
    batch = DumpBatches(Dump(path), 2, seed=None)[2]
    assert batch.table is not None
    assert batch.table.tolist() == [1, 4]
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(batch.x, file["X"][[1, 4], :8])


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

    monkeypatch.setattr(dump, "write_dump", interrupted)
    assert run("--prior", "scm", "--out", f"{tmp_path}/a.h5") == 130


def test_the_help_explains_every_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run("--help")
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert "python -m datamodules.dump --source openml:179" in text
    assert "Exit status" in text
