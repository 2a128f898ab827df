"""Writing HDF5 files so that a full disk or a signal cannot crash the library or leave half a file under its name.

The HDF5 library cannot recover from a write that fails: it keeps the data, tries again when the file is closed and when
the process ends, and then dies with signal 11. Therefore it writes to memory here (``WriteBuffer``), and what it wrote
is saved to the disk in between, outside the library, where an error is an ordinary OSError.
"""

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, NamedTuple

import h5py

from tabattn.contract.errors import DataError
from tabattn.storage.checksum import seal

PAGE = 4096
"""Bytes of the pieces in which changes to saved parts of a file are kept."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class WriteBuffer:
    """A write-back buffer between the HDF5 library and a file: ``save`` writes to the disk, nothing else does.

    It has the methods that h5py's driver for file-like objects calls. The buffer holds what was written since the
    last ``save``: the tail behind the saved part of the file, and changed pages within it.

    Args:
        raw: The file, opened for reading and writing without a buffer of its own.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.saved = raw.seek(0, os.SEEK_END)
        self.tail = bytearray()
        self.pages: dict[int, bytearray] = {}
        self.place = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset from the start, from here, or from the end."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.saved + len(self.tail)}
        self.place = origin[whence] + offset
        return self.place

    def tell(self) -> int:
        """The place of the next byte."""
        return self.place

    def read(self, count: int) -> bytes:
        """Read bytes from here on; fewer at the end of the file."""
        start, stop = self.place, self.place + count
        content = bytearray(self._on_disk(start, min(stop, self.saved)))
        for page in range(start // PAGE, -(-min(stop, self.saved) // PAGE)):
            if page in self.pages:
                first, last = max(start, page * PAGE), min(stop, self.saved, (page + 1) * PAGE)
                content[first - start : last - start] = self.pages[page][first - page * PAGE : last - page * PAGE]
        if stop > self.saved:
            content += self.tail[max(0, start - self.saved) : stop - self.saved]
        self.place += len(content)
        return bytes(content)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from here on; return the number of bytes."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def write(self, content: Any) -> int:
        """Take bytes over any that are here."""
        data = memoryview(content).cast("B")
        start, stop = self.place, self.place + len(data)
        for page in range(start // PAGE, -(-min(stop, self.saved) // PAGE)):
            first, last = max(start, page * PAGE), min(stop, self.saved, (page + 1) * PAGE)
            held = self.pages.get(page) or self._load(page)
            held[first - page * PAGE : last - page * PAGE] = data[first - start : last - start]
        if stop > self.saved:
            first = max(start, self.saved)
            self.tail.extend(bytes(max(0, first - self.saved - len(self.tail))))
            self.tail[first - self.saved : stop - self.saved] = data[first - start :]
        self.place = stop
        return len(data)

    def truncate(self, size: int) -> int:
        """Cut the file, or extend it with zeros."""
        if size < self.saved:
            self.saved = size
            self.tail.clear()
            self.pages = {page: held for page, held in self.pages.items() if page * PAGE < size}
        else:
            del self.tail[size - self.saved :]
            self.tail.extend(bytes(size - self.saved - len(self.tail)))
        return size

    def flush(self) -> None:
        """Nothing: the library's flush is no reason to write."""

    def save(self) -> None:
        """Write to the disk what the library wrote since the last time: first what is new, then what changed.

        Raises:
            OSError: It cannot be written. If new data found no place, the file is still what was last saved.
        """
        try:
            self._put(self.saved, self.tail)
        except OSError:
            with suppress(OSError):
                self.raw.truncate(self.saved)
            raise
        for page in sorted(self.pages):
            self._put(page * PAGE, memoryview(self.pages[page])[: self.saved - page * PAGE])
        self.saved += len(self.tail)
        self.tail = bytearray()
        self.pages.clear()
        self.raw.truncate(self.saved)

    def _load(self, page: int) -> bytearray:
        content = self._on_disk(page * PAGE, min((page + 1) * PAGE, self.saved))
        self.pages[page] = bytearray(content.ljust(PAGE, b"\0"))
        return self.pages[page]

    def _on_disk(self, start: int, stop: int) -> bytes:
        if stop <= start:
            return b""
        self.raw.seek(start)
        return self.raw.read(stop - start).ljust(stop - start, b"\0")

    def _put(self, start: int, content: Any) -> None:
        rest = memoryview(content)
        self.raw.seek(start)
        while rest:
            rest = rest[self.raw.write(rest) :]


class Part(NamedTuple):
    """An HDF5 file that is being written: what the library has of it, and what the disk has."""

    file: h5py.File
    buffer: WriteBuffer

    def save(self) -> None:
        """Bring the disk up to date; see ``WriteBuffer.save``."""
        self.file.flush()
        self.buffer.save()


@contextmanager
def writing(path: Path, *, fresh: bool) -> Iterator[Part]:
    """Open an HDF5 file for writing, which no other process may do at the same time.

    What was not saved is lost where the block is left by an exception; otherwise the rest is saved at its end.

    Args:
        path: The file.
        fresh: Whether to begin anew, rather than to go on with what is there.

    Raises:
        BlockingIOError: Another process is writing it.
        OSError: It cannot be read or written.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as raw:
        fcntl.flock(raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if fresh:
            raw.truncate(0)
        buffer = WriteBuffer(raw)
        with signals_held():
            file = h5py.File(buffer, "w" if fresh else "r+")
        try:
            yield Part(file, buffer)
        finally:
            with signals_held():
                file.close()
        with signals_held():
            buffer.save()


@contextmanager
def signals_held() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP wait for the end of the block, if this program handles them in Python.

    An exception that a handler raises within a call of the HDF5 library is an error of the disk to it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda received, frame: held.append((received, frame)))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for received, frame in held[:1]:
        handlers[signal.Signals(received)](received, frame)


@contextmanager
def in_one_piece(path: Path, unfinished: Path) -> Iterator[None]:
    """Give a file that is written inside its checksum and its name when it is whole and on the disk, and not before.

    Args:
        path: Its name; whatever bears it is replaced.
        unfinished: Its name while it is written, in the same folder, which is made.

    Raises:
        DataError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
        seal(unfinished)
        with unfinished.open("rb") as raw:
            os.fsync(raw.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except BlockingIOError as ex:
        raise DataError(f"{unfinished} is being written by another process") from ex
    except OSError as ex:
        reason = ex.strerror or str(ex).partition("\n")[0]
        raise DataError(f"{path} cannot be written: {reason}") from ex


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
