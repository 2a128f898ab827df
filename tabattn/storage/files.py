"""Atomic and durable file writes: after a crash at any moment either the old or the new file is complete."""

import contextlib
import errno
import glob
import importlib
import io
import os
import secrets
import time
from pathlib import Path
from typing import Any

import torch

from tabattn.contract.errors import chained
from tabattn.storage.checksum import seal

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
"""Error numbers of a disk that cannot be written: full, over quota, file too large, input/output error, read-only."""

TORCH_WRITER = ("PytorchStreamWriter failed", "unexpected pos")
"""Parts of the messages of ``torch.save`` when the disk failed."""

MOST_NAME = 200
"""Most characters of a path in a message."""

PARTIAL = ".partial"
"""Suffix of a temporary file."""

FRESH = 60.0
"""Age in seconds up to which an empty temporary file may belong to a writer that has not locked it yet."""


def write_file(path: str | Path, data: bytes | memoryview) -> None:
    """Write a file atomically: temporary file in the same folder, fsync, rename, fsync of the folder.

    The old file stays until the rename. Temporary files of killed writers of the same name are removed first; those of
    running writers are locked and stay.

    Args:
        path: Target; its folder must exist.
        data: Content.

    Raises:
        OSError: The file cannot be written, for example on a full disk; no temporary file is left.
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
    """Atomic ``torch.save`` with a checksum in the file; see ``tabattn.storage.checksum``.

    The file is serialised in memory first, as torch's errors do not name a full disk as their cause. The CRC-32 of each
    entry is part of the checksum, so it is switched on in torch.
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
    """Describe the disk error behind an exception in one line; None if there is none.

    Args:
        ex: The exception; its causes and contexts are searched too, as libraries wrap such errors.
    """
    for link in chained(ex, contexts=True):
        if isinstance(link, OSError) and link.errno in DISK:
            return f"{link.filename}: {link.strerror}" if link.filename else str(link.strerror)
        if isinstance(link, RuntimeError) and any(text in str(link) for text in TORCH_WRITER):
            return f"a file cannot be written: {str(link).partition(chr(10))[0]}"
    return None


def path_problem(ex: BaseException) -> str | None:
    """Describe the unusable path that an exception is about in one line; None if it is about none.

    Examples: a name that is too long, a file in place of a folder, a missing permission. Unlike ``disk_problem`` this
    ignores causes and contexts, where a missing file is often harmless.
    """
    if not (isinstance(ex, OSError) and ex.strerror and ex.filename):
        return None
    name = os.fsdecode(ex.filename) if isinstance(ex.filename, (str, bytes)) else str(ex.filename)
    return f"{name if len(name) <= MOST_NAME else f'{name[:MOST_NAME]}...'}: {ex.strerror}"


def try_lock(descriptor: int) -> bool:
    """Try to take an advisory lock on an open file or folder; False if another process holds it.

    Also True if the system or the file system has no locks. The lock ends with the process, even if that is killed.
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
            # A writer creates its file and then locks it: a new, empty one may be between the two.
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
