"""Checks of the knobs of patterns."""


def whole(knob: float, least: int = 1) -> int:
    """Return a knob that counts something.

    Raises:
        ValueError: If it is no whole number, or below ``least``.
    """
    if knob != knob // 1 or knob < least:
        raise ValueError(f"knob must be a whole number of at least {least}, got {knob}")
    return int(knob)
