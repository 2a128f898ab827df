"""Atomic and durable files: a reader, or a crash at any moment, finds the whole old file or the whole new one."""

import contextlib
import errno
import glob
import importlib
import io
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tabattn.storage.checksum import seal

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
"""Errors of a disk that takes nothing more: full, over quota, file too large, input/output, read-only."""

TORCH_WRITER = ("PytorchStreamWriter failed", "unexpected pos")
"""How messages of ``torch.save`` begin or read where the disk beneath it failed."""

MOST_NAME = 200
"""Characters of a path in a message."""

PARTIAL = ".partial"
"""Ending of a file that is being written."""

FRESH = 60.0
"""Seconds for which an empty temporary file may have a writer that has not locked it yet."""


def write_file(path: str | Path, data: bytes | memoryview) -> None:
    """Write a file atomically: temporary file in the same folder, fsync, rename, fsync of the folder.

    Until the rename, whatever stood under the name stays. Temporary files that killed writers of this name left are
    removed first; those of living writers are locked and stay.

    Args:
        path: Target; its folder must exist.
        data: Content.

    Raises:
        OSError: The file cannot be written, such as on a full disk; nothing of it is left then.
    """
    path = Path(path)
    _clean(path)
    draft = path.parent / f".{path.name[:200]}.{secrets.token_hex(4)}{PARTIAL}"
    try:
        with open(draft, "xb") as file:
            try_lock(file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if path.exists():
                os.chmod(draft, path.stat().st_mode & 0o7777)
            os.replace(draft, path)
    except BaseException as ex:
        draft.unlink(missing_ok=True)
        if isinstance(ex, OSError) and ex.filename in (None, str(draft)):
            raise OSError(ex.errno, ex.strerror, str(path)) from ex
        raise
    _sync_folder(path.parent)


def write_checkpoint(path: str | Path, checkpoint: dict[str, Any]) -> None:
    """``torch.save`` into an atomic file with a checksum in it; see ``tabattn.storage.checksum``.

    The bytes are made in memory: the writer of torch turns a full disk into errors that do not say so. The CRC-32 of
    each entry, which torch can be told to leave out, is part of the checksum.
    """
    buffer = io.BytesIO()
    asked = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(True)
    try:
        torch.save(checkpoint, buffer)
    finally:
        torch.serialization.set_crc32_options(asked)
    seal(buffer)
    write_file(path, buffer.getbuffer())


def disk_problem(ex: BaseException | None) -> str | None:
    """Say in one line which disk error an exception comes from, None where none.

    Args:
        ex: Its causes and contexts are looked through too: libraries wrap such errors in others.
    """
    for link in _chain(ex):
        if isinstance(link, OSError) and link.errno in DISK:
            return f"{link.filename}: {link.strerror}" if link.filename else str(link.strerror)
        if isinstance(link, RuntimeError) and any(text in str(link) for text in TORCH_WRITER):
            return f"a file cannot be written: {str(link).partition(chr(10))[0]}"
    return None


def path_problem(ex: BaseException) -> str | None:
    """Say in one line which path cannot be used and why, None where an exception is about none.

    Such as a name that is too long, a folder that is a file, or one that may not be written. Unlike ``disk_problem``
    this looks at the exception alone: that a file is missing is often a harmless step on the way to another exception.
    """
    if not (isinstance(ex, OSError) and ex.strerror and ex.filename):
        return None
    name = os.fsdecode(ex.filename) if isinstance(ex.filename, (str, bytes)) else str(ex.filename)
    return f"{name if len(name) <= MOST_NAME else f'{name[:MOST_NAME]}...'}: {ex.strerror}"


def try_lock(descriptor: int) -> bool:
    """Take the advisory lock of an open file or folder for this process; False where another process has it.

    True also where the system or the file system knows no locks. The lock ends with the process, whatever ends that.
    """
    try:
        fcntl = importlib.import_module("fcntl")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return True
    return True


def _clean(path: Path) -> None:
    """Remove the temporary files of this name whose writers are gone."""
    for draft in glob.glob(f"{glob.escape(f'{path.parent}/.{path.name[:200]}.')}*{PARTIAL}"):
        with contextlib.suppress(OSError), open(draft, "rb") as file:
            facts = os.fstat(file.fileno())
            # A writer locks its file at once, but not in the same moment: what is new may be about to be locked.
            if try_lock(file.fileno()) and (facts.st_size or time.time() - facts.st_mtime > FRESH):
                os.unlink(draft)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system can open folders."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _chain(ex: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, then what it was raised from or while handling."""
    seen: set[int] = set()
    pending = [ex]
    while pending:
        link = pending.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            pending += [link.__context__, link.__cause__]
