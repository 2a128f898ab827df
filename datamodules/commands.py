"""Commands that write files of data: their exit status."""

import sys
from collections.abc import Callable

from tabattn.contract.errors import DataError, one_line


def status_of(command: Callable[[], None]) -> int:
    """Run a command that goes on where it was when it is given again, and return its exit status.

    Args:
        command: The command.

    Returns:
        0 done, 2 wrong use (ValueError), 3 data or disk error (DataError), 130 interrupted; what went wrong is one line
        on standard error.
    """
    try:
        command()
    except (ValueError, DataError) as ex:
        sys.stderr.write(f"error: {one_line(str(ex))}\n")
        return 2 if isinstance(ex, ValueError) else 3
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: give the same command again to go on\n")
        return 130
    return 0
