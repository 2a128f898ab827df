"""HDF5 files are first opened in another process: files that hang or crash it are refused."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from datamodules import hdf5
from datamodules.prior.dump.read import Dump
from tabattn.contract.errors import DataError
from tests.datamodules.prior.dump.foreign import original


def test_a_file_of_others_is_met_and_read(tmp_path: Path) -> None:
    path = original(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file.create_group("deep")["array"] = np.zeros(3)
        file["away"] = h5py.ExternalLink("nowhere.h5", "x")
        file.create_dataset("large", (10**9, 10**3), "f4", chunks=(1, 10))
    assert len(Dump(path)) == 6


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("while True: pass", "the HDF5 library did not read its structure in 0.5 s"),
        ("import os; os.kill(os.getpid(), 11)", r"the HDF5 library crashes on it \(signal 11\)"),
    ],
)
def test_a_file_that_the_library_cannot_take_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    path = original(tmp_path / "a.h5")
    (tmp_path / "probe.py").write_text(program)
    monkeypatch.setattr(hdf5.hdf5_probe, "__file__", str(tmp_path / "probe.py"))
    monkeypatch.setattr(hdf5, "TIME_LIMIT", 0.5)
    with pytest.raises(DataError, match=rf"a\.h5 is damaged: {message}"):
        Dump(path)


def test_a_file_is_met_again_when_it_has_changed(tmp_path: Path) -> None:
    path = original(tmp_path / "a.h5")
    Dump(path)
    before = path.stat()
    raw = bytearray(path.read_bytes())
    raw[:4] = b"text"
    path.write_bytes(raw)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(DataError, match="it is not an HDF5 file"):
        Dump(path)
