"""Options of pairs: columns of long tables, and batches of existing tasks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

from datamodules.pairs.regimes import Regime
from tabattn.contract.checks import check_range

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


class PairOptions(NamedTuple):
    """Options of batches of existing tasks.

    Attributes:
        members: Number of sequences.
        infer: Index of the sequence to infer.
        shown: Fewest and most context points of that sequence, drawn for each batch.
        every: Whether half of the batches draw the number of context points from ``FEW`` to all but one of a task
            instead.
        regimes: Which points are context; of several, each batch draws one.
        swap_roles: Whether the sequence to infer is drawn at random; otherwise it is ``infer``.
        drift: Standard deviation of a random constant that is added to each sequence of a task.
        batch_size: Tasks in a batch.
        seed: Seed of all random choices.
    """

    members: int
    infer: int
    shown: tuple[int, int]
    every: bool
    regimes: tuple[str, ...]
    swap_roles: bool
    drift: float
    batch_size: int
    seed: int


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
