"""Errors that are the world's fault and not the program's."""


class DataError(Exception):
    """Data cannot be read, fetched or understood; the message says what to do about it."""
