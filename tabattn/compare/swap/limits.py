"""Limits of the measurements of a swap table."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of the measurements.

    Args:
        rounds: Timed predictions of each mechanism, in turns.
        seconds: Time of a mechanism after which it is not timed again.
        longest: Longest prediction in seconds; a mechanism that would take longer, by its time at fewer rows, is left
            out.
        memory: Most memory of a prediction in 2**20 bytes; None = no limit.
    """

    rounds: int = 5
    seconds: float = 20.0
    longest: float = 600.0
    memory: float | None = None


def half_of_memory() -> float:
    """Half of the memory of this machine, in 2**20 bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**21
