"""Checksums inside the files that this project writes, verified before a file is handed to the library that reads it.

A writer calls ``seal`` on the finished file, before it is synced and renamed; a reader calls ``verify``. Every byte of
the file but the checksum itself is covered, and every other program still reads the file:

==============  =====================================  ==========================================
File            Where the digest stands                What it covers
==============  =====================================  ==========================================
``.ckpt``       comment of the zip archive             all bytes before the comment but the contents of entries
``.h5``         behind the end that HDF5 records       all bytes before it
``.safetensors``  entry ``sha256`` of ``__metadata__``   all bytes, with zeros in place of the digest
==============  =====================================  ==========================================

The digest is a SHA-256. Of an archive's entries it covers the CRC-32, which ``torch.save`` computes in any case, in
place of the contents: hashing these would take a third of the time of the save. Checkpoints of earlier versions have a
digest of all bytes, and are verified by that.

These checksums find damage. They are no signature: whoever changes a file on purpose can compute them anew.

Files of other programs, and files written before there was a checksum, have none: ``verify`` returns False for them.
"""

import hashlib
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from tabattn.contract.errors import DataError

KEY = "sha256"
"""Name of the digest in the metadata of a safetensors file."""

PLACEHOLDER = "0" * 64
"""Value of ``KEY`` in a safetensors file before it is sealed."""

FOOTER = re.compile(rb"\ntabattn-(sha256|layout):(.{64})\n", re.DOTALL)
"""Scope of a digest: all bytes before it, or all but the contents of an archive's entries."""

FOOTER_SIZE = 81

ZIP_START, ZIP_END = b"PK\x03\x04", b"PK\x05\x06"
ZIP_ENTRY_SIZE = 30
"""Size of a local zip header up to the entry's name; its last four bytes are the lengths of name and extra field."""

ZIP_END_SIZE = 22
"""Size of a zip archive's end record; its last two bytes are the length of the comment."""

TAIL = 1 << 16
"""Bytes at the end of a file that are searched for a displaced checksum, which means damage."""

HDF5_START = b"\x89HDF\r\n\x1a\n"

MOST_HEADER = 100_000_000
"""Largest header of a safetensors file, in bytes, as in the safetensors library."""

BLOCK = 1 << 20

Span = tuple[int, int]
"""Range of bytes: the first, and the one after the last."""


def seal(target: str | Path | BinaryIO) -> str:
    """Write the SHA-256 into a finished file: zip (``torch.save``), HDF5, or safetensors with ``PLACEHOLDER``.

    An existing checksum is replaced. The file is changed in place, so call this before it is renamed to its final name.

    Args:
        target: The file: its path, or an open file for reading and writing, such as an ``io.BytesIO``.

    Returns:
        The SHA-256, in hexadecimal digits.

    Raises:
        OSError: The file cannot be written, for example because the disk is full.
        ValueError: The format is unknown, or the file has no place for a checksum.
    """
    if isinstance(target, (str, Path)):
        with Path(target).open("r+b") as file:
            return _seal(file, str(target))
    return _seal(target, "the file")


def _seal(file: BinaryIO, name: str) -> str:
    kind, size = _kind(file), _size(file)
    if kind == "safetensors":
        return _seal_safetensors(file, name)
    if kind is None:
        raise ValueError(f"{name} has no place for a checksum: it is no zip archive, HDF5 or safetensors file")
    if _footer(file, size) is not None:
        size -= FOOTER_SIZE
        file.truncate(size)
    gaps: list[Span] = []
    if kind == "zip":
        end = _at(file, size - ZIP_END_SIZE, ZIP_END_SIZE)
        if not end.startswith(ZIP_END):
            raise ValueError(f"{name} is a zip archive with a comment of another program, or is cut short")
        file.seek(size - 2)
        file.write(struct.pack("<H", FOOTER_SIZE))
        try:
            gaps = [span for span, _ in _entries(file, size)]
        except ValueError as ex:
            raise ValueError(f"{name} has no place for a checksum: {ex}") from ex
    digest = _digest(file, size, gaps)
    file.seek(size)
    file.write(b"\ntabattn-%s:%s\n" % (b"layout" if kind == "zip" else b"sha256", digest.encode()))
    return digest


