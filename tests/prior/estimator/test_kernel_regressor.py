"""The Gaussian process member: its features, its choices by leave-one-out, and what does not change its predictions."""

import pickle

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tabattn.prior.estimator import kernel_regressor
from tabattn.prior.estimator.distributions import StudentTargets
from tabattn.prior.estimator.ensemble import RANKS, STANDARD, Scales
from tabattn.prior.estimator.kernel_regressor import KernelRegressor, calibrated
from tabattn.prior.estimator.residuals import LocalResiduals
from tabattn.prior.estimator.stacking import stacked

Made = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]
LEVELS = np.array([0.05, 0.5, 0.95])


def mixed(rows: int = 60, seed: int = 1) -> Made:
    """Two columns of numbers, one of codes, some cells missing; skewed targets that depend on all three."""
    source = np.random.default_rng(seed)
    x = np.column_stack([source.normal(size=(rows, 2)), source.integers(0, 3, rows)])
    y = np.exp(np.sin(x[:, 0]) + (x[:, 2] == 1) + 0.1 * source.normal(size=rows))
    x[3, 0] = x[5, 2] = np.nan
    return x, y, np.array([False, False, True])


def fitted(made: Made, limit: int = 2000, seed: int = 0) -> KernelRegressor:
    x, y, categorical = made
    return KernelRegressor(x, y, categorical, Scales(x), limit, seed)


def test_features_written_out() -> None:
    x, y, _ = made = mixed()
    model = fitted(made)
    views = Scales(x)(x)
    numbers = np.nan_to_num(np.column_stack([views[STANDARD][:, :2], views[RANKS][:, :2]])) * np.sqrt(0.5)
    codes = np.nan_to_num(x[:, 2:], nan=-1.0) == np.array([-1.0, 0.0, 1.0, 2.0])
    expected = np.column_stack([numbers, np.isnan(x[:, 0]), codes])
    order = [int(np.flatnonzero(y == value)[0]) for value in model.y]
    np.testing.assert_allclose(model.context, expected[order], atol=1e-6)
    assert model._groups().tolist() == [0, 1, 2, 3, 4, 5, 5, 5, 5]
    unknown = x[:2].copy()
    unknown[:, 2] = 9.0
    assert not model._features(model._scaler(unknown), model._missing(unknown))[:, 5:].any()


def test_it_learns_what_numbers_and_categories_say() -> None:
    made, other = mixed(200), mixed(200, seed=2)
    model = fitted(made)
    found = model.distribution(other[0])
    rest = other[1] - found.mean()
    assert 1 - rest.var() / other[1].var() > 0.9
    inside = np.abs(found.cdf(other[1][:, None])[:, 0] - 0.5) < 0.45
    assert 0.8 < inside.mean() < 0.97
    assert model.solution.weights[2:].sum() > 0.6
    assert model.solution.fitted[1].targets.power < 0.5


@pytest.mark.parametrize(("factor", "shift"), [(1e30, 0.0), (1e-30, 0.0), (2.0**20, -(2.0**24))])
def test_predictions_scale_and_shift_with_the_targets(factor: float, shift: float) -> None:
    x, y, categorical = made = mixed()
    expected, found = fitted(made).distribution(x), fitted((x, shift + factor * y, categorical)).distribution(x)
    np.testing.assert_allclose((found.mean() - shift) / factor, expected.mean(), rtol=2e-3)
    np.testing.assert_allclose((found.quantile(LEVELS) - shift) / factor, expected.quantile(LEVELS), rtol=1e-2)
    density = found.log_density(shift + factor * y) + np.log(factor)
    np.testing.assert_allclose(density, expected.log_density(y), atol=2e-2)


def test_order_of_rows_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tabattn.prior.estimator.gaussian_process.MOST_FITTED", 30)
    x, y, categorical = made = mixed()
    order = np.random.default_rng(0).permutation(len(y))
    expected = fitted(made).distribution(x).quantile(LEVELS)
    found = fitted((x[order], y[order], categorical)).distribution(x).quantile(LEVELS)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_rows_do_not_influence_one_another() -> None:
    made = mixed()
    model = fitted(made)
    alone = np.concatenate([model.distribution(row[None]).mean() for row in made[0]])
    np.testing.assert_allclose(alone, model.distribution(made[0]).mean(), rtol=1e-6)


def test_of_many_rows_a_sample_by_seed_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made = mixed()
    assert len(fitted(made, limit=12).y) == 12
    assert set(fitted(made, 12, 0).y) != set(fitted(made, 12, 1).y)
    monkeypatch.setattr(kernel_regressor, "MOST_ROWS", 10)
    assert len(fitted(made).y) == 10


@pytest.mark.parametrize("value", [0.0, 5.0, -1e30, 1e-30])
def test_constant_targets(value: float) -> None:
    x, _, categorical = mixed(20)
    found = fitted((x, np.full(20, value), categorical)).distribution(x)
    np.testing.assert_allclose(found.mean(), np.full(20, value), rtol=1e-12, atol=1e-9 * (value == 0))
    low, middle, high = found.quantile(LEVELS).T
    np.testing.assert_allclose(middle, value, rtol=1e-6, atol=0.01 * (value == 0))
    assert (low <= middle).all()
    assert (middle <= high).all()


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_rows(rows: int) -> None:
    x, y, categorical = mixed(20)
    found = fitted((x[:rows], y[:rows], categorical)).distribution(x)
    low, middle, high = found.quantile(LEVELS).T
    assert np.isfinite(found.mean()).all()
    assert (low < middle).all()
    assert (middle < high).all()


def test_calibration_finds_scale_and_tails() -> None:
    for factor, freedom in ((1.0, 100.0), (0.7, 3.0)):
        residuals = factor * stats.t(freedom).ppf((np.arange(2000) + 0.5) / 2000)
        found = calibrated(residuals)
        assert found[0] == pytest.approx(factor, rel=0.1)
        assert found[1] == pytest.approx(freedom, rel=0.7)
    assert calibrated(np.zeros(1))[0] > 0.8


def test_weights_come_from_what_is_left_out() -> None:
    model = fitted(mixed())
    scores = []
    for process, targets, factor, freedom, residuals in model.solution.fitted:
        mean, std = moments = process.left_out()
        np.testing.assert_allclose(process.z, targets(model.y))
        assert (factor, freedom) == calibrated((process.z - mean) / std)
        assert residuals[2:] == LocalResiduals.fit(moments, process.z)[2:]
        scores.append(StudentTargets(mean, factor * std, freedom, targets).log_density(model.y))
        scores.append(residuals.left_out_density() - np.log(std) + targets.log_slope(model.y))
    weights = stacked(np.stack(scores, axis=1))
    np.testing.assert_allclose(model.solution.weights, weights)
    np.testing.assert_allclose(model.solution.left_out, np.log(np.exp(scores).T @ weights))
    np.testing.assert_array_equal(model.y, mixed()[1][model.rows])
    assert [each.targets.power == 1 for each in model.solution.fitted] == [True, False]


def test_a_pickle_leaves_the_solution_out_and_keeps_predictions() -> None:
    made = mixed()
    model = fitted(made)
    expected = model.distribution(made[0]).mean()
    data = pickle.dumps(model)
    again = pickle.loads(data)
    assert "solution" in vars(model)
    assert "solution" not in vars(again)
    np.testing.assert_array_equal(again.distribution(made[0]).mean(), expected)
