"""Options of pairs: columns, windows and sequences, augmentation, and what is scored."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

from datamodules.pairs.regimes import Regime
from tabattn.contract.checks import check_least, check_range

Name = str | int
"""A column, by its name or by its position counted from 0."""

Unit = Literal["s", "min", "h", "D"]
"""Units of dates."""


class LongNames(NamedTuple):
    """Columns of a long table: task, member, location and value of each row."""

    task: str = "task"
    member: str = "member"
    x: str = "x"
    y: str = "y"


if TYPE_CHECKING:
    Roles: TypeAlias = LongNames | Mapping[str, str]
else:
    # The command line builds the first by flags.
    Roles = LongNames


@dataclass(frozen=True)
class Evaluation:
    """Options of validation, test and prediction where they differ from training.

    Args:
        context: Number of context points of the sequence to infer in validation, test and prediction, or the fewest and
            the most; none = as the datamodule's ``context``.
        val_regime: Which points are context in validation; none = forecast.
        test_regime: The same for test and prediction.
    """

    context: int | tuple[int, int] | None = None
    val_regime: Regime | None = None
    test_regime: Regime | None = None

    def __post_init__(self) -> None:
        if self.context is not None:
            as_range("evaluation.context", self.context)
        for name in ("val_regime", "test_regime"):
            if (regime := getattr(self, name)) is not None:
                as_regimes(f"evaluation.{name}", regime)

    def regimes(self, train: Regime | tuple[Regime, ...], scored: Regime = "forecast") -> dict[str, tuple[str, ...]]:
        """Regimes of training, validation and test, by stage.

        Args:
            train: The regimes of training.
            scored: The regime of the others where none is chosen.

        Raises:
            ValueError: There is no such regime.
        """
        return {
            "train": as_regimes("regime", train),
            "val": as_regimes("evaluation.val_regime", self.val_regime or scored),
            "test": as_regimes("evaluation.test_regime", self.test_regime or scored),
        }


@dataclass(frozen=True)
class SplitEvaluation(Evaluation):
    """Options of validation, test and prediction of existing tasks, which a split takes from training.

    Args:
        context: Number of context points of the sequence to infer in validation, test and prediction, or the fewest and
            the most; none = as the datamodule's ``context``.
        val_regime: Which points are context in validation; none = forecast.
        test_regime: The same for test and prediction.
        shares: Shares of training, validation and test: of the rows of a wide table, of the tasks of a long one.
    """

    shares: tuple[float, float, float] = (0.7, 0.1, 0.2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.shares) <= 0 or not math.isclose(sum(self.shares), 1, abs_tol=1e-6):
            raise ValueError(f"evaluation.shares must be greater than 0 and sum to 1, got {list(self.shares)}")


@dataclass(frozen=True)
class Augmentation:
    """Options of data augmentation, in training alone.

    Args:
        swap_roles: Whether the sequence to infer is drawn at random for each task, so that every direction is learned;
            of several to infer, as many.
        drift: Standard deviation, in standardised units, of a random constant added to each sequence of a task: for
            test data at other levels.
    """

    swap_roles: bool = False
    drift: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.drift < math.inf:
            raise ValueError(f"augmentation.drift must be at least 0, got {self.drift}")


@dataclass(frozen=True)
class WindowOptions:
    """Options of windows: the axis of a wide table, and the rows of a task.

    Args:
        length: Number of rows of a window.
        stride: Rows between the starts of validation and test windows.
        x: Column of locations, numbers or dates, by which the table is sorted; none = the row number.
        unit: Unit of dates: ``s``, ``min``, ``h`` or ``D`` (days).
        cycle: Length of a cycle in units of the axis, such as 24 where these are hours: windows then tell the time of
            day, and the axis ends at the cycle times a power of 2. Rows without ``x`` count from the first one.
    """

    length: int = 64
    stride: int = 16
    x: Name | None = None
    unit: Unit = "h"
    cycle: float | None = None

    def __post_init__(self) -> None:
        check_least(**{"windows.length": (self.length, 2), "windows.stride": (self.stride, 1)})
        check_unit("windows.unit", self.unit)
        if self.cycle is not None and not 0 < self.cycle < math.inf:
            raise ValueError(f"windows.cycle must be greater than 0, got {self.cycle}")


@dataclass(frozen=True)
class SeriesOptions:
    """Options of the sequences of a long table, and of the axis they lie on.

    Args:
        names: Names of the sequences, in the order of their numbers; none = all there are, in order of their names.
        unit: Unit of dates: ``s``, ``min``, ``h`` or ``D`` (days).
        from_start: Whether the locations of each task count from its first point.
        ordered: Whether tasks are split in the order of the table, the last ones for test; otherwise at random.
    """

    names: tuple[str, ...] | None = None
    unit: Unit = "h"
    from_start: bool = False
    ordered: bool = False

    def __post_init__(self) -> None:
        check_unit("series.unit", self.unit)


class Shown(NamedTuple):
    """Number of context points of the sequence to infer, fewest and most.

    Attributes:
        train: Those of training.
        scored: Those of validation, test and prediction.
        every: Whether half of the training batches draw theirs from ``FEW`` to all but one instead.
    """

    train: tuple[int, int]
    scored: tuple[int, int]
    every: bool

    @classmethod
    def of(cls, context: int | tuple[int, int], evaluation: Evaluation) -> "Shown":
        """Context sizes from the arguments of a datamodule.

        Raises:
            ValueError: A range is invalid.
        """
        train = as_range("context", context)
        scored = train if evaluation.context is None else as_range("evaluation.context", evaluation.context)
        # One number says where scoring starts, and is no bound of what training sees.
        every = isinstance(context, int)
        return cls(scored if every else train, scored, every)


class PairOptions(NamedTuple):
    """Options of batches of existing tasks.

    Attributes:
        members: Number of sequences.
        infer: Indices of the sequences to infer.
        shown: Fewest and most context points of each of them, drawn for each batch.
        every: Whether half of the batches draw the number of context points from ``FEW`` to all but one of a task
            instead.
        regimes: Which points are context; of several, each batch draws one.
        swap_roles: Whether as many sequences to infer are drawn at random; otherwise they are ``infer``.
        drift: Standard deviation of a random constant that is added to each sequence of a task.
        batch_size: Tasks in a batch.
        seed: Seed of all random choices.
    """

    members: int
    infer: tuple[int, ...]
    shown: tuple[int, int]
    every: bool
    regimes: tuple[str, ...]
    swap_roles: bool
    drift: float
    batch_size: int
    seed: int


def check_unit(name: str, unit: str) -> None:
    """Raise ValueError unless a unit of dates is known."""
    if unit not in get_args(Unit):
        raise ValueError(f"{name} must be one of {', '.join(get_args(Unit))}, got {unit!r}")


def as_range(name: str, count: int | tuple[int, int]) -> tuple[int, int]:
    """Range from a number (both ends) or a pair.

    Raises:
        ValueError: It is not a range of integers of at least 1.
    """
    bounds = (count, count) if isinstance(count, int) else count
    check_range(name, bounds, 1)
    return bounds


def as_regimes(name: str, given: str | tuple[str, ...]) -> tuple[str, ...]:
    """Tuple of regimes from one name or several.

    Raises:
        ValueError: There is no such regime.
    """
    regimes = (given,) if isinstance(given, str) else tuple(given)
    known = get_args(Regime)
    unknown = [regime for regime in regimes if regime not in known]
    if unknown or not regimes:
        raise ValueError(f"{name} must be of {', '.join(known)}, got {', '.join(unknown) or 'none'}")
    return regimes


DEFAULT_EVALUATION = SplitEvaluation()
DEFAULT_AUGMENTATION = Augmentation()
DEFAULT_WINDOWS = WindowOptions()
DEFAULT_SERIES = SeriesOptions()

EVALUATION = {"eval_context": "context", "val_regime": "val_regime", "test_regime": "test_regime"}
"""Earlier arguments of datamodules that are in ``Evaluation`` today, by their names there."""

SPLIT_MOVES = {
    **{name: f"evaluation.{today}" for name, today in EVALUATION.items()},
    "shares": "evaluation.shares",
    "swap_roles": "augmentation.swap_roles",
    "drift": "augmentation.drift",
}
"""Path of each earlier argument of the datamodules of existing tasks."""

WINDOW_MOVES = {"window": "windows.length", **{name: f"windows.{name}" for name in ("stride", "x", "unit", "cycle")}}
"""Path of each earlier argument of ``TablePairs`` alone."""

SERIES_MOVES = {"sequences": "series.names", **{name: f"series.{name}" for name in ("unit", "from_start", "ordered")}}
"""Path of each earlier argument of ``LongPairs`` alone."""
