"""Exceptions and warnings whose message is shown to the user without a traceback."""

import sys
from collections.abc import Iterator


class DataError(Exception):
    """Data error: data cannot be read, fetched or understood; the message says what to do about it."""


class DivergenceError(Exception):
    """Divergence of a training: its loss, gradient or weights are NaN or infinite."""


class TableWarning(UserWarning):
    """Warning about a table: something was guessed or could not be read; the message names column or file.

    Silence it with ``warnings.simplefilter("ignore", TableWarning)``.
    """


def outside() -> int:
    """``stacklevel`` of a warning of the calling function: that of the innermost line outside the package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]:
        level, frame = level + 1, frame.f_back
    return level


def message_of(ex: Exception) -> str:
    """Return an exception's message, also where a worker process of a data loader raised it.

    The loader raises such an exception again in the training process, with the worker's traceback as its message.
    """
    text = str(ex)
    _, raised, message = text.rpartition(f"\n{type(ex).__module__}.{type(ex).__qualname__}: ")
    return message.strip() if raised and text.startswith("Caught ") else text


def chained(ex: BaseException | None, *, contexts: bool = False) -> Iterator[BaseException]:
    """Yield an exception and those in its chain, each once: causes and contexts may refer to one another in a circle.

    Args:
        ex: The exception; None = none.
        contexts: Whether to follow exceptions that were being handled (``__context__``) too, after the causes.
    """
    seen: set[int] = set()
    pending = [ex]
    while pending:
        link = pending.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            pending += [link.__context__ if contexts else None, link.__cause__]


MOST_MESSAGE = 600
"""Most characters of a message; it may quote a value of any length from a file."""


def one_line(text: str) -> str:
    """Return a message on one line, shortened in the middle beyond ``MOST_MESSAGE`` characters."""
    line = " ".join(text.split())
    half = MOST_MESSAGE // 2
    return line if len(line) <= MOST_MESSAGE else f"{line[:half]} ... {line[-half:]}"
