"""Argument checks: a ValueError whose message names the value and its bound."""

import difflib
import re
from collections.abc import Iterable
from typing import Any, Never


def check_range(name: str, bounds: tuple[int, int], least: int) -> None:
    """Raise ValueError unless ``least <= bounds[0] <= bounds[1]``."""
    if not least <= bounds[0] <= bounds[1]:
        raise ValueError(f"{name} must be two numbers, {least} <= fewest <= most, got {list(bounds)}")


def check_shares(name: str, bounds: tuple[float, float]) -> None:
    """Raise ValueError unless ``0 < bounds[0] <= bounds[1] < 1``."""
    if not 0 < bounds[0] <= bounds[1] < 1:
        raise ValueError(f"{name} must be two shares, 0 < smallest <= largest < 1, got {list(bounds)}")


def check_least(**values: tuple[int, int]) -> None:
    """Raise ValueError unless each value is at least its bound; arguments are ``name=(value, bound)``."""
    for name, (value, least) in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def check_seed(seed: int) -> None:
    """Raise ValueError unless a seed is one that NumPy and scikit-learn take."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be at least 0 and below 2**32, got {seed}")


def check_expression(name: str, expression: str | None) -> None:
    """Raise ValueError unless a regular expression can be read; None = there is none."""
    try:
        re.compile(expression or "")
    except re.error as ex:
        raise ValueError(f"{name} must be a regular expression, got {expression!r}: {ex}") from ex


def nearest(name: str, names: Iterable[str]) -> str:
    """Return " (did you mean ...?)" for the known name nearest to a misspelt one, empty where none is near."""
    spellings = {str(known).lower(): str(known) for known in names}
    matches = difflib.get_close_matches(name.lower(), spellings, n=1)
    return f" (did you mean {spellings[matches[0]]!r}?)" if matches else ""


def listed(names: Iterable[str], most: int = 20) -> str:
    """Return column names as the end of a message, at most ``most`` of them."""
    names = list(map(str, names))
    return f"; columns: {', '.join(names[:most])}" + (f" and {len(names) - most} more" if len(names) > most else "")


class NotInCheckpoints:
    """Mixin of datamodules that cannot be loaded from a checkpoint: their arguments are in ``config.yaml`` only.

    Lightning's ``load_from_checkpoint`` would build one with default arguments, or import class paths from an untrusted
    file.
    """

    @classmethod
    def load_from_checkpoint(cls, *args: Any, **kwargs: Any) -> Never:
        """Refuse to load a datamodule from a checkpoint.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"checkpoints hold no arguments of {cls.__name__}: build it by those of the run's config.yaml")
