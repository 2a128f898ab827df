"""Distributions of residuals: what is near decides, and a row does not predict itself."""

import numpy as np
import pytest
import torch
from scipy import stats

from tabattn.prior.bars import Bars
from tabattn.prior.estimator.gaussian_process import Moments
from tabattn.prior.estimator.residuals import BANDWIDTHS, REACHES, LocalResiduals
from tabattn.prior.estimator.target_scale import TargetScale

PLAIN = TargetScale(0.0, 1.0, 1.0, (-1.0, 1.0), 0.0, 1.0)


def made(rows: int = 400) -> tuple[Moments, np.ndarray]:
    """Left-out moments, and targets whose residuals are narrow below 0 and of two kinds above."""
    source = np.random.default_rng(0)
    mean = source.uniform(-1, 1, rows)
    below, above = 0.2 * source.normal(size=rows), source.choice([-1.0, 1.0], rows) + 0.1 * source.normal(size=rows)
    return Moments(mean, np.full(rows, 0.5)), mean + 0.5 * np.where(mean < 0, below, above)


def test_left_out_density_written_out() -> None:
    moments, z = made(30)
    model = LocalResiduals(moments.mean, (z - moments.mean) / moments.std, 0.4, 0.35)
    found = model.left_out_density()
    for row in range(30):
        rest = np.delete(np.arange(30), row)
        weights = stats.norm(moments.mean[row], 0.4).pdf(moments.mean[rest])
        kernels = stats.norm(model.residuals[rest], 0.35).pdf(model.residuals[row])
        assert found[row] == pytest.approx(np.log(weights @ kernels / weights.sum()), abs=0.03)


def test_reach_and_bandwidth_have_the_largest_density() -> None:
    moments, z = made()
    best = LocalResiduals.fit(moments, z)
    assert (best.reach, best.bandwidth) == (0.15, 0.1)
    for reach in REACHES:
        for width in BANDWIDTHS:
            other = best._replace(reach=reach, bandwidth=width)
            assert other.left_out_density().mean() <= best.left_out_density().mean()
    same = made()[0].mean + 0.5 * np.random.default_rng(1).normal(size=400)
    assert LocalResiduals.fit(moments, same)[2:] == (np.inf, 0.35)


def test_predictions_follow_the_fitted_value() -> None:
    moments, z = made()
    rows = Moments(np.array([-0.6, 0.6]), np.array([0.5, 0.5]))
    found = LocalResiduals.fit(moments, z).distribution(rows, PLAIN)
    narrow, wide = np.diff(found.quantile(np.array([0.05, 0.95])))[:, 0]
    assert narrow < 0.5 * wide
    middle, side = (np.exp(found.log_density(np.array([-0.6, 0.6 + shift])))[1] for shift in (0.0, 0.5))
    assert middle < 0.1 * side
    np.testing.assert_allclose(found.mean(), rows.mean, atol=0.1)


def test_a_residual_far_from_all_others_has_a_density_above_0() -> None:
    residuals = np.append(np.zeros(20), 5.0)
    found = LocalResiduals(np.zeros(21), residuals, np.inf, 0.1).left_out_density()
    borders = Bars(200).borders
    bar = int(torch.bucketize(torch.tensor(5.0), borders))
    assert found[-1] == pytest.approx(np.log(1e-9 / float(borders[bar] - borders[bar - 1])), abs=1e-3)


def test_few_rows_and_far_ones() -> None:
    for rows in (1, 2):
        moments, z = made(rows)
        model = LocalResiduals.fit(moments, z)
        assert np.isfinite(model.left_out_density()).all()
        far = model.distribution(Moments(np.array([1e9, -1e9]), np.ones(2)), PLAIN)
        assert np.isfinite(far.mean()).all()
