"""Text in figures, without mathematics and without characters that fonts lack."""

import unicodedata
from functools import lru_cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text

MISSING = "\N{WHITE SQUARE}"
"""Replacement for a character that the font lacks."""


SPACES = ("Cc", "Cf", "Zs", "Zl", "Zp")
"""Unicode categories of control, format and separator characters."""


def drawable(text: str) -> str:
    """Return a text on one line whose every character can be drawn: control characters become spaces.

    A text that begins with an underscore, which a legend would leave out, gets a space before it.
    """
    drawable_codes = _characters()
    spaced = "".join(" " if unicodedata.category(letter) in SPACES else letter for letter in text).strip()
    drawn = "".join(letter if ord(letter) in drawable_codes else MISSING for letter in spaced)
    return f" {drawn}" if drawn.startswith("_") else drawn


def without_mathematics(figure: Figure) -> None:
    """Turn off matplotlib's mathtext in a figure: dollar signs and backslashes are part of names."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)


@lru_cache
def _characters() -> frozenset[int]:
    """Code points that the default font can draw."""
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