def verify(path: str | Path) -> bool:
    """Verify the checksum in a file.

    Args:
        path: The file.

    Returns:
        True if it matches, False if the file has none.

    Raises:
        DataError: The checksum differs: the file is damaged, truncated or was changed.
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        kind, size = _kind(file), _size(file)
        try:
            whole = _verify_safetensors(file, size) if kind == "safetensors" else _verify_footer(file, size)
        except ValueError as ex:
            raise DataError(f"{path} is damaged: its content is not what its checksum says") from ex
        if whole is None and kind in ("zip", "hdf5") and _had_footer(file, size):
            raise DataError(f"{path} is damaged: its checksum cannot be read, or something was added behind it")
        if whole is False:
            raise DataError(f"{path} is damaged: its content is not what its checksum says")
        return whole is not None


def _verify_footer(file: BinaryIO, size: int) -> bool | None:
    """Whether a zip archive or HDF5 file matches its checksum; None where it has none."""
    if (found := _footer(file, size)) is None:
        return None
    of, stated = found
    size -= FOOTER_SIZE
    if of == "sha256":
        return _digest(file, size) == stated
    entries = list(_entries(file, size))
    if _digest(file, size, [span for span, _ in entries]) != stated:
        return False
    return all(_crc(file, span) == crc for span, crc in entries)


def _verify_safetensors(file: BinaryIO, size: int) -> bool | None:
    """Whether a safetensors file matches its checksum; None where it has none."""
    if (found := _entry(file)) is None:
        return None
    place, stated = found
    return _digest(file, size, [(place, place + len(PLACEHOLDER))], PLACEHOLDER) == stated


def _kind(file: BinaryIO) -> str | None:
    start = _at(file, 0, 9)
    if start.startswith(ZIP_START):
        return "zip"
    if start.startswith(HDF5_START):
        return "hdf5"
    return "safetensors" if start[8:] == b"{" else None


def _size(file: BinaryIO) -> int:
    return file.seek(0, 2)


def _at(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(max(0, start))
    return file.read(count)


def _footer(file: BinaryIO, size: int) -> tuple[str, str] | None:
    """Scope and text of the digest at the end of a file."""
    found = FOOTER.fullmatch(_at(file, size - FOOTER_SIZE, FOOTER_SIZE))
    return (found[1].decode(), found[2].decode("latin-1")) if found else None


def _entries(file: BinaryIO, size: int) -> Iterator[tuple[Span, int]]:
    """Yield byte range and CRC-32 of the contents of an archive's entries, in order of position.

    Raises:
        ValueError: The archive is damaged, or its entries are compressed.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    except (zipfile.BadZipFile, NotImplementedError, OverflowError, struct.error) as ex:
        raise ValueError(str(ex)) from ex
    reached = 0
    for entry in entries:
        head = _at(file, entry.header_offset, ZIP_ENTRY_SIZE)
        if entry.compress_type != zipfile.ZIP_STORED or not reached <= entry.header_offset <= size - ZIP_ENTRY_SIZE:
            raise ValueError("its entries are compressed or lie in one another")
        start = entry.header_offset + ZIP_ENTRY_SIZE + sum(struct.unpack("<HH", head[-4:]))
        reached = start + entry.file_size
        yield (start, reached), entry.CRC
    if reached > size:
        raise ValueError("it is cut short")


def _had_footer(file: BinaryIO, size: int) -> bool:
    """Whether a file has lost its checksum: it is before the end, or the end record declares a comment for it."""
    tail = _at(file, size - TAIL, TAIL)
    length = tail.rfind(ZIP_END) + ZIP_END_SIZE - 2
    announced = ZIP_END in tail and tail[length : length + 2] == struct.pack("<H", FOOTER_SIZE)
    return announced or FOOTER.search(tail) is not None


def _entry(file: BinaryIO) -> tuple[int, str] | None:
    """Position and text of the digest in the header of a safetensors file."""
    (length,) = struct.unpack("<Q", _at(file, 0, 8))
    header = _at(file, 8, min(length, MOST_HEADER))
    found = re.search(rb'"%s":"(.{64})"' % KEY.encode(), header, re.DOTALL)
    return (8 + found.start(1), found[1].decode("latin-1")) if found else None


def _seal_safetensors(file: BinaryIO, name: str) -> str:
    found = _entry(file)
    if found is None:
        raise ValueError(f"{name} has no place for a checksum: its metadata needs {KEY} = PLACEHOLDER")
    digest = _digest(file, _size(file), [(found[0], found[0] + len(PLACEHOLDER))], PLACEHOLDER)
    file.seek(found[0])
    file.write(digest.encode())
    return digest


def _digest(file: BinaryIO, size: int, gaps: Iterable[Span] = (), filler: str = "") -> str:
    """SHA-256 of the first ``size`` bytes of a file, with the filler in place of each gap."""
    digest = hashlib.sha256()
    start = 0
    for gap in gaps:
        for block in _blocks(file, (start, gap[0])):
            digest.update(block)
        digest.update(filler.encode())
        start = gap[1]
    for block in _blocks(file, (start, size)):
        digest.update(block)
    return digest.hexdigest()


def _crc(file: BinaryIO, span: Span) -> int:
    found = 0
    for block in _blocks(file, span):
        found = zlib.crc32(block, found)
    return found


def _blocks(file: BinaryIO, span: Span) -> Iterator[bytes]:
    start, stop = span
    file.seek(start)
    while start < stop and (block := file.read(min(BLOCK, stop - start))):
        yield block
        start += len(block)
