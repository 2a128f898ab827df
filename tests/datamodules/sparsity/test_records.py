"""Files of recorded queries and keys: they hold what was written, and refuse what is damaged."""

import errno
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from datamodules.hdf5_write import writing
from datamodules.sparsity.records import Kept, RecordFile, write_records
from tabattn.contract.errors import DataError
from tabattn.storage.checksum import seal
from tests.datamodules.sparsity.records import kept, layer


def same(first: torch.Tensor | None, second: torch.Tensor | None) -> bool:
    return first is second if first is None or second is None else torch.equal(first, second)


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    records = kept()
    write_records(tmp_path / "a.h5", records)
    read = RecordFile(tmp_path / "a.h5")
    assert [each.layer for each in read.layers] == [each.layer for each in records.layers]
    for number, recorded in enumerate(records.layers):
        for name in ("queries", "keys", "group"):
            assert np.array_equal(getattr(read.layers[number], name), getattr(recorded, name))
        for each in range(len(recorded.group)):
            written, found = records.item(number, each), read.item(number, each)
            assert torch.equal(written.q, found.q)
            assert torch.equal(written.k, found.k)
            assert same(written.v, found.v)
            assert written.group == found.group
            if written.mask is None and found.mask is not None:
                assert found.mask.all()
            else:
                assert same(written.mask, found.mask)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.h5"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_file_from_before_alone(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    write_records(path, kept())
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("datamodules.hdf5_write.Part.save", full)
    with pytest.raises((DataError, KeyboardInterrupt)):
        write_records(path, kept())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_another_process_writes_stays(tmp_path: Path) -> None:
    unfinished = tmp_path / "a.h5.tmp"
    with writing(unfinished, fresh=True), pytest.raises(DataError, match="is being written by another process"):
        write_records(tmp_path / "a.h5", kept())
    assert unfinished.exists()


def test_half_precision_is_kept(tmp_path: Path) -> None:
    fact, found = kept().found[0]
    halves = [item._replace(q=item.q.half(), k=item.k.half(), v=None) for item in found]
    write_records(tmp_path / "a.h5", Kept([(fact, halves)]))
    item = RecordFile(tmp_path / "a.h5").item(0, 1)
    assert item.q.dtype == torch.float32
    assert torch.equal(item.q, halves[1].q.float())
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["layers/0"].attrs["dtype"] == "float16"


def test_a_layer_without_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a has no items to write"):
        write_records(tmp_path / "a.h5", Kept([(layer(), [])]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("queries", np.array([3, 4, 1, 6, 3]), "lengths of blocks.0.rows"),
        ("queries", np.array([3, 4, 1, 8, 0]), "lengths of blocks.0.rows"),
        ("keys", np.array([5, 2, 1, 6]), "several sizes"),
        ("alpha", np.array([1.5]), "several sizes"),
        ("k", np.zeros((17, 2, 3), np.float32), "several sizes"),
        ("q", np.zeros((16, 2), np.float32), "3 dimensions"),
        ("q", np.zeros((16, 2, 4), np.int32), "none that can stand here"),
        ("mask", np.ones(7, np.uint8), "mask of blocks.0.rows"),
        ("v", np.zeros((16, 2, 3), np.float32), "values of blocks.0.rows"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, value: np.ndarray, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_records(path, kept())
    with h5py.File(path, "r+") as file:
        if name in file["layers/0"]:
            del file["layers/0"][name]
        file["layers/0"][name] = value
        del file.attrs["sealed"]
    with pytest.raises(DataError, match=said):
        RecordFile(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.h5 is not there: python train.py predict"):
        RecordFile(tmp_path / "a.h5")
    with pytest.raises(ValueError, match="is a folder"):
        RecordFile(tmp_path)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1
    with (tmp_path / "a.h5").open("r+b") as raw:
        seal(raw)
    with pytest.raises(DataError, match="no recorded queries and keys"):
        RecordFile(tmp_path / "a.h5")
