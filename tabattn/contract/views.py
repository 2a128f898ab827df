"""What a task shows of itself to callbacks that draw: parts of attention maps, and predictions with their truth."""

from typing import NamedTuple

from torch import Tensor


class Axis(NamedTuple):
    """Tokens on one side of a drawn attention map.

    Attributes:
        places: Numbers of the tokens in the layer's call, in the order in which they are drawn.
        names: Their names.
        title: What they are, such as ``32 of 398 training rows by price``.
    """

    places: list[int]
    names: list[str]
    title: str


class MapView(NamedTuple):
    """Part of a layer's attention maps to draw.

    Attributes:
        items: Titles of the maps, by number of the element in the batch of the layer's call.
        queries: Tokens that attend.
        keys: Tokens that are attended to.
    """

    items: dict[int, str]
    queries: Axis
    keys: Axis


class ScoredColumn(NamedTuple):
    """Truth and predictions of a target column, over all rows that were scored.

    Attributes:
        name: Its name.
        categories: Names of its categories; empty = a numeric column.
        truth: True numbers in the data's units, or indices of categories, ``(rows,)``.
        predicted: Predicted means in the data's units, ``(rows,)``, or probabilities, ``(rows, categories)``.
        below: Predicted cumulative probability of each true number (probability integral transform), ``(rows,)``; None
            for categories.
    """

    name: str
    categories: tuple[str, ...]
    truth: Tensor
    predicted: Tensor
    below: Tensor | None
