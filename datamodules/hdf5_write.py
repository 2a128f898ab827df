"""HDF5 writer: atomic, and safe from crashes of the library on a full disk or a signal.

The HDF5 library cannot recover from a write that fails: it keeps the data, tries again when the file is closed and when
the process ends, and then dies with signal 11. Therefore it writes to memory here (``WriteBuffer``), which is saved to
disk outside the library, where an error is an ordinary OSError.
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
"""Page size in bytes of the changes to saved parts of a file."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class WriteBuffer:
    """Write-back buffer between the HDF5 library and a file; only ``save`` writes to the disk.

    It has the methods that h5py's driver for file-like objects calls. The buffer holds what was written since the
    last ``save``: the tail, which is the bytes appended to the saved part of the file, and changed pages of the saved
    part. It takes memory until ``save``.

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
        """Seek to an offset from the start, the current position or the end."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.saved + len(self.tail)}
        self.place = origin[whence] + offset
        return self.place

    def tell(self) -> int:
        """Current position."""
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
        """Write bytes at the current position, into memory."""
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
        """Truncate the file, or extend it with zeros."""
        if size < self.saved:
            self.saved = size
            self.tail.clear()
            self.pages = {page: held for page, held in self.pages.items() if page * PAGE < size}
        else:
            del self.tail[size - self.saved :]
            self.tail.extend(bytes(size - self.saved - len(self.tail)))
        return size

    def flush(self) -> None:
        """Do nothing: only ``save`` writes to the disk."""

    def save(self) -> None:
        """Write all changes since the last save to the disk: first the new tail, then changed pages.

        Raises:
            OSError: The disk cannot be written. If there was no space for the tail, the file is as last saved, or what
                ``truncate`` has left of that.
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
    """HDF5 file being written: the handle of the library, and its buffer."""

    file: h5py.File
    buffer: WriteBuffer

    def save(self) -> None:
        """Save the buffer to the disk; see ``WriteBuffer.save``."""
        self.file.flush()
        self.buffer.save()


@contextmanager
def writing(path: Path, *, fresh: bool) -> Iterator[Part]:
    """Context that opens an HDF5 file for exclusive writing.

    The rest is saved at the end of the block; after an exception, changes since the last save are lost.

    Args:
        path: The file.
        fresh: Whether to start an empty file rather than append to the existing one.

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
    """Context that defers SIGINT, SIGTERM and SIGHUP to its end, if Python code handles them.

    The HDF5 library takes an exception of a handler within its calls for a disk error.
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
    """Context of an atomic write: the file is written under another name, sealed, synced and then renamed.

    Args:
        path: Final path; an existing file is replaced.
        unfinished: Path while it is written, in the same folder, which is created.

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


@contextmanager
def whole_file(path: Path) -> Iterator[Part]:
    """Context of an atomic write that is not gone on with: what is unfinished is removed where it fails.

    Args:
        path: Final path; an existing file is replaced.

    Raises:
        DataError: The file cannot be written, or another process writes it.
    """
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        with in_one_piece(path, unfinished), writing(unfinished, fresh=True) as part:
            yield part
    except BaseException as ex:
        if not isinstance(ex.__cause__, BlockingIOError):
            with suppress(OSError):
                unfinished.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
