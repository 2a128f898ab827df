"""Statistics: pinned values, and critical differences beside autorank's."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest

from tabattn.compare.report.statistics import (
    ENOUGH_SETS,
    Estimate,
    critical_difference,
    distinguishable,
    estimate,
    p_value,
    paired,
    ranking,
    student_bound,
)


def test_mean_and_standard_error() -> None:
    assert estimate([1.0, 2.0, 3.0, 6.0]) == pytest.approx((3.0, math.sqrt(14 / 3) / 2, 4))
    assert estimate([1.0, math.nan, 3.0, math.inf]) == pytest.approx((2.0, 1.0, 2))
    one, none = estimate([2.5]), estimate([math.nan])
    assert one[::2] == (2.5, 1)
    assert math.isnan(one.error)
    assert none.seeds == 0
    assert math.isnan(none.mean)


def test_differences_are_paired_by_seed() -> None:
    found = paired({0: 1.0, 1: 2.0, 2: 4.0, 7: 100.0}, {2: 3.0, 1: 1.5, 0: 0.8, 9: -100.0})
    differences = np.array([0.2, 0.5, 1.0])
    assert found == pytest.approx((differences.mean(), differences.std(ddof=1) / math.sqrt(3), 3))
    assert paired({0: 1.0}, {1: 1.0}).seeds == 0
    assert paired({0: math.nan, 1: 2.0}, {0: 1.0, 1: 1.0})[::2] == (1.0, 1)


def test_p_value_is_that_of_the_paired_t_test() -> None:
    # scipy.stats.ttest_rel([1., 2., 4.], [.8, 1.5, 3.])
    assert p_value(paired({0: 1.0, 1: 2.0, 2: 4.0}, {0: 0.8, 1: 1.5, 2: 3.0})) == pytest.approx(0.1358414, abs=1e-6)
    assert math.isnan(p_value(Estimate(1.0, math.nan, 1)))
    assert p_value(Estimate(1.0, 0.0, 3)) == 0
    assert p_value(Estimate(0.0, 0.0, 3)) == 1


def test_holm_counts_every_comparison() -> None:
    assert distinguishable({"a": 0.04}) == {"a"}
    assert distinguishable({"a": 0.04, "b": 0.9}) == set()
    assert distinguishable({"a": 0.04, "b": 0.02}) == {"a", "b"}
    # The first bound of three is .05 / 3; the later ones do not matter when it fails.
    assert distinguishable({"a": 0.02, "b": 0.021, "c": 0.022}) == set()
    # A comparison that cannot be made counts all the same.
    assert distinguishable({"a": 0.04, "b": math.nan}) == set()
    assert distinguishable({}) == set()


@pytest.mark.parametrize(("seeds", "bound"), [(1, math.inf), (2, 12.7062), (3, 4.3027), (10, 2.2622)])
def test_student_bound(seeds: int, bound: float) -> None:
    assert student_bound(seeds) == pytest.approx(bound, abs=1e-4)


@pytest.mark.parametrize(("methods", "sets", "difference"), [(2, 10, 0.6198), (5, 30, 1.1136), (10, 12, 3.9108)])
def test_critical_difference(methods: int, sets: int, difference: float) -> None:
    # Tabulated quantiles of Demsar (2006): 1.960, 2.728, 3.164.
    assert critical_difference(methods, sets) == pytest.approx(difference, abs=2e-3)


def test_ranks_share_ties_and_one_is_best() -> None:
    found = ranking({"a": [3.0] * 5, "b": [2.0, 2.0, 2.0, 3.0, 3.0], "c": [1.0] * 5})
    assert found is not None
    assert found.ranks == pytest.approx({"a": 1.2, "b": 1.8, "c": 3.0})
    assert found.sets == 5


def test_ranks_beside_autorank() -> None:
    from autorank import autorank

    made = np.random.default_rng(3)
    scores = made.normal(size=(14, 5)) + np.array([0.0, 0.2, 0.9, 1.8, 2.0])
    names = list("abcde")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = autorank(pd.DataFrame(scores, columns=names), alpha=0.05, force_mode="nonparametric")
    found = ranking(dict(zip(names, scores.T.tolist(), strict=True)))
    assert found is not None
    assert found.p == pytest.approx(told.pvalue)
    assert found.difference == pytest.approx(told.cd, rel=1e-3)
    assert found.ranks == pytest.approx(told.rankdf["meanrank"].to_dict())


def test_groups_that_are_not_distinguishable() -> None:
    # Mean ranks 1, 2, 3, 4 of four methods on 30 data sets differ by less than the critical difference nowhere.
    far = ranking({name: [-place] * 30 for place, name in enumerate("abcd")})
    assert far is not None
    assert far.difference == pytest.approx(0.8564, abs=1e-3)
    assert far.cliques == []
    near = ranking({name: [-place] * 9 for place, name in enumerate("abcd")})
    assert near is not None
    assert near.difference == pytest.approx(1.5635, abs=1e-3)
    assert near.cliques == [["a", "b"], ["b", "c"], ["c", "d"]]
    alike = ranking({name: [1.0] * 9 for name in "abcd"})
    assert alike is not None
    assert alike.cliques == [list("abcd")]
    assert alike.p == 1


@pytest.mark.parametrize("scores", [{"a": [1.0] * ENOUGH_SETS}, {"a": [1.0] * 4, "b": [2.0] * 4}, {}])
def test_too_few_for_ranks(scores: dict[str, list[float]]) -> None:
    assert ranking(scores) is None


def test_two_methods_have_no_friedman_test() -> None:
    found = ranking({"a": [1.0] * 6, "b": [2.0] * 6})
    assert found is not None
    assert math.isnan(found.p)
    assert found.ranks == {"a": 2.0, "b": 1.0}
