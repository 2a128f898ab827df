"""Refusals of the converter, which leave no file."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tabattn.contract.errors import DataError
from tabattn.convert import convert
from tests.foreign import Weights, make


def save(content: object, folder: Path) -> Path:
    torch.save(content, folder / "theirs.pt")
    return folder / "theirs.pt"


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("Local", {}, "the weights fit Scratch, Local, Optimized Local, Einstein alike: say by --attention"),
        ("Original", {"attention": "Local"}, "attention must be Original to fit the weights, got Local"),
        ("Sparse", {"attention": "Local", "window": 4}, "attention must be Sparse to fit the weights, got Local"),
        ("Original", {"window": 4}, "window does not go with Original attention, got 4"),
        ("Sparse", {"window": 0}, "window must be at least 1, got 0"),
        ("Original", {"heads": 3}, "dim must be a multiple of heads, got dim 8 and heads 3"),
        ("Original", {"heads": 0}, "dim must be a multiple of heads, got dim 8 and heads 0"),
    ],
)
def test_wrong_arguments(kind: str, arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = save(make(kind, 2), tmp_path)
    with pytest.raises(ValueError, match=message):
        convert(path, tmp_path / "ours.ckpt", **arguments)
    assert os.listdir(tmp_path) == ["theirs.pt"]


def without(name: str) -> Weights:
    return {key: weight for key, weight in make("Sparse", 2).items() if key != name}


BLOCK = "transformer_blocks.1."
WRONG = {
    "no network": ({"a": torch.zeros(1)}, "this is no checkpoint of nanoTabPFN or its relatives"),
    "no weights": ({"a": 1}, "holds no weights by name"),
    "a list": ([torch.zeros(1)], "holds no weights by name"),
    "a vector": (make("Sparse", 2) | {"decoder.linear2.weight": torch.zeros(3)}, "must be a matrix, got the shape"),
    "missing": (without(f"{BLOCK}norm2.bias"), r"the weight transformer_blocks\.1\.norm2\.bias is missing"),
    "left over": (make("Sparse", 2) | {"extra": torch.zeros(1), "more": torch.zeros(1)}, "extra and 1 more belongs to"),
    "shape": (
        make("Sparse", 2) | {f"{BLOCK}linear1.bias": torch.zeros(2)},
        r"linear1\.bias must be of shape \(6,\), got \(2,\)",
    ),
    "two kinds": (
        {name: weight for name, weight in make("Sparse", 2).items() if not name.startswith(BLOCK)}
        | {name: weight for name, weight in make("Local", 2).items() if name.startswith(BLOCK)},
        "the layers differ in their attention between rows",
    ),
    "no kind": (
        {name: weight for name, weight in make("Sparse", 2).items() if "datapoints_train" not in name},
        "the attention between rows are of no known form",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_files_that_hold_something_else(case: str, tmp_path: Path) -> None:
    content, message = WRONG[case]
    with pytest.raises(DataError, match=message):
        convert(save(content, tmp_path), tmp_path / "ours.ckpt", window=4)
    assert os.listdir(tmp_path) == ["theirs.pt"]


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pt"
    weights = make("Original", 2) | {"extra": Harmful(tmp_path / "harm")}
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"holds more than weights and plain values|is not a zip file"):
        convert(path, tmp_path / "ours.ckpt")
    assert os.listdir(tmp_path) == ["theirs.pt"]


@pytest.mark.parametrize("content", [b"", b"hello,1\n", b"PK\x03\x04", b"\x80\x04K\x01."])
def test_files_of_another_kind(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "theirs.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"theirs\.pt (is damaged|cannot be read as a checkpoint|holds no weights)"):
        convert(tmp_path / "theirs.pt", tmp_path / "ours.ckpt")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_files(share: float, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pt"
    torch.save(make("Original", 2), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"theirs\.pt (is damaged|cannot be read as a checkpoint)"):
        convert(path, tmp_path / "ours.ckpt")


def test_files_that_cannot_be_opened_or_written(tmp_path: Path) -> None:
    path = save(make("Original", 2), tmp_path)
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"^there is no file"):
        convert(tmp_path / "none.pt", tmp_path / "ours.ckpt")
    with pytest.raises(DataError, match="is a folder, a checkpoint is a file"):
        convert(tmp_path, tmp_path / "ours.ckpt")
    with pytest.raises(DataError, match="cannot be written"):
        convert(path, path / "ours.ckpt")
    with pytest.raises(ValueError, match="out must be another file than the source"):
        convert(path, path)
    assert path.read_bytes() == before
    convert(path, tmp_path / "new" / "folder" / "ours.ckpt")
    assert os.listdir(tmp_path / "new" / "folder") == ["ours.ckpt"]
