"""Options of tables to reconstruct: splits, hidden cells, and context."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite

from tabattn.contract.cells import Column
from tabattn.contract.checks import check_least


@dataclass(frozen=True)
class SplitOptions:
    """Options of the split into training, validation and test rows.

    Args:
        folds: Number of folds, each of which is the test part once.
        fold: The fold to test on, from 0.
        val: Share of all rows that validate.
        test_rows: Number of last rows that are the test part, instead of a fold; none = a fold.
    """

    folds: int = 10
    fold: int = 0
    val: float = 0.2
    test_rows: int | None = None

    def __post_init__(self) -> None:
        check_least(**{"split.folds": (self.folds, 2), "split.fold": (self.fold, 0)})
        if self.fold >= self.folds:
            raise ValueError(f"split.fold must be below split.folds ({self.folds}), got {self.fold}")
        if not 0 < self.val < 1:
            raise ValueError(f"split.val must be between 0 and 1, got {self.val}")
        if self.test_rows is not None:
            check_least(**{"split.test_rows": (self.test_rows, 1)})


@dataclass(frozen=True)
class MaskOptions:
    """Options of which cells are hidden.

    Args:
        features: Probability that a feature cell is hidden in training; none = 0.15 if all targets are categorical,
            else 0, as hidden features blur targets that are a smooth function of them.
        targets: Probability that a target cell of a training row is hidden in training; 1 = all are, so that training
            rows see no label, and none is given in validation and test either.
        randomised: Share of hidden cells that get a random value instead of the mask slot.
        missing: Probability that a feature cell of the table is made missing for good, as an experiment.
    """

    features: float | None = 0.15
    targets: float = 0.5
    randomised: float = 0.1
    missing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("features", "targets", "randomised", "missing"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"masks.{name} must be between 0 and 1, got {value}")
        if self.features == 0 and not self.targets:
            raise ValueError("masks.features or masks.targets must be above 0, got 0 and 0: nothing is to be learned")

    def chosen(self, columns: Sequence[Column]) -> "MaskOptions":
        """Options for a table, with a probability for its features."""
        if self.features is not None:
            return self
        categorical = all(column.categories for column in columns if column.target)
        return replace(self, features=0.15 if categorical else 0.0)


@dataclass(frozen=True)
class LookupOptions:
    """Options of duplicate lookup, an experiment of Kossen et al. 2021 (arXiv 2106.02584), section 4.3.

    Each batch holds a copy of its rows in which nothing is hidden, targets included, as context of the rows themselves:
    a network that compares rows can look their hidden cells up. Scores say whether it does, not how well it predicts.

    Args:
        copies: Whether batches hold copies.
        random: Number of last feature columns whose cells are random, and differ between a row and its copy, so that
            the nearest row is no longer the copy.
        added: Number that is added to the numeric targets of copies, in standard deviations.
        shuffled: Whether each training batch permutes its targets among its rows, so that a small table cannot be
            learned by heart instead.
    """

    copies: bool = False
    random: int = 0
    added: float = 0.0
    shuffled: bool = False

    def __post_init__(self) -> None:
        check_least(**{"context.lookup.random": (self.random, 0)})
        if not isfinite(self.added):
            raise ValueError(f"context.lookup.added must be finite, got {self.added}")
        if not self.copies and (self.random or self.added or self.shuffled):
            raise ValueError(
                f"context.lookup.copies must be true with other options of the lookup, got random={self.random}, "
                f"added={self.added}, shuffled={self.shuffled}"
            )


DEFAULT_LOOKUP = LookupOptions()


@dataclass(frozen=True)
class ContextOptions:
    """Options of the rows that are seen together.

    Args:
        transductive: Whether the features of validation and test rows are seen in training, and all rows attend to all.
            Otherwise training sees training rows only, and a predicted row attends to context rows alone.
        rows: Most rows of a batch; none = the whole table.
        balanced: Whether the training rows of a batch have the class shares of the table.
        partitions: Number of contexts, drawn at random, that a prediction averages over where a batch does not hold the
            whole table.
        val_labels: Whether labels of validation rows are context in the test.
        lookup: Options of duplicate lookup, an experiment.
    """

    transductive: bool = False
    rows: int | None = None
    balanced: bool = True
    partitions: int = 4
    val_labels: bool = False
    lookup: LookupOptions = DEFAULT_LOOKUP

    def __post_init__(self) -> None:
        check_least(**{"context.partitions": (self.partitions, 1)})
        if self.rows is not None:
            check_least(**{"context.rows": (self.rows, 4)})


DEFAULT_SPLIT = SplitOptions()
DEFAULT_MASKS = MaskOptions()
DEFAULT_CONTEXT = ContextOptions()
