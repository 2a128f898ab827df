"""Stacking: weights maximise the density of held-out targets, and those of the network are held out."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tabattn import TabularRegressor
from tabattn.prior.estimator.number_ensemble import draw_numbers, pooled
from tabattn.prior.estimator.reader import Reader
from tabattn.prior.estimator.stacking import held_out, stacked
from tests.prior.estimator.test_regressor import network, numbers


def test_weights_have_the_largest_density() -> None:
    y = np.random.default_rng(0).normal(size=400)
    scores = np.stack([stats.norm(0, scale).logpdf(y) for scale in (1.0, 3.0, 0.2)], axis=1)
    weights = stacked(scores)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] > 0.8

    def density(weights: NDArray[np.float64]) -> float:
        return float(np.log(np.exp(scores) @ weights).sum() + np.log(weights).sum())

    for other in np.random.default_rng(1).dirichlet(np.ones(3), 50):
        assert density(0.9 * weights + 0.1 * other) <= density(weights) + 1e-3


def test_densities_of_the_network_are_held_out() -> None:
    x, y = numbers(23)
    run = TabularRegressor(network(), n_estimators=3, device="cpu").checked_run()
    found = held_out(network(), x, y, run, seed=0)
    assert np.isfinite(found).all()
    changed = y.copy()
    changed[4] += 50
    other = held_out(network(), x, changed, run, seed=0)
    shift = np.abs(other - found)
    assert shift[4] > 0.1
    fold = shift < 1e-6  # the others of its fold, whose context is without it
    assert fold.sum() == 4
    rest, context = np.flatnonzero(fold), np.setdiff1d(np.arange(23), [*np.flatnonzero(fold), 4])
    ensemble = draw_numbers(y[context], 3, 2, 100, 0)
    reader = Reader(network(), x[context], y[context], ensemble)
    expected = pooled(reader.logits(x[rest], run), ensemble.questions).log_density(y[rest])
    np.testing.assert_allclose(found[rest], expected, atol=1e-4)


def test_the_weight_is_chosen_once_by_held_out_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = numbers()
    model = TabularRegressor(network(), kernel_weight="stacked", n_estimators=2, device="cpu").fit(x, y)
    found = model.predict(x)
    rows = model._kernel.rows
    of_network = held_out(model.network_, model.x_[rows], model.y_[rows], model.checked_run(), model.seed_)
    weight = stacked(np.stack([model._kernel.solution.left_out, of_network], axis=1))[0]
    assert weight > 0.9  # the network's parameters are random
    assert found == pytest.approx(model.set_params(kernel_weight=float(weight)).predict(x))
    monkeypatch.setattr("tabattn.prior.estimator.regressor.held_out", lambda *given: pytest.fail("computed again"))
    np.testing.assert_array_equal(model.set_params(kernel_weight="stacked").predict(x), found)
    with pytest.raises(pytest.fail.Exception, match="computed again"):  # the network's densities are others
        model.set_params(temperature=0.5).predict(x)


def test_a_network_that_knows_better_gets_the_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = numbers()
    monkeypatch.setattr("tabattn.prior.estimator.regressor.held_out", lambda net, x, *given: np.full(len(x), 9.0))
    model = TabularRegressor(network(), kernel_weight="stacked", n_estimators=2).fit(x, y)
    assert model._stacked_weight(model.checked_run()) < 0.1


def test_a_single_row_and_a_file(tmp_path: Path) -> None:
    x, y = numbers(20)
    model = TabularRegressor(network(), kernel_weight="stacked")
    assert model.fit(x[:1], y[:1]).predict(x).shape == (20,)
    expected = model.fit(x, y).predict(x)
    model.save(tmp_path / "a.safetensors")
    again = TabularRegressor.load(tmp_path / "a.safetensors")
    assert again.kernel_weight == "stacked"
    np.testing.assert_array_equal(again.predict(x), expected)
    with pytest.raises(ValueError, match="kernel_weight must be 1 without a network, got 'stacked'"):
        TabularRegressor(kernel_weight=1).fit(x, y).set_params(kernel_weight="stacked").predict(x)
