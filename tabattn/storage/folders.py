"""Atomic writes of folders: after a crash at any moment the folder is there as a whole, or not at all."""

import contextlib
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tabattn.storage.files import FRESH, PARTIAL, try_lock


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Context that fills a folder; at its end the folder gets its name, unless another process has made it meanwhile.

    What killed writers of the same name have left behind is removed first; that of running ones is locked and stays.

    Args:
        path: The folder to make; its parents are made too.

    Yields:
        The folder to write into, beside the target.

    Raises:
        OSError: It cannot be written; nothing is left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clean(path)
    draft = Path(tempfile.mkdtemp(PARTIAL, f".{path.name[:200]}.", path.parent))
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        try_lock(descriptor)
        os.chmod(draft, 0o777 & ~_umask())
        yield draft
        try:
            os.rename(draft, path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        os.close(descriptor)
        shutil.rmtree(draft, ignore_errors=True)


def _umask() -> int:
    """Bits of permissions that this process leaves out."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _clean(path: Path) -> None:
    """Remove the drafts of this name whose writers are gone."""
    for draft in glob.glob(f"{glob.escape(f'{path.parent}/.{path.name[:200]}.')}*{PARTIAL}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(draft, os.O_RDONLY | os.O_DIRECTORY)
            try:
                # A writer makes its folder and then locks it: a new one may be between the two.
                if try_lock(descriptor) and time.time() - os.fstat(descriptor).st_mtime > FRESH:
                    shutil.rmtree(draft, ignore_errors=True)
            finally:
                os.close(descriptor)
