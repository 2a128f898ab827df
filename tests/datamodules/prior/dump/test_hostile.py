"""Malicious HDF5 files are refused in one line that names the file, within bounded memory and time."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from datamodules import hdf5
from datamodules.prior.dump.read import Dump
from tabattn.contract.errors import DataError
from tests.datamodules.prior.dump.foreign import original

Change = Callable[[h5py.File], object]


def put(key: str, value: object, **options: object) -> Change:
    """Replace an array."""

    def change(file: h5py.File) -> None:
        if key in file:
            del file[key]
        if value is None:
            file.create_dataset(key, **options)
        else:
            file.create_dataset(key, data=value, **options)

    return change


def link(key: str, target: object) -> Change:
    def change(file: h5py.File) -> None:
        if key in file:
            del file[key]
        file[key] = target

    return change


def group(file: h5py.File) -> None:
    del file["X"]
    file.create_group("X")


def virtual(file: h5py.File) -> None:
    del file["X"]
    layout = h5py.VirtualLayout((6, 10, 4), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "X", (6, 10, 4))
    file.create_virtual_dataset("X", layout)


def unknown_filter(file: h5py.File) -> None:
    del file["X"]
    described = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    described.set_chunk((6, 10, 4))
    described.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((6, 10, 4))
    made = h5py.h5d.create(file.id, b"X", h5py.h5t.IEEE_F32LE, space, described)
    made.write_direct_chunk((0, 0, 0), b"\0" * 960)


HOSTILE: dict[str, Change] = {
    "X is no array": group,
    "X is kept in other files": virtual,
    "X is kept in other files ": put("X", None, shape=(6, 10, 4), dtype="f4", external=[("/etc/passwd", 0, 960)]),
    "X is a link to something else": link("X", h5py.ExternalLink("other.h5", "X")),
    "X is a link to something else ": link("X", h5py.SoftLink("/nowhere")),
    "X is a link to something else  ": link("X", h5py.SoftLink("/X")),
    "X is compressed by HDF5's filter 32015, which is not installed": unknown_filter,
    r"X declares \(1000000, 10000, 1000\) entries, but the file holds 0 bytes": put(
        "X", None, shape=(10**6, 10**4, 10**3), dtype="f4", chunks=(1, 10, 10)
    ),
    r"y declares \(1000000000000, 10\) entries": put("y", None, shape=(10**12, 10), dtype="f4", chunks=(10, 10)),
    r"X declares \(0, 10, 4\) entries": put("X", np.zeros((0, 10, 4), np.float32)),
    r"X declares \(6, 10, 0\) entries": put("X", np.zeros((6, 10, 0), np.float32)),
    r"X must have 3 dimensions, its shape is \(6, 10\)": put("X", np.zeros((6, 10))),
    r"X must have 3 dimensions, its shape is \(\)": put("X", 3.0),
    "X must have 3 dimensions, its shape is None": put("X", h5py.Empty("f4")),
    "X is of the type complex128": put("X", np.zeros((6, 10, 4), complex)),
    "X is of the type .S1": put("X", np.full((6, 10, 4), b"a")),
    "X is of the type .*which is none": put("X", np.zeros((6, 10, 4), np.dtype([("a", "f4")]))),
    "y is of the type object": put("y", np.full((6, 10), "a", object), dtype=h5py.string_dtype()),
    "X is of the type object": put("X", None, shape=(6, 10, 4), dtype=h5py.ref_dtype),
    "max_num_classes must be one whole number between 1 and 10000, got 1e.09": put("max_num_classes", [10**9]),
    "max_num_classes must be .* got 0": put("max_num_classes", [0]),
    "max_num_classes must be .* got -3": put("max_num_classes", [-3]),
    "max_num_classes must be .* got 2.5": put("max_num_classes", [2.5]),
    "max_num_classes must be .* got nan": put("max_num_classes", [np.nan]),
    "max_num_classes must be .* got nan ": put("max_num_classes", [2, 3]),
    r"max_num_classes declares \(0,\) entries": put("max_num_classes", np.zeros(0, int)),
    "max_num_classes is of the type": put("max_num_classes", b"2"),
    "problem_type is of the type int64": put("problem_type", 3),
    r"problem_type must be one text, its shape is \(2,\)": put("problem_type", [b"a", b"b"]),
    "it holds .* tasks, not classification": put("problem_type", b"\xff\xfe"),
    "single_eval_pos must hold 6 numbers": put("single_eval_pos", np.full(6, -7)),
    "single_eval_pos must hold 6 numbers ": put("single_eval_pos", np.full(6, np.nan)),
    "single_eval_pos must hold 6 numbers  ": put("single_eval_pos", np.full(6, 2.5)),
    "single_eval_pos is of the type": put("single_eval_pos", [b"7"] * 6),
    "num_datapoints must hold 6 numbers": put("num_datapoints", np.full(6, 2**63, np.uint64)),
    "num_datapoints is no array": lambda file: (file.pop("num_datapoints"), file.create_group("num_datapoints")),
    "num_features declares": put("num_features", None, shape=(10**11,), dtype="i4", chunks=(1000,)),
}


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the tests the other process."""
    monkeypatch.setattr(hdf5, "_meet", lambda path: False)


@pytest.mark.parametrize("message", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, message: str) -> None:
    path = original(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        HOSTILE[message](file)
    with pytest.raises(DataError, match=rf"a\.h5 cannot be used: {message.rstrip()}") as caught:
        Dump(path)
    assert "\n" not in str(caught.value)


def test_classes_are_counted_where_they_are_not_said(tmp_path: Path) -> None:
    y = np.zeros((6, 10), np.float32)
    y[4, 2] = 5
    assert Dump(original(tmp_path / "a.h5", y=y, max_num_classes=None)).sizes.classes == 6


def test_texts_of_every_form_are_read(tmp_path: Path) -> None:
    for number, text in enumerate(("classification", b"classification", np.array([b"classification"]))):
        assert len(Dump(original(tmp_path / f"{number}.h5", problem_type=text))) == 6


def test_labels_with_gaps_and_whole_numbers_of_any_type_are_read(tmp_path: Path) -> None:
    y = np.tile(np.arange(10) % 2 * 2, (6, 1))
    for kind in ("u1", "i8", "f2", "f8"):
        dumped = Dump(original(tmp_path / f"{kind}.h5", y=y.astype(kind), max_num_classes=[3]))
        assert dumped.read(np.arange(6)).y[0].tolist() == [0, 2] * 5
