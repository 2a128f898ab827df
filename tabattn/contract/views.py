"""What a task shows of itself to callbacks that draw: parts of attention maps, and predictions with their truth."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor


def rounded(value: float, digits: int = 6) -> str:
    """Number to significant digits, without an exponent from 1e-4 to 1e15: ``309700``, not ``3.097e+05``."""
    return f"{float(f'{value:.{digits}g}'):.15g}"


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
        relation: True relation of queries and keys, such as the edges of a graph, which is drawn beside the maps:
            ``(items, queries, keys)`` float; 1 = related, 0 = not, NaN = there is no such pair. None = there is none.
        relation_title: What it is.
    """

    items: dict[int, str]
    queries: Axis
    keys: Axis
    relation: Tensor | None = None
    relation_title: str = "related"


class OutputCurve(NamedTuple):
    """Outputs of a network along a line, beside those of another.

    Attributes:
        title: What the networks are.
        x: Places on the line, ``(points,)``.
        true: Outputs of the original, ``(points, outputs)``.
        found: Outputs of its reconstruction, of that shape.
    """

    title: str
    x: Tensor
    true: Tensor
    found: Tensor


class ExactDensity(NamedTuple):
    """Exact density of the targets of a batch: a mixture of Gaussians, of one component where the process is known.

    Attributes:
        weights: Weight of each component, ``(batch, components)``.
        means: Means, ``(batch, targets, components)``; NaN = padding.
        stds: Standard deviations, noise included, of that shape.
    """

    weights: Tensor
    means: Tensor
    stds: Tensor


class ScoredColumn(NamedTuple):
    """Truth and predictions of a target column, of rows that were scored.

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


class Shown:
    """Hooks by which callbacks ask a task what to write and to draw; the defaults are those of a task without views."""

    def counted(self, batch: Any) -> dict[str, int] | None:
        """Number of items in a batch by their name, such as ``rows``, for throughput; None = only its leading size."""
        return None

    def prediction_table(self, batch: Any, output: Any, number: int) -> dict[str, list[Any]] | None:
        """Predictions of a batch as columns of a table; None = no table.

        Args:
            batch: The batch.
            output: What ``predict_step`` returned.
            number: Number of the batch over all ranks.
        """
        return None

    def further_tables(self, batch: Any, output: Any, number: int) -> Mapping[str, dict[str, list[Any]]]:
        """Further tables of a batch's predictions, by the ending of their files' names; arguments as above."""
        return {}

    def probe(self, batch: Any) -> Any:
        """Forward pass for callbacks: no loss, no logging, no collective call."""
        return self.predict_step(batch, 0)  # type: ignore[attr-defined]

    def class_probabilities(self, output: Any) -> Tensor | None:
        """Class probabilities of an output of ``probe``, ``(..., classes)``; None = the task has other answers."""
        return None

    def token_names(self, batch: Any) -> dict[str, list[str]] | None:
        """Token names of each attention site, by a part of its module path; None = no names."""
        return None

    def map_views(self, batch: Any, items: int, tokens: int) -> Mapping[str, MapView] | None:
        """Parts of the attention maps to draw, by module path; None = the first items and tokens of every layer.

        Args:
            batch: Batch of the probe.
            items: Most elements of a layer's batch to draw.
            tokens: Most tokens on a side of a map.
        """
        return None

    def token_points(self, layer: str, batch: Any, output: Tensor) -> Tensor:
        """Part of a layer's output whose tokens are shown as points, ``(..., dim)``; all of it unless overridden."""
        return output

    def scored_columns(self) -> list[ScoredColumn] | None:
        """Truth and predictions of the last validation or test, over all ranks; None = the task keeps none."""
        return None

    def outcomes(self, batch: Any) -> list[ScoredColumn] | None:
        """Truth and predicted distributions of what is scored in a batch: by table, sequence or target column.

        It predicts in evaluation mode, logs nothing and makes no collective call. None = the task predicts no
        distributions.
        """
        return None

    def predicts_classes(self) -> bool:
        """Whether any of ``outcomes`` is of classes, known from the setup on."""
        return type(self).outcomes is not Shown.outcomes

    def output_curves(self, batch: Any) -> list[OutputCurve] | None:
        """Outputs of the networks of a batch and of their reconstructions along lines; None = the task has none."""
        return None

    def token_metadata(self, layer: str, batch: Any, output: Tensor) -> dict[str, list[Any]] | None:
        """Metadata columns of the tokens of a layer that are shown, flattened; None = only their indices."""
        return None
