"""Statistics of comparisons: standard errors, paired differences, and critical differences of mean ranks."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05
"""Level of significance."""
ENOUGH_SETS = 5
"""Fewest data sets for which ranks are compared."""


class Estimate(NamedTuple):
    """Mean over seeds and its standard error, NaN for a single seed."""

    mean: float
    error: float
    seeds: int


class Ranking(NamedTuple):
    """Friedman's test and Nemenyi's critical difference of mean ranks (Demsar 2006).

    Attributes:
        ranks: Mean rank of each method, 1 = best.
        sets: Number of data sets.
        p: p value of Friedman's test; NaN for two methods, which it does not serve.
        difference: Mean ranks that differ by less are not distinguishable.
        cliques: Largest groups of methods, best first, no two of which are distinguishable.
    """

    ranks: dict[str, float]
    sets: int
    p: float
    difference: float
    cliques: list[list[str]]


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and standard error of the finite values."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if not len(finite):
        return Estimate(math.nan, math.nan, 0)
    error = finite.std(ddof=1) / math.sqrt(len(finite)) if len(finite) > 1 else math.nan
    return Estimate(float(finite.mean()), float(error), len(finite))


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> Estimate:
    """Mean difference to a reference over the seeds that both have, and its standard error.

    Args:
        values: Score of each seed.
        reference: Score of each seed of the reference.
    """
    return estimate([values[seed] - reference[seed] for seed in values if seed in reference])


def p_value(difference: Estimate) -> float:
    """Two-sided p value of Student's paired t test; NaN for fewer than two seeds."""
    if difference.seeds < 2 or math.isnan(difference.error):
        return math.nan
    if difference.error == 0:
        return 1.0 if difference.mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(difference.mean / difference.error), difference.seeds - 1))


def distinguishable(p_values: Mapping[str, float]) -> set[str]:
    """Names whose p values stay significant in Holm's procedure over all of them; NaN is never significant."""
    found: set[str] = set()
    ordered = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    for number, (p, name) in enumerate(ordered):
        if p > LEVEL / (len(p_values) - number):
            break
        found.add(name)
    return found


def student_bound(seeds: int) -> float:
    """Standard errors that a difference of paired seeds must exceed to be significant; infinite for one seed."""
    return float(stats.t.isf(LEVEL / 2, seeds - 1)) if seeds > 1 else math.inf


def critical_difference(methods: int, sets: int) -> float:
    """Nemenyi's critical difference of mean ranks of ``methods`` over ``sets`` data sets."""
    quantile = stats.studentized_range.isf(LEVEL, methods, np.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(methods * (methods + 1) / (6 * sets)))


def mean_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank of each method on each data set, 1 = highest score, ties shared, averaged over data sets.

    Args:
        scores: ``(sets, methods)``.
    """
    return np.asarray(stats.rankdata(-scores, axis=1).mean(0), dtype=np.float64)


def ranking(scores: Mapping[str, Sequence[float]]) -> Ranking | None:
    """Compare the mean ranks of methods; None for fewer than two methods or ``ENOUGH_SETS`` data sets.

    Args:
        scores: Score of each method on each data set, more = better, in one order of data sets, all finite.
    """
    names = list(scores)
    values = np.array([scores[name] for name in names], dtype=np.float64).T
    if len(names) < 2 or len(values) < ENOUGH_SETS:
        return None
    ranks = dict(zip(names, mean_ranks(values).tolist(), strict=True))
    alike = bool((values == values[:, :1]).all())
    p = math.nan if len(names) < 3 else 1.0 if alike else float(stats.friedmanchisquare(*values.T).pvalue)
    difference = critical_difference(len(names), len(values))
    return Ranking(ranks, len(values), p, difference, _cliques(ranks, difference))


def _cliques(ranks: Mapping[str, float], difference: float) -> list[list[str]]:
    """Largest runs of the methods in order of rank that lie within the critical difference, of two or more."""
    order = sorted(ranks, key=lambda name: ranks[name])
    found: list[list[str]] = []
    end = 0
    for start, name in enumerate(order):
        last = max(at for at in range(start, len(order)) if ranks[order[at]] - ranks[name] < difference or at == start)
        if last > start and last > end:
            found.append(order[start : last + 1])
        end = max(end, last)
    return found
