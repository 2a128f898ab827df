"""Errors with a message for the user in the place of a traceback."""


class DataError(Exception):
    """Data cannot be read, fetched or understood; the message says what to do about it."""


class DivergenceError(Exception):
    """A training has diverged: its loss, its gradient or its weights are NaN or infinite."""
