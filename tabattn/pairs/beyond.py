"""Locations beyond the range of training."""

from tabattn.contract.batches import Scaling

MARGIN = 0.01
"""Tolerated distance of a location from the range of training, as a share of the axis, before a warning."""


def about_beyond(scaling: Scaling, least: float, most: float) -> str | None:
    """Warning about locations from ``least`` to ``most``; None where they are within the range of training."""
    low, high, *_ = scaling
    edge = MARGIN * (high - low)
    if low - edge <= least and most <= high + edge:
        return None
    return (
        f"x leaves the range of training [{low:g}, {high:g}]: it goes from {least:g} to {most:g}, "
        "where densities are guesses and often too sure"
    )
