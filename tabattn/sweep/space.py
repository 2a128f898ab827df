"""Search space of a sweep: the flags that it tunes, each with a range or a list of values."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tabattn.compare.cells import choices as choices_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

RANGE = re.compile(r"(?P<log>log:)?(?P<low>[^:]+?)\.\.(?P<high>[^:]+?)(?::(?P<step>.+))?")
"""A range of numbers, such as ``1..8``, ``0..1:0.1`` or ``log:1e-4..1e-1``."""

MOST_LISTED = 100_000
"""Largest number of combinations that are listed to find one that was not tried."""

DRAWS = 1000
"""Random draws to find a combination that was not tried, in a larger space."""


@dataclass(frozen=True)
class Parameter:
    """One tuned flag.

    Args:
        flag: Its name without dashes, such as ``optimizer.lr``.
        choices: Values of a list, as they are written; empty for a range.
        low: Least number of a range.
        high: Greatest number of a range.
        step: Distance of its numbers; None = any number.
        log: Whether it is searched on a logarithmic scale.
    """

    flag: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False

    @property
    def size(self) -> float:
        """Number of values; infinite for a range of real numbers."""
        if self.choices:
            return len(self.choices)
        return math.inf if self.step is None else math.floor((self.high - self.low) / self.step + 1e-9) + 1

    @property
    def whole(self) -> bool:
        """Whether it is a range of integers: all its numbers are written so."""
        return all(type(each) is int for each in (self.low, self.high, self.step))

    def distribution(self) -> "BaseDistribution":
        """Return the parameter in Optuna's form."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.whole:
            assert self.step is not None
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def values(self) -> Sequence[Any]:
        """Return all values of a finite parameter."""
        if self.choices:
            return self.choices
        assert self.step is not None
        return [self.low + number * self.step for number in range(int(self.size))]

    def draw(self, source: np.random.Generator) -> Any:
        """Return a random value."""
        if self.step is not None or self.choices:
            return self.values()[int(source.integers(int(self.size)))]
        if self.log:
            return float(np.exp(source.uniform(math.log(self.low), math.log(self.high))))
        return float(source.uniform(self.low, self.high))


def parameter(text: str) -> Parameter:
    """Parse ``FLAG=VALUES``: a range, or a list separated by commas.

    Args:
        text: Such as ``optimizer.lr=log:1e-4..1e-1``, ``model.network.layers=1..4``, ``model.attention=Softmax,Local``.

    Raises:
        ValueError: It is neither, or the range is empty.
    """
    flag, equals, values = text.removeprefix("--").partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", flag):
        raise ValueError(f"--tune takes FLAG=VALUES, such as optimizer.lr=log:1e-4..1e-1, got {text!r}")
    if (found := RANGE.fullmatch(values)) is not None:
        return _range(flag, values, found)
    if values.startswith("log:"):
        raise ValueError(f"--tune {flag}: log: takes a range such as log:1e-4..1e-1, got {values!r}")
    choices = tuple(choices_of(values))
    if len(set(choices)) < max(2, len(choices)) or "" in choices:
        raise ValueError(f"--tune {flag}: a list holds at least two different values, got {values!r}")
    return Parameter(flag, choices)


def _range(flag: str, values: str, found: re.Match[str]) -> Parameter:
    """Parse a range; it is one of integers where all its numbers are."""
    try:
        low, high = number(found["low"]), number(found["high"])
        step = None if found["step"] is None else number(found["step"])
    except ValueError as ex:
        raise ValueError(
            f"--tune {flag}: a range is LOW..HIGH, LOW..HIGH:STEP or log:LOW..HIGH, got {values!r}"
        ) from ex
    if not low < high:
        raise ValueError(f"--tune {flag}: the low end of a range must be below the high end, got {values!r}")
    log = found["log"] is not None
    if log and (low <= 0 or step is not None):
        raise ValueError(f"--tune {flag}: a logarithmic range has positive ends and no step, got {values!r}")
    if step is not None and step <= 0:
        raise ValueError(f"--tune {flag}: the step of a range must be greater than 0, got {values!r}")
    if step is None and isinstance(low, int) and isinstance(high, int):
        step = 1
    return Parameter(flag, (), low, high, step, log)


def number(text: str) -> float:
    """Parse a finite number, an ``int`` where it is written as one."""
    text = text.strip()
    value = int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
    if not math.isfinite(value):
        raise ValueError(f"a number must be finite, got {text}")
    return value


def unseen(space: Sequence[Parameter], seen: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any] | None:
    """Draw a combination that was not tried.

    Args:
        space: The tuned flags.
        seen: Values of the trials so far, by flag.
        seed: Seed of the draw.

    Returns:
        Values by flag; None = there are no others.
    """
    known = {tuple(trial[each.flag] for each in space) for trial in seen}
    source = np.random.default_rng(seed)
    if math.prod(each.size for each in space) <= MOST_LISTED:
        combinations = itertools.product(*(each.values() for each in space))
        left = [values for values in combinations if values not in known]
        drawn = left[int(source.integers(len(left)))] if left else None
    else:
        draws = (tuple(each.draw(source) for each in space) for _ in range(DRAWS))
        drawn = next((values for values in draws if values not in known), None)
    return None if drawn is None else dict(zip((each.flag for each in space), drawn, strict=True))


def arguments(flags: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Insert the values of a trial into a command line.

    A class is named before its arguments: a tuned flag stands before the first given one that is an argument of it.

    Args:
        flags: Words of the command line.
        values: Value by flag.
    """
    words = list(flags)
    for flag in sorted(values, key=lambda name: (name.count("."), name)):
        place = next((i for i, word in enumerate(words) if word.startswith(f"--{flag}.")), len(words))
        words.insert(place, f"--{flag}={values[flag]}")
    return words
