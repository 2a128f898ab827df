"""Checksums: sealed files are still read by their libraries, and any changed byte is detected."""

import hashlib
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tabattn.contract.errors import DataError
from tabattn.storage.checksum import FOOTER_SIZE, KEY, PLACEHOLDER, seal, verify
from tabattn.storage.files import write_checkpoint
from tabattn.training.checkpoint_io import AtomicCheckpointIO

Write = Callable[[Path], None]
TENSOR = torch.arange(1000, dtype=torch.float32).reshape(10, 100)


def checkpoint(path: Path) -> None:
    torch.save({"a": TENSOR, "n": 3}, path)


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = TENSOR.numpy()


def safetensors(path: Path) -> None:
    save_file({"a": TENSOR}, path, {KEY: PLACEHOLDER, "header": '{"sha256":"' + "1" * 64 + '"}'})


def read_checkpoint(path: Path) -> torch.Tensor:
    torch.load(path, weights_only=True, mmap=True)
    assert zipfile.ZipFile(path).testzip() is None
    found: torch.Tensor = torch.load(path, weights_only=True)["a"]
    return found


def read_hdf5(path: Path) -> torch.Tensor:
    with h5py.File(path) as file:
        return torch.from_numpy(file["a"][:])


KINDS = {
    "ckpt": (checkpoint, read_checkpoint),
    "h5": (hdf5, read_hdf5),
    "safetensors": (safetensors, lambda path: load_file(path)["a"]),
}


@pytest.fixture(params=KINDS)
def sealed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"a.{request.param}"
    KINDS[request.param][0](path)
    seal(path)
    return path


def test_a_sealed_file_is_verified_and_read_by_its_library(sealed: Path) -> None:
    assert verify(sealed)
    assert torch.equal(KINDS[sealed.suffix[1:]][1](sealed), TENSOR)


def test_sealing_again_changes_nothing(sealed: Path) -> None:
    before = sealed.read_bytes()
    seal(sealed)
    assert sealed.read_bytes() == before


def test_a_change_of_any_byte_is_noticed(sealed: Path) -> None:
    whole = sealed.read_bytes()
    random = np.random.default_rng(0)
    start = 9 if sealed.suffix == ".safetensors" else 8
    noticed = 0
    for place in [*random.integers(start, len(whole) - FOOTER_SIZE, 150), len(whole) - FOOTER_SIZE - 1, start]:
        raw = bytearray(whole)
        raw[place] ^= 1 << random.integers(8)
        sealed.write_bytes(raw)
        try:
            noticed += not verify(sealed)  # the name of the digest itself was hit: the content is whole
        except DataError:
            noticed += 1
    assert noticed == 152


def test_a_footer_that_cannot_be_read_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    checkpoint(path)
    seal(path)
    raw = bytearray(path.read_bytes())
    raw[-FOOTER_SIZE + 3] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.ckpt is damaged: its checksum cannot be read"):
        verify(path)


def test_bytes_after_a_checksum_are_damage(sealed: Path) -> None:
    """Else the file would be read as one without a checksum."""
    whole = sealed.read_bytes()
    for more in (b"\0", b"\n", bytes(4096)):
        sealed.write_bytes(whole + more)
        with pytest.raises(DataError, match="is damaged"):
            verify(sealed)


def test_an_archive_cut_before_its_checksum_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    write_checkpoint(path, {"a": TENSOR})
    whole = path.read_bytes()
    for lost in (1, 40, FOOTER_SIZE - 1, FOOTER_SIZE):
        path.write_bytes(whole[:-lost])
        with pytest.raises(DataError, match="is damaged: its checksum cannot be read"):
            verify(path)


@pytest.mark.parametrize("kind", KINDS)
def test_verify_is_false_without_a_checksum(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "safetensors":
        save_file({"a": TENSOR}, path)
        with pytest.raises(ValueError, match="has no place for a checksum: its metadata needs sha256"):
            seal(path)
    else:
        KINDS[kind][0](path)
    assert not verify(path)


@pytest.mark.parametrize("content", [b"", b"P", b"some text that is longer than a footer" * 9, b"\xff" * 8 + b"{"])
def test_files_of_other_kinds_have_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert not verify(tmp_path / "a")
    with pytest.raises(ValueError, match="no place for a checksum"):
        seal(tmp_path / "a")


def test_an_archive_with_a_comment_of_its_own_is_left_alone(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a", "b")
        file.comment = b"mine"
    assert not verify(tmp_path / "a.zip")
    with pytest.raises(ValueError, match="a comment of another program"):
        seal(tmp_path / "a.zip")


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.count += len(content)
        return content


def test_sealing_a_checkpoint_does_not_read_its_weights() -> None:
    """They are held by the checksums that ``torch.save`` has computed."""
    file = Counting()
    torch.save({"a": torch.randn(1_000_000)}, file)
    seal(file)
    assert len(file.getvalue()) > 4_000_000
    assert file.count < 100_000


def test_checksums_of_entries_are_written_also_where_torch_is_told_to_leave_them_out(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.serialization.set_crc32_options(False)
    try:
        write_checkpoint(path, {"a": TENSOR})
        assert not torch.serialization.get_crc32_options()
    finally:
        torch.serialization.set_crc32_options(True)
    assert verify(path)


def test_a_digest_of_all_bytes_as_earlier_versions_wrote_it_is_verified(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    checkpoint(path)
    whole = path.read_bytes()[:-2] + struct.pack("<H", FOOTER_SIZE)
    path.write_bytes(whole + b"\ntabattn-sha256:%s\n" % hashlib.sha256(whole).hexdigest().encode())
    assert verify(path)
    assert torch.equal(read_checkpoint(path), TENSOR)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.ckpt is damaged: its content is not what its checksum says"):
        verify(path)


def test_a_compressed_archive_has_no_place() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", "b" * 100)
    with pytest.raises(ValueError, match="no place for a checksum: its entries are compressed"):
        seal(file)


def test_checkpoints_carry_one_and_are_refused_when_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    write_checkpoint(path, {"state_dict": {"a": TENSOR}})
    assert verify(path)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path, weights_only=True)["state_dict"]["a"], TENSOR)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.ckpt is damaged: its content is not what its checksum says"):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=True)
    torch.save({"state_dict": {"a": TENSOR}}, path)
    assert "state_dict" in AtomicCheckpointIO().load_checkpoint(path, weights_only=True)
