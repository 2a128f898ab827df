"""Errors with a message for the user in the place of a traceback."""


class DataError(Exception):
    """Data cannot be read, fetched or understood; the message says what to do about it."""


class DivergenceError(Exception):
    """A training has diverged: its loss, its gradient or its weights are NaN or infinite."""


class TableWarning(UserWarning):
    """A table was read by a guess, or something in it could not be read; the message names the column or the file.

    Silence it with ``warnings.simplefilter("ignore", TableWarning)``.
    """


def message_of(ex: Exception) -> str:
    """Return the message an exception was raised with, also where a data loader's worker process raised it.

    The loader raises such an exception again in the training process, with the worker's traceback as its message.
    """
    text = str(ex)
    _, raised, message = text.rpartition(f"\n{type(ex).__module__}.{type(ex).__qualname__}: ")
    return message.strip() if raised and text.startswith("Caught ") else text


MOST_MESSAGE = 600
"""Characters of a message, which may quote a value of any length from a file."""


def one_line(text: str) -> str:
    """A message in one line, its middle left out where it is longer than ``MOST_MESSAGE``."""
    line = " ".join(text.split())
    half = MOST_MESSAGE // 2
    return line if len(line) <= MOST_MESSAGE else f"{line[:half]} ... {line[-half:]}"
