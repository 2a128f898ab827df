"""HDF5 files, whatever they hold: read by each process for itself, and written in one piece or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from tabattn.errors import DataError

REASONS = (
    ("truncated", "it is cut short"),
    ("signature not found", "it is not an HDF5 file"),
    ("unable to lock", "another process is writing it"),
    ("resource temporarily", "another process is writing it"),
    ("filter returned failure", "its content is damaged: a checksum does not match"),
)
"""Parts of the library's messages, and what they mean."""


class Reader:
    """A file to read; opened when first used, once in every process.

    Args:
        path: The file.
        advice: What to do where it cannot be read, for the end of the message.
    """

    def __init__(self, path: str | Path, advice: str = "") -> None:
        self.path = Path(path)
        self.advice = advice
        self.handle: h5py.File | None = None
        self.owner = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "handle": None, "owner": 0}

    def file(self) -> h5py.File:
        """The open file."""
        if self.handle is None or self.owner != os.getpid():
            self.handle = h5py.File(self.path, "r")
            self.owner = os.getpid()
        return self.handle

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Report whatever the library finds wrong in one message that names the file.

        Raises:
            DataError: The file cannot be read; or whoever reads it found that it cannot be used.
        """
        try:
            yield
        except DataError as ex:
            raise DataError(f"{self.path} cannot be used: {ex}") from ex
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as ex:
            text = str(ex)
            reason = next((meaning for part, meaning in REASONS if part in text.lower()), text.partition("\n")[0])
            raise DataError(f"{self.path} cannot be read: {reason}{self.advice}") from ex


@contextmanager
def in_one_piece(path: Path, unfinished: Path) -> Iterator[None]:
    """Give a file that is written inside its name when it is whole and on the disk, and not before.

    Args:
        path: Its name; whatever bears it is replaced.
        unfinished: Its name while it is written, in the same folder, which is made.

    Raises:
        DataError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
        with unfinished.open("rb") as raw:
            os.fsync(raw.fileno())
        os.replace(unfinished, path)
    except BlockingIOError as ex:
        raise DataError(f"{unfinished} is being written by another process") from ex
    except OSError as ex:
        raise DataError(f"{path} cannot be written: {ex}") from ex
