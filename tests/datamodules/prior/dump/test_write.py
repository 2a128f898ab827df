"""Writing of dumps: atomic, resumable to the same bytes, and read back unchanged."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from datamodules.prior.dump import write
from datamodules.prior.dump.read import Dump
from datamodules.prior.dump.write import DumpPlan, write_dump
from tabattn.contract.batches import TableBatch
from tabattn.contract.errors import DataError
from tabattn.storage.checksum import seal
from tests.datamodules.prior.dump.foreign import original

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
    checksum = Dump(written).attributes["sha256"]
    written.rename(written.with_name("other.h5.tmp"))
    assert write_dump(written.with_name("other.h5"), Tasks(fails_at=0), plan()) == checksum
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
    with pytest.raises(ValueError, match="is no file: give another name"):
        write_dump(written.parent, Tasks(), plan(tasks=2), overwrite=True)
    write_dump(written, Tasks(), plan(tasks=2), overwrite=True)
    assert len(Dump(written)) == 2


def test_a_full_disk_gives_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "_put", full)
    with pytest.raises(DataError, match=r"a\.h5 cannot be written: .*No space left on device"):
        write_dump(tmp_path / "a.h5", Tasks(), plan())


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
    with pytest.raises(DataError, match=r"tasks\.h5 is damaged: its content is not what its checksum says$"):
        Dump(written)


def test_content_that_was_changed_is_noticed(written: Path, tmp_path: Path) -> None:
    with h5py.File(written, "r+") as file:
        file["y"][5, 0] = 2
    with pytest.raises(DataError, match="its checksum is gone: the file is cut short, or another program changed it"):
        Dump(written)
    seal(written)
    with pytest.raises(DataError, match="its content is not what its checksum says, in batch 1 of 3"):
        Dump(written).verify()
    with pytest.raises(DataError, match="it has no checksum"):
        Dump(original(tmp_path / "a.h5")).verify()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        Dump(tmp_path / "none.h5")
