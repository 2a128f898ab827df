"""Gaussian processes are those of the textbook: posterior, marginal likelihood and leave-one-out in closed form."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

from tabattn.prior.estimator import gaussian_process
from tabattn.prior.estimator.gaussian_process import Features, GaussianProcess, Kernel, negative_log_likelihood

Rows = NDArray[np.float64]


def rows(count: int = 30, seed: int = 0) -> tuple[Rows, Rows]:
    source = np.random.default_rng(seed)
    x = source.normal(size=(count, 3))
    return x, np.sin(2 * x[:, 0]) + 0.5 * x[:, 1] + 0.1 * source.normal(size=count)


GROUPS = np.array([0, 1, 1])
THETA = np.array([0.3, -0.7, 0.2, 1.1, -0.4, -0.9, -1.3, -2.5])
"""Two relevances and an amplitude, twice; the linear amplitude; the noise."""


def reference(theta: Rows, columns: int) -> Any:
    """The same covariance by scikit-learn."""
    first, second = (np.exp(-0.5 * theta[at : at + 2])[GROUPS] for at in (0, 3))
    return (
        ConstantKernel(np.exp(theta[2])) * Matern(first, nu=2.5)
        + ConstantKernel(np.exp(theta[5])) * Matern(second, nu=0.5)
        + ConstantKernel(np.exp(theta[6]) / columns) * DotProduct(1e-9)
        + WhiteKernel(np.exp(theta[7]))
    )


def test_posterior_and_marginal_likelihood_are_those_of_scikit_learn() -> None:
    x, z = rows()
    others, _ = rows(7, 1)
    expected = GaussianProcessRegressor(reference(THETA, 4), alpha=0, optimizer=None).fit(x, z)
    process = GaussianProcess(Kernel(GROUPS, 4), THETA, x, z)
    mean, std = expected.predict(others, return_std=True)
    found = process.predict(others)
    np.testing.assert_allclose(found.mean, mean, atol=1e-5)
    np.testing.assert_allclose(found.std, std, atol=1e-5)
    value, _ = negative_log_likelihood(process.kernel, THETA, x, z)
    constant = 0.5 * len(z) * np.log(2 * np.pi)
    assert -value - constant == pytest.approx(expected.log_marginal_likelihood_value_, abs=1e-4)


def test_gradient_of_the_marginal_likelihood() -> None:
    x, z = rows()
    kernel = Kernel(GROUPS, 3)
    _, gradient = negative_log_likelihood(kernel, THETA, x, z)
    numeric = approx_fprime(THETA, lambda theta: negative_log_likelihood(kernel, theta, x, z)[0], 1e-6)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-4)


def test_leave_one_out_is_that_of_fits_without_each_row() -> None:
    x, z = rows(20)
    kernel = Kernel(GROUPS, 3)
    found = GaussianProcess(kernel, THETA, x, z).left_out()
    for row in range(20):
        rest = np.delete(np.arange(20), row)
        expected = GaussianProcess(kernel, THETA, x[rest], z[rest]).predict(x[row : row + 1])
        assert found.mean[row] == pytest.approx(expected.mean[0], abs=1e-5)
        assert found.std[row] == pytest.approx(expected.std[0], abs=1e-5)


def test_chunks_and_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x, z = rows()
    process = GaussianProcess(Kernel(GROUPS, 3), THETA, x, z)
    whole = process.predict(x)
    monkeypatch.setattr(gaussian_process, "CHUNK_ROWS", 7)
    np.testing.assert_allclose(process.predict(x), whole, atol=1e-10)
    assert process.predict(x[:0]).std.shape == (0,)


def test_fit_finds_relevant_columns_and_the_noise() -> None:
    source = np.random.default_rng(0)
    x = source.normal(size=(150, 4))
    z = np.sin(2 * x[:, 0]) + 0.2 * source.normal(size=150)
    process = GaussianProcess.fit(Features(x, np.arange(4)), 4, z, np.random.RandomState(0))
    relevance = process.theta[:4]
    assert relevance[0] > relevance[1:].max() + 1
    assert np.exp(0.5 * process.theta[-1]) == pytest.approx(0.2, rel=0.2)
    start = np.append(process.kernel.start, -3.0)
    fitted, before = (negative_log_likelihood(process.kernel, theta, x, z)[0] for theta in (process.theta, start))
    assert fitted < before - 10


def test_fit_maximises_the_posterior_under_the_normal_priors_of_the_logarithms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_process, "STEPS", 1000)
    x, _ = rows(60)
    z = x @ [1.0, -1.0, 0.5] + 0.02 * np.random.default_rng(1).normal(size=60)
    process = GaussianProcess.fit(Features(x, GROUPS), 3, z, np.random.RandomState(0))
    _, gradient = negative_log_likelihood(process.kernel, process.theta, x, z)
    apart = process.theta - np.append(process.kernel.start, -3.0)
    precision = np.array([0.1] * 6 + [0.05] * 2)
    assert (np.abs(apart[-2:]) > 1).all()
    np.testing.assert_allclose(gradient, -precision * apart, atol=0.01)


def test_hyperparameters_come_from_a_sample_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x, z = rows(60)
    monkeypatch.setattr(gaussian_process, "MOST_FITTED", 30)
    features = Features(x, GROUPS)
    first, again, other = (GaussianProcess.fit(features, 3, z, np.random.RandomState(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.theta, again.theta)
    assert np.abs(first.theta - other.theta).max() > 1e-3
    assert first.inverse.shape == (60, 60)


def test_a_matrix_that_cannot_be_inverted_is_no_error() -> None:
    x, z = rows(5)
    value, gradient = negative_log_likelihood(Kernel(GROUPS, 3), np.array([0.0] * 6 + [90.0, -90.0]), x, z)
    assert value == np.inf
    assert not gradient.any()


def test_equal_rows_and_one_row() -> None:
    for x, z in ((np.ones((8, 3)), np.arange(8) - 3.5), (np.ones((1, 3)), np.zeros(1))):
        process = GaussianProcess.fit(Features(x, GROUPS), 3, z, np.random.RandomState(0))
        assert np.isfinite([*process.predict(x), *process.left_out()]).all()
