"""Commands that write files of data: their exit status, and where they may write."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tabattn.contract.errors import DataError, one_line


def status_of(command: Callable[[], None]) -> int:
    """Run a command that goes on where it was when it is given again, and return its exit status.

    Args:
        command: The command.

    Returns:
        0 done, 2 wrong use (ValueError), 3 data or disk error (DataError) or not enough memory, 130 interrupted; what
        went wrong is one line on standard error.
    """
    try:
        command()
    except (ValueError, DataError) as ex:
        sys.stderr.write(f"error: {one_line(str(ex))}\n")
        return 2 if isinstance(ex, ValueError) else 3
    except (MemoryError, RuntimeError) as ex:
        # PyTorch has no class of its own for this.
        if isinstance(ex, RuntimeError) and "allocate memory" not in str(ex):
            raise
        sys.stderr.write(f"error: not enough memory: {one_line(str(ex))}\n")
        return 3
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: give the same command again to go on\n")
        return 130
    return 0


def check_target(path: Path, overwrite: bool) -> None:
    """Check that a file may be written, before anything is computed for it.

    Raises:
        ValueError: There is one already, or something that is no file.
        DataError: There can be none of that name, or its folder cannot be written to.
    """
    try:
        there, file = path.exists(), path.is_file()
    except OSError as ex:
        raise DataError(f"{path} cannot be written: {ex.strerror}") from ex
    if there and not file:
        raise ValueError(f"{path} is no file: give another name")
    if there and not overwrite:
        raise ValueError(f"{path} exists: give another name, or --overwrite")
    try:
        # Where the folder is still to be made, the one that it will be in.
        with tempfile.TemporaryFile(dir=next(each for each in path.parents if each.exists())):
            pass
    except OSError as ex:
        raise DataError(f"{path} cannot be written: {ex.strerror}") from ex
