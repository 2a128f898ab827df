"""Batches and columns of the reconstruction task: one table, some of whose cells are hidden."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from torch import Tensor

REACH = 20.0
"""Standard deviations beyond which a number counts as an outlier, which is drawn in so that it overflows no network."""


class Column(NamedTuple):
    """Column of a table: how its cells are represented as numbers.

    Attributes:
        name: Its name.
        categories: Names of its categories, by index; empty = a numeric column.
        mean: Mean of a numeric column in the data's units, by which it is standardised.
        std: Standard deviation of a numeric column in the data's units.
        target: Whether it is a target column.
        quantiles: Quantiles of a numeric column, standardised and increasing, from the smallest value to the largest:
            the bins of a piecewise-linear embedding; empty = unknown, as in checkpoints of earlier versions.
        group: Name of the group of columns that it belongs to, whose cells are hidden together, such as the pixels of a
            patch; empty = none.
    """

    name: str
    categories: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    target: bool = False
    quantiles: tuple[float, ...] = ()
    group: str = ""

    def plain(self) -> dict[str, Any]:
        """Return it in plain values, as hyperparameters hold it."""
        return {**self._asdict(), "categories": list(self.categories), "quantiles": list(self.quantiles)}

    def difference(self, other: "Column") -> str | None:
        """Say in what another column in its place differs, but for statistics; None = in nothing."""
        if self.name != other.name:
            return f"the data has {other.name!r} in its place"
        if self.target != other.target:
            was, now = ("a target" if column.target else "a feature" for column in (self, other))
            return f"which was {was}, and in the data is {now}"
        if self.categories != other.categories:
            was, now = (
                f"{len(column.categories)} categories" if column.categories else "numbers" for column in (self, other)
            )
            odd = (
                sorted(set(self.categories) ^ set(other.categories))[:1] if self.categories and other.categories else []
            )
            return f"which held {was}, and in the data holds {now}" + "".join(
                f": {each!r} is in one alone" for each in odd
            )
        return None

    @classmethod
    def of(cls, plain: "Column | dict[str, Any]") -> Self:
        """Make it from plain values.

        Raises:
            ValueError: A part is missing, unknown, or of a wrong type.
        """
        fields = plain._asdict() if isinstance(plain, Column) else dict(plain)
        kinds: dict[str, Any] = {
            "name": str,
            "categories": (list, tuple),
            "mean": (int, float),
            "std": (int, float),
            "target": bool,
            "quantiles": (list, tuple),
            "group": str,
        }
        wrong = [name for name, value in fields.items() if not isinstance(value, kinds.get(name, ()))]
        if wrong or "name" not in fields:
            raise ValueError(f"a column has the parts {', '.join(kinds)}, got {wrong[0] if wrong else 'no name'}")
        categories, quantiles = (tuple(fields.pop(name, ())) for name in ("categories", "quantiles"))
        if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in quantiles):
            raise ValueError(f"quantiles of a column must be numbers, got those of {fields['name']!r}: {quantiles}")
        return cls(**fields, categories=tuple(map(str, categories)), quantiles=tuple(map(float, quantiles)))


class CellBatch(NamedTuple):
    """Batch of tables of one size with hidden cells, which are to be reconstructed; context rows first.

    Attributes:
        x: Cells as the network sees them, ``(tables, rows, columns)`` float: standardised numbers, or indices of
            categories; 0 where hidden.
        hidden: Mask slot: cells that are hidden or missing, ``(tables, rows, columns)`` boolean.
        truth: True cells, ``(tables, rows, columns)`` float; NaN = missing.
        scored: Cells in the loss, ``(tables, rows, columns)`` boolean.
        context: Number of leading rows that all rows attend to; the rows behind do not influence one another.
        row: Number of each row in the table, ``(tables, rows)`` long. The rows behind the context are the same in every
            table of a batch, so that predictions from several contexts can be averaged.
        asked: Number of last rows that are to be predicted, the same in every table; 0 = all that have a hidden target.
    """

    x: Tensor
    hidden: Tensor
    truth: Tensor
    scored: Tensor
    context: int
    row: Tensor
    asked: int = 0

    def to_predict(self, targets: Sequence[int]) -> Tensor:
        """Which rows are to be predicted, of which a target is hidden, ``(rows,)`` boolean.

        Args:
            targets: Places of the target columns.
        """
        rows = self.hidden[0][:, targets].any(-1)
        if self.asked:
            rows[: -self.asked] = False
        return rows

    def unscored(self) -> Self:
        """Return the batch with no cell to score."""
        return self._replace(scored=self.scored.new_zeros(self.scored.shape))
