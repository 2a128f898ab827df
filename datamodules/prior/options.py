"""Options of datamodules of tables: batches, what is scored, and how tasks are cut from a table."""

from dataclasses import dataclass

from tabattn.contract.checks import check_least


@dataclass(frozen=True)
class FoldEvaluation:
    """Options of validation and test on real tables.

    Args:
        folds: Stratified folds of each real table: the first half of them, rounded down, for validation, the others for
            test and prediction, so that no row is scored by both.
        max_rows: Most rows of a real table; of a larger one a stratified sample is taken.
    """

    folds: int = 5
    max_rows: int = 1000

    def __post_init__(self) -> None:
        check_least(**{"evaluation.max_rows": (self.max_rows, 10)})


@dataclass(frozen=True)
class BatchOptions:
    """Options of batches of synthetic tables.

    Args:
        max_cells: Most cells (tables x rows x features) in a batch; larger tables come in smaller batches.
        grow: Curriculum: batches over which the largest sizes grow from small ones to their own.
        views: Views of each table in its batch, each with other context rows, and with columns and classes permuted:
            for when drawing tables takes longer than training on them.
    """

    max_cells: int = 200_000
    grow: int = 0
    views: int = 1

    def __post_init__(self) -> None:
        bounds = {"max_cells": (self.max_cells, 1), "grow": (self.grow, 0), "views": (self.views, 1)}
        check_least(**{f"batches.{name}": bound for name, bound in bounds.items()})


@dataclass(frozen=True)
class TaskEvaluation:
    """Options of validation and test on tasks of held-out rows of a table.

    Args:
        val_tasks: Number of validation tasks.
        test_tasks: Number of test tasks.
        held_out: Share of the rows held out for validation and test.
    """

    val_tasks: int = 50
    test_tasks: int = 150
    held_out: float = 0.3

    def __post_init__(self) -> None:
        counts = {"evaluation.val_tasks": (self.val_tasks, 1), "evaluation.test_tasks": (self.test_tasks, 1)}
        check_least(**counts)


@dataclass(frozen=True)
class DrawOptions:
    """Options of what varies between tasks that are cut from one table.

    Args:
        permute_labels: Whether each training task permutes the class indices, so that the network must read the context
            and cannot memorise a classifier of this table.
        permute_columns: Whether each task permutes its columns.
        fixed_columns: Whether all tasks have the same columns.
    """

    permute_labels: bool = True
    permute_columns: bool = True
    fixed_columns: bool = False


@dataclass(frozen=True)
class ReadingOptions:
    """Options of reading the table that tasks are cut from.

    Args:
        target: Target column; none = that of the source.
        cache_dir: Cache folder of OpenML; none = ``$OPENML_CACHE_DIR``, else OpenML's default.
    """

    target: str | None = None
    cache_dir: str | None = None


DEFAULT_FOLDS = FoldEvaluation()
DEFAULT_BATCHES = BatchOptions()
DEFAULT_EVALUATION = TaskEvaluation()
DEFAULT_DRAWS = DrawOptions()
DEFAULT_READING = ReadingOptions()

FOLD_MOVES = {name: f"evaluation.{name}" for name in ("folds", "max_rows")}
"""Path of each earlier argument of the datamodules that score real tables."""

TASK_MOVES = {
    **{name: f"reading.{name}" for name in ("target", "cache_dir")},
    **{name: f"evaluation.{name}" for name in ("val_tasks", "test_tasks", "held_out")},
    **{name: f"draws.{name}" for name in ("permute_labels", "permute_columns", "fixed_columns")},
}
"""Path of each earlier argument of ``TableTasks``."""
