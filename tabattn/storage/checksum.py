"""Checksums (SHA-256) inside the files that this project writes, verified before a file is parsed.

A writer calls ``seal`` on the finished file, before it is synced and renamed; a reader calls ``verify`` before it hands
the file to a library. The digest covers the whole file but itself, and every other program still reads the file:

==============  =====================================  ==========================================
File            Where the digest stands                What it covers
==============  =====================================  ==========================================
``.ckpt``       comment of the zip archive             all bytes before the comment
``.h5``         behind the end that HDF5 records       all bytes before it
``.safetensors``  entry ``sha256`` of ``__metadata__``   all bytes, with zeros in place of the digest
==============  =====================================  ==========================================

Files of other programs, and files written before there was a checksum, have none: ``verify`` returns False for them.
"""

import hashlib
import re
import struct
from pathlib import Path
from typing import BinaryIO

from tabattn.contract.errors import DataError

KEY = "sha256"
"""Name of the digest in the metadata of a safetensors file."""

PLACEHOLDER = "0" * 64
"""What a safetensors file must hold under ``KEY`` before it is sealed."""

FOOTER = re.compile(rb"\ntabattn-sha256:(.{64})\n", re.DOTALL)
FOOTER_SIZE = 81

ZIP_START, ZIP_END = b"PK\x03\x04", b"PK\x05\x06"
ZIP_END_SIZE = 22
"""Bytes of a zip archive's end record, whose last two hold the length of the comment."""

TAIL = 1 << 16
"""Bytes at the end of a file in which a checksum is looked for that is not where it should be."""

HDF5_START = b"\x89HDF\r\n\x1a\n"

MOST_HEADER = 100_000_000
"""Largest header of a safetensors file, in bytes, as in its own library."""

BLOCK = 1 << 20


def seal(target: str | Path | BinaryIO) -> str:
    """Put the checksum into a finished file: a zip archive (``torch.save``), HDF5, or safetensors with ``PLACEHOLDER``.

    A file that has one already gets it anew. The file is changed in place, so call this before the file has its name.

    Args:
        target: The file: its path, or an open file for reading and writing, such as an ``io.BytesIO``.

    Returns:
        The SHA-256, in hexadecimal digits.

    Raises:
        OSError: The file cannot be written, for example because the disk is full.
        ValueError: The file is of no known kind, or has no place for a checksum.
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
    if kind == "zip":
        end = _at(file, size - ZIP_END_SIZE, ZIP_END_SIZE)
        if not end.startswith(ZIP_END):
            raise ValueError(f"{name} is a zip archive with a comment of another program, or is cut short")
        file.seek(size - 2)
        file.write(struct.pack("<H", FOOTER_SIZE))
    digest = _digest(file, size)
    file.seek(size)
    file.write(b"\ntabattn-sha256:%s\n" % digest.encode())
    return digest


def verify(path: str | Path) -> bool:
    """Compare a file with the checksum in it.

    Args:
        path: The file.

    Returns:
        True where it matches, False where the file has none.

    Raises:
        DataError: The file is not what was written: it is damaged, cut short, or was changed.
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        kind, size = _kind(file), _size(file)
        if kind == "safetensors":
            found = _entry(file)
            stated, hidden = (None, None) if found is None else (found[1], found[0])
        else:
            stated, hidden = _footer(file, size), None
            size -= 0 if stated is None else FOOTER_SIZE
        if stated is None:
            if kind in ("zip", "hdf5") and _had_footer(file, size):
                raise DataError(f"{path} is damaged: its checksum cannot be read, or something was added behind it")
            return False
        if _digest(file, size, hidden) != stated:
            raise DataError(f"{path} is damaged: its content is not what its checksum says")
        return True


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


def _footer(file: BinaryIO, size: int) -> str | None:
    found = FOOTER.fullmatch(_at(file, size - FOOTER_SIZE, FOOTER_SIZE))
    return found[1].decode("latin-1") if found else None


def _had_footer(file: BinaryIO, size: int) -> bool:
    """Whether a checksum stands before the end, or an archive's end record promises a comment of its length."""
    tail = _at(file, size - TAIL, TAIL)
    length = tail.rfind(ZIP_END) + ZIP_END_SIZE - 2
    announced = ZIP_END in tail and tail[length : length + 2] == struct.pack("<H", FOOTER_SIZE)
    return announced or FOOTER.search(tail) is not None


def _entry(file: BinaryIO) -> tuple[int, str] | None:
    """Place and text of the digest in the header of a safetensors file."""
    (length,) = struct.unpack("<Q", _at(file, 0, 8))
    header = _at(file, 8, min(length, MOST_HEADER))
    found = re.search(rb'"%s":"(.{64})"' % KEY.encode(), header, re.DOTALL)
    return (8 + found.start(1), found[1].decode("latin-1")) if found else None


def _seal_safetensors(file: BinaryIO, name: str) -> str:
    found = _entry(file)
    if found is None:
        raise ValueError(f"{name} has no place for a checksum: its metadata needs {KEY} = PLACEHOLDER")
    digest = _digest(file, _size(file), found[0])
    file.seek(found[0])
    file.write(digest.encode())
    return digest


def _digest(file: BinaryIO, size: int, hidden: int | None = None) -> str:
    """SHA-256 of the first bytes of a file, with zeros in place of a digest that begins at ``hidden``."""
    digest = hashlib.sha256()
    pieces = [(0, size)]
    if hidden is not None:
        pieces = [(0, hidden), (hidden + len(PLACEHOLDER), size)]
    for number, (start, stop) in enumerate(pieces):
        if number:
            digest.update(PLACEHOLDER.encode())
        file.seek(start)
        while start < stop:
            block = file.read(min(BLOCK, stop - start))
            if not block:
                break
            digest.update(block)
            start += len(block)
    return digest.hexdigest()
