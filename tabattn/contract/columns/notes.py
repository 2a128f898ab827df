"""Notes about guesses: what is in doubt of a column of texts, as text behind its name."""

from tabattn.contract.columns.text import Notation


def about_form(form: str, doubt: list[str], texts: list[str]) -> str | None:
    """What is in doubt of dates in text; None = nothing."""
    words = f"is read as dates with the month before the day, in doubt, such as {two(doubt)}" if doubt else None
    if "%y" in form:
        short = f"years of two digits are taken as 1969 to 2068, such as in {two(texts)}"
        return f"{words}; {short}" if words else f"is read as dates: {short}"
    return words


def about_notation(notation: Notation, doubt: list[str]) -> str | None:
    """What is in doubt of numbers in text; None = nothing."""
    if not doubt:
        return None
    if notation.group == "," and "," in doubt[0]:
        return f"is read as numbers whose commas separate thousands, in doubt, such as {two(doubt)}"
    return f"is read as numbers, although they have different signs, such as {two(doubt)}"


def two(texts: list[str]) -> str:
    """Format two cells for a message."""
    return " and ".join(repr(text if len(text) <= 40 else f"{text[:37]}...") for text in texts[:2])
