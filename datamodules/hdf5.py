"""HDF5 reader for files of any origin: a handle for each process, and one-line errors for damaged files.

A file with a checksum is verified before the library parses anything. A file without one is first read in a subprocess
with a time limit, as the library hangs on some damaged files and crashes on others.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py

from datamodules import hdf5_probe
from tabattn.contract.errors import DataError
from tabattn.storage.checksum import verify

REASONS = (
    ("truncated", "it is cut short"),
    ("signature not found", "it is not an HDF5 file"),
    ("unable to lock", "another process is writing it"),
    ("resource temporarily", "another process is writing it"),
    ("filter returned failure", "its content is damaged: a checksum does not match"),
)
"""Parts of the HDF5 library's messages, and their meanings."""

TIME_LIMIT = 60.0
"""Most seconds that the probe of a file without a checksum may take."""

MOST_RATIO = 10_000
"""Largest declared size of an array, as a multiple of its bytes in the file."""

SEALED = "sealed"
"""Attribute of a file that was written with a checksum; if the checksum is missing, the file is truncated."""


class Reader:
    """Lazy HDF5 file handle, opened at first use in each process.

    Args:
        path: Path of the file.
        advice: What to do about an unreadable file, as the end of the message.
    """

    def __init__(self, path: str | Path, advice: str = "") -> None:
        self.path = Path(path)
        self.advice = advice
        self.handle: h5py.File | None = None
        self.owner = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "handle": None, "owner": 0}

    def file(self) -> h5py.File:
        """Open ``h5py.File``."""
        if self.handle is None or self.owner != os.getpid():
            self.handle = h5py.File(self.path, "r")
            self.owner = os.getpid()
        return self.handle

    @contextmanager
    def checked(self, *, unfinished: bool = False) -> Iterator[h5py.File]:
        """Verify the checksum, then open the file.

        Args:
            unfinished: Whether the checksum may be missing, as in a file still being written.

        Raises:
            DataError: The file is damaged, or cannot be read.
        """
        try:
            whole = _meet(self.path)
        except OSError as ex:
            raise DataError(f"{self.path} cannot be read: {ex.strerror}{self.advice}") from ex
        except DataError as ex:
            raise DataError(f"{ex}{self.advice}") from ex
        with self.explained(), h5py.File(self.path, "r") as file:
            if SEALED in file.attrs and not (whole or unfinished):
                raise DataError("its checksum is gone: the file is cut short, or another program changed it")
            yield file

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Context that turns errors of the HDF5 library into one-line errors that name the file.

        Raises:
            DataError: The file cannot be read, or the block raised an error about its content.
        """
        try:
            yield
        except DataError as ex:
            raise DataError(f"{self.path} cannot be used: {ex}{self.advice}") from ex
        except MemoryError as ex:
            raise DataError(f"{self.path} cannot be read: it needs more memory than there is{self.advice}") from ex
        except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as ex:
            text = str(ex)
            reason = next((meaning for part, meaning in REASONS if part in text.lower()), text.partition("\n")[0])
            raise DataError(f"{self.path} cannot be read: {reason}{self.advice}") from ex


def array(group: h5py.Group, name: str, kinds: str, dimensions: int | None = None) -> h5py.Dataset:
    """Return a dataset of a file, checked for type, dimensions and declared size.

    Args:
        group: Group that holds it.
        name: Its name.
        kinds: Allowed NumPy dtype kinds, such as ``"iu"``.
        dimensions: Required number of dimensions; None = any.

    Raises:
        DataError: It is missing or of another type, empty, in an external file, or declares far more than the file
            holds.
    """
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise DataError(f"{name} is a link to something else, not an array of this file")
    found = group[name]
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{name} is no array")
    if found.dtype.kind not in kinds:
        raise DataError(f"{name} is of the type {found.dtype}, which is none that can stand here")
    if found.shape is None or (dimensions is not None and found.ndim != dimensions):
        raise DataError(f"{name} must have {dimensions} dimensions, its shape is {found.shape}")
    if found.is_virtual or found.external:
        raise DataError(f"{name} is kept in other files")
    _check_filters(found, name)
    held = found.id.get_storage_size()
    if not found.size or found.nbytes > MOST_RATIO * held:
        raise DataError(f"{name} declares {found.shape} entries, but the file holds {held} bytes of them")
    return found


def missing_chunks(found: h5py.Dataset) -> int:
    """Number of chunks of a dataset that were never written and would be read as fill values."""
    if not found.chunks or found.shape is None:
        return 0
    expected = 1
    for length, chunk in zip(found.shape, found.chunks, strict=True):
        expected *= -(-length // chunk)
    return int(expected - found.id.get_num_chunks())


def _check_filters(found: h5py.Dataset, name: str) -> None:
    described = found.id.get_create_plist()
    for number in range(described.get_nfilters()):
        code = described.get_filter(number)[0]
        if not h5py.h5z.filter_avail(code):
            raise DataError(f"{name} is compressed by HDF5's filter {code}, which is not installed: use gzip or lzf")


def _meet(path: Path) -> bool:
    """Whether a file has a matching checksum; a file without one is first read by the probe, in another process."""
    state = path.stat()
    return _meet_once(path, state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _meet_once(path: Path, *state: int) -> bool:
    if verify(path):
        return True
    command = [sys.executable, "-P", hdf5_probe.__file__, str(path)]
    try:
        done = subprocess.run(command, timeout=TIME_LIMIT, capture_output=True, check=False)
    except subprocess.TimeoutExpired as ex:
        raise DataError(f"{path} is damaged: the HDF5 library did not read its structure in {TIME_LIMIT:g} s") from ex
    if done.returncode < 0:
        raise DataError(f"{path} is damaged: the HDF5 library crashes on it (signal {-done.returncode})")
    return False
