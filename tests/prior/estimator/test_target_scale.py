"""Targets: what is refused, and maps that are exact, increasing and of any magnitude."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import yeojohnson

from tabattn.prior.estimator.target_scale import TargetScale, check_targets

SKEWED = np.exp(np.random.default_rng(0).normal(size=200))


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize(("factor", "shift"), [(1.0, 0.0), (1e30, -3e30), (1e-30, 0.0), (1e299, 0.0), (-2.0, 1e6)])
def test_there_and_back(factor: float, shift: float, power: bool) -> None:
    y = shift + factor * SKEWED
    scale = TargetScale.of(y, power=power)
    z = scale(y)
    assert z.mean() == pytest.approx(0, abs=1e-6)
    assert z.std() == pytest.approx(1)
    np.testing.assert_allclose(scale.inverse(z), y, rtol=1e-8, atol=1e-8 * abs(factor))
    far = np.array([[-30.0, 30.0], [-3.0, 5.0]])
    np.testing.assert_allclose(scale(scale.inverse(far)), far, rtol=1e-6)
    assert (np.diff(scale.inverse(np.linspace(-20, 20, 500))) > 0).all()


@pytest.mark.parametrize("power", [False, True])
def test_slope_is_the_derivative(power: bool) -> None:
    scale = TargetScale.of(SKEWED, power=power)
    y = np.array([-4.0, 0.1, 1.0, 3.0, 40.0])
    numeric = (scale(y + 1e-6) - scale(y - 1e-6)) / 2e-6
    np.testing.assert_allclose(np.exp(scale.log_slope(y)), numeric, rtol=1e-5)


def test_power_is_that_of_scipy_and_makes_skewed_targets_normal() -> None:
    scale = TargetScale.of(SKEWED, power=True)
    standard = (SKEWED - SKEWED.mean()) / SKEWED.std()
    transformed, power = yeojohnson(standard)
    assert scale.power == pytest.approx(max(power, -1), abs=1e-3)
    z = scale(SKEWED)
    assert abs((z**3).mean()) < 0.5 < (standard**3).mean()
    if power > -1:
        np.testing.assert_allclose(z, (transformed - transformed.mean()) / transformed.std(), atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 7.0, -1e30, 1e-30, 1e300])
def test_constant_targets(value: float) -> None:
    scale = TargetScale.of(np.full(5, value), power=True)
    assert not scale(np.full(5, value)).any()
    assert scale.inverse(np.zeros(1))[0] == value
    apart = scale.inverse(np.array([-1.0, 1.0])) - value
    assert apart[0] < 0 < apart[1]
    assert np.abs(apart).max() <= max(1e-6 * abs(value) * 1.01, value == 0)


@pytest.mark.parametrize(
    "y",
    [
        np.arange(4, dtype=np.int8),
        np.arange(4, dtype=np.uint64),
        np.arange(4, dtype=np.float16),
        np.arange(4, dtype=np.longdouble),
        np.arange(4).astype(object),
        [0, 1.0, Decimal(2), Fraction(3)],
        pd.Series(range(4), dtype="Int64"),
        pd.Series(range(4), index=list("dcba"), dtype="Float32"),
        (0, 1, 2, 3),
    ],
    ids=lambda y: str(getattr(y, "dtype", type(y).__name__)),
)
def test_numbers_of_any_type(y: Any) -> None:
    found = check_targets(y)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.arange(4))


def test_truth_values_count_as_0_and_1() -> None:
    np.testing.assert_array_equal(check_targets([True, False, np.True_]), [1, 0, 1])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1.0, np.nan, np.nan], "Input y contains NaN: 2 of 3 rows have no target"),
        (pd.Series([1, None], dtype="Int64"), "Input y contains NaN: 1 of 2 rows"),
        ([1.0, None], "Input y contains NaN: 1 of 2 rows"),
        ([1.0, np.inf], "Input y contains infinity or a value too large for float64, in 1 of its rows"),
        ([1, 10**400], "Input y contains infinity or a value too large for float64, in 1 of its rows"),
        ([1.0, -2e300], r"targets must be at most 1e\+300 in absolute value, got 2e\+300"),
        ([1.0, 1j], "Complex data not supported: a target must be a real number"),
        (np.array([1, 1j], object), "Complex data not supported"),
        (["1", "2"], r"y must hold numbers, got \['1'\], of type <U1"),
        (np.array([1.0, "2"], object), "y must hold numbers, got '2'"),
        ([b"1"], r"y must hold numbers, got \[b'1'\], of type"),
        (pd.Series(pd.to_datetime(["2020-01-01"])), r"y must hold numbers, got \[.*\], of type datetime64"),
        (pd.Series(["a", "b"], dtype="category"), "y must hold numbers, got 'a'"),
        (np.ones((3, 2)), r"y should be a 1d array, got an array of shape \(3, 2\)"),
        (3.0, "y should be a 1d array"),
        (sparse.csr_matrix([[1.0], [2.0]]), r"y must be dense, got a sparse matrix of the shape \(2, 1\)"),
    ],
    ids=str,
)
def test_what_is_no_number_is_refused(y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_targets(y)
