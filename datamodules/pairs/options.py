"""How tables are read as sequences, and how whole tasks become batches of pairs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

from datamodules.pairs.regimes import Regime
from tabattn.contract.checks import check_range

Name = str | int
"""A column, by its name or by its place counted from 0."""

Unit = Literal["s", "min", "h", "D"]
"""What dates are counted in."""


class LongNames(NamedTuple):
    """Columns of a long table: the task and the sequence each row belongs to, its place and its value."""

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
    """How tasks become batches.

    Attributes:
        members: Number of sequences.
        infer: The one to infer.
        shown: Fewest and most points of it that are context, drawn for each batch.
        every: Whether half of the batches show any number of them instead, from ``FEW`` to all but one of a task.
        regimes: Which points are context; of several, each batch takes one.
        swap_roles: Whether the sequence to infer is drawn; otherwise it is ``infer``.
        drift: Standard deviation of a constant that is added to each sequence of a task.
        batch_size: Tasks in a batch.
        seed: Seed of all choices.
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
    """A number as the range that holds nothing else.

    Raises:
        ValueError: It is no range of numbers from 1 on.
    """
    bounds = (count, count) if isinstance(count, int) else count
    check_range(name, bounds, 1)
    return bounds


def as_regimes(name: str, given: str | tuple[str, ...]) -> tuple[str, ...]:
    """A regime as the tuple that holds nothing else.

    Raises:
        ValueError: There is no such regime.
    """
    regimes = (given,) if isinstance(given, str) else tuple(given)
    known = get_args(Regime)
    unknown = [regime for regime in regimes if regime not in known]
    if unknown or not regimes:
        raise ValueError(f"{name} must be of {', '.join(known)}, got {', '.join(unknown) or 'none'}")
    return regimes
