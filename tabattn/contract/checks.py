"""What arguments of datamodules must satisfy, said with the value and the bound."""

import difflib
from collections.abc import Iterable
from typing import Any, Never


def check_range(name: str, bounds: tuple[int, int], least: int) -> None:
    """Raise ValueError unless ``least <= bounds[0] <= bounds[1]``."""
    if not least <= bounds[0] <= bounds[1]:
        raise ValueError(f"{name} must be two numbers, {least} <= fewest <= most, got {list(bounds)}")


def check_shares(name: str, bounds: tuple[float, float]) -> None:
    """Raise ValueError unless both bounds are shares, in order, and neither nothing nor all."""
    if not 0 < bounds[0] <= bounds[1] < 1:
        raise ValueError(f"{name} must be two shares, 0 < smallest <= largest < 1, got {list(bounds)}")


def check_least(**values: tuple[int, int]) -> None:
    """Raise ValueError unless each value is at least its bound; values and bounds by the value's name."""
    for name, (value, least) in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def nearest(name: str, names: Iterable[str]) -> str:
    """Propose the name that a misspelt one is closest to; nothing where none is."""
    spellings = {str(known).lower(): str(known) for known in names}
    matches = difflib.get_close_matches(name.lower(), spellings, n=1)
    return f" (did you mean {spellings[matches[0]]!r}?)" if matches else ""


def listed(names: Iterable[str], most: int = 20) -> str:
    """List the names of columns for the end of a message, the first ones where there are many."""
    names = list(map(str, names))
    return f"; columns: {', '.join(names[:most])}" + (f" and {len(names) - most} more" if len(names) > most else "")


class NotInCheckpoints:
    """Mixin of datamodules whose arguments are in no checkpoint, but in the ``config.yaml`` of the run.

    ``LightningDataModule.load_from_checkpoint`` would build one by default arguments, or by those of a strange file,
    whose class paths it imports.
    """

    @classmethod
    def load_from_checkpoint(cls, *args: Any, **kwargs: Any) -> Never:
        """Refuse to read a checkpoint.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"checkpoints hold no arguments of {cls.__name__}: build it by those of the run's config.yaml")
