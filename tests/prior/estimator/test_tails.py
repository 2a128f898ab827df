"""Tails of targets: outliers do not decide the scale of the others, and ordinary targets stay as they are."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.datasets import load_diabetes
from sklearn.metrics import r2_score

from tabattn import TabularRegressor
from tabattn.contract.columns import Standard
from tabattn.prior.estimator.tails import Tails
from tabattn.prior.estimator.target_scale import FARTHEST, TargetScale

Numbers = NDArray[np.float64]

NORMAL = np.random.default_rng(0).normal(size=100)
LOGNORMAL = np.exp(4 * NORMAL)


def with_outliers(y: Numbers, *values: float) -> Numbers:
    """Targets of which the first are replaced."""
    return np.concatenate([values, y[len(values) :]])


@pytest.mark.parametrize(
    "y",
    [
        NORMAL,
        1e300 * NORMAL / np.abs(NORMAL).max(),
        1e-300 * NORMAL,
        np.exp(NORMAL),
        with_outliers(NORMAL, 20.0),
        (NORMAL > 0).astype(float),
        np.maximum(NORMAL - 1, 0),
        np.full(100, 3.0),
        with_outliers(np.full(100, 0.0), 5.0),
        np.repeat([0.0, 1.0, 1000.0], [30, 30, 40]),
        np.array([0.0, 5.0, 5.01, 5.02, 100.0]),
        np.concatenate([np.zeros(74), np.geomspace(0.01, 50, 26)]),
        load_diabetes().target,
        np.array([1.0]),
    ],
    ids=range(14),
)
def test_ordinary_targets_are_standardised_by_mean_and_standard_deviation(y: Numbers) -> None:
    tails, scale = Tails.of(y), TargetScale.of(y)
    assert tails.kept is y
    assert tails.unit is None
    mean, size = Standard.of(y[:, None])
    assert scale.mean == mean[0]
    assert scale.linear
    np.testing.assert_array_equal(scale.labels(y), scale(y))
    if y.min() < y.max():
        np.testing.assert_allclose(scale(y), (y - mean[0]) / size[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "values", [(1e9,), (-1e9,), (1e12, 1e9, -1e6), (1e300, -1e300), (40.0,)], ids=lambda values: f"{values}"
)
@pytest.mark.parametrize("factor", [1.0, 1e-300, 1e-3])
def test_isolated_outliers_count_as_the_farthest_other_target(values: tuple[float, ...], factor: float) -> None:
    rest = factor * NORMAL[len(values) :]
    y = np.concatenate([values, rest])
    kept, _, unit = Tails.of(y)
    expected = np.clip(y, rest.min(), rest.max())
    np.testing.assert_array_equal(kept, expected)
    assert unit is None
    scale = TargetScale.of(y)
    assert (scale.mean, scale.size) == TargetScale.of(expected)[:2]
    np.testing.assert_array_equal(scale.labels(y), scale(expected))
    np.testing.assert_allclose(scale.inverse(scale(rest)), rest, rtol=1e-9)
    assert (np.abs(scale(y)) <= FARTHEST).all()
    assert (np.abs(scale(y[: len(values)])) > 10).all()


def test_of_few_distinct_targets_outliers_are_found_too() -> None:
    for bulk in (np.repeat([0.0, 1.0], 50), np.repeat([0.0, 1.0], [97, 3])):
        np.testing.assert_array_equal(Tails.of(with_outliers(bulk, 1e9)).kept, with_outliers(bulk, 1.0))


@pytest.mark.parametrize(("sign", "shift"), [(1.0, 0.0), (-1.0, 0.0), (1.0, -50.0)])
@pytest.mark.parametrize("factor", [1.0, 1e250, 1e-250])
@pytest.mark.parametrize("power", [False, True])
def test_heavy_tails_are_logarithmic(sign: float, shift: float, factor: float, power: bool) -> None:
    y = factor * (shift + sign * LOGNORMAL)
    scale = TargetScale.of(y, power=power)
    assert scale.logarithmic
    assert not scale.linear
    assert scale.mean == np.median(y)
    z = scale(y)
    assert z.mean() == pytest.approx(0, abs=1e-6)
    assert z.std() == pytest.approx(1)
    assert np.abs(z).max() < 4
    np.testing.assert_array_equal(scale.labels(y), z)
    assert spearmanr(z, y)[0] == pytest.approx(1)
    np.testing.assert_allclose(scale.inverse(z), y, rtol=1e-6, atol=1e-9 * factor)
    far = np.array([-30.0, 30.0])
    np.testing.assert_allclose(scale(scale.inverse(far)), far, rtol=1e-6)


@pytest.mark.parametrize("power", [False, True])
def test_slope_of_heavy_tails_is_the_derivative(power: bool) -> None:
    scale = TargetScale.of(LOGNORMAL, power=power)
    y = np.array([-4.0, 0.1, 1.0, 30.0, 4e3, 1e6])
    step = 1e-6 * np.abs(y)
    numeric = (scale(y + step) - scale(y - step)) / (2 * step)
    np.testing.assert_allclose(np.exp(scale.log_slope(y)), numeric, rtol=1e-5)


def test_no_target_of_a_heavy_tail_is_an_outlier() -> None:
    y = np.exp(4 * np.random.default_rng(1).normal(size=1000))
    np.testing.assert_array_equal(Tails.of(y).kept, y)
    assert Tails.of(np.append(y, 1e30)).kept[-1] == y.max()


def test_the_unit_is_the_shorter_side_of_the_inner_targets() -> None:
    ordered = np.sort(LOGNORMAL)
    assert Tails.of(LOGNORMAL).unit == pytest.approx(np.median(LOGNORMAL) - ordered[5])
    one_sided = np.exp(np.maximum(8 * NORMAL, np.median(8 * NORMAL)))
    assert Tails.of(one_sided).unit == pytest.approx(1e-3 * (np.sort(one_sided)[-6] - np.median(one_sided)))


def table(seed: int) -> tuple[Numbers, Numbers]:
    source = np.random.default_rng(seed)
    x = source.normal(size=(80, 2))
    return x, 1 + 0.1 * np.sin(2 * x[:, 0]) + 0.01 * source.normal(size=80)


@pytest.mark.parametrize("value", [1e9, -1e12, 1e300])
def test_predictions_of_the_other_rows_are_as_good_as_without_the_outlier(value: float) -> None:
    (x, y), (other, truth) = table(0), table(1)
    model = TabularRegressor(kernel_weight=1).fit(x, with_outliers(y, value))
    for output in ("mean", "median"):
        assert r2_score(truth, model.predict(other, output)) > 0.75
    low, high = model.predict(other, "quantiles", [0.05, 0.95]).T
    assert ((low < truth) & (truth < high)).mean() > 0.8
    assert np.isfinite(model.log_density(x, with_outliers(y, value))).all()


def test_network_and_kernel_member_read_an_outlier_as_the_farthest_other_target() -> None:
    x, y = table(0)
    spoilt, winsorised = (
        TabularRegressor(kernel_weight=0.5).fit(x, with_outliers(y, value)) for value in (1e12, y[1:].max())
    )
    for output in ("mean", "quantiles"):
        np.testing.assert_allclose(spoilt.predict(x, output), winsorised.predict(x, output), rtol=1e-6)
    left_out = [np.sort(model._kernel.solution.left_out) for model in (spoilt, winsorised)]
    np.testing.assert_allclose(*left_out, rtol=1e-4)


@pytest.mark.parametrize("value", [1e12, 1e300])
def test_stacked_weights_of_targets_with_an_outlier_are_finite(value: float) -> None:
    x, y = table(0)
    model = TabularRegressor(kernel_weight="stacked").fit(x, with_outliers(1e-300 * y, value))
    assert np.isfinite(model.predict(x)).all()
    assert 0 < next(iter(model._weights.values())) < 1


def test_medians_of_heavy_tailed_targets_are_right_in_their_order_of_magnitude() -> None:
    (x, _), (other, _) = table(0), table(1)
    model = TabularRegressor(kernel_weight=1).fit(x, np.exp(4 * x[:, 0]))
    found = np.log(np.maximum(model.predict(other, "median"), 1e-9))
    assert r2_score(4 * other[:, 0], found) > 0.9
