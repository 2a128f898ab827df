"""Predictive distributions: quantiles invert the distribution function, means and densities are those of it."""

import numpy as np
import pytest
import torch
from scipy import stats

from tabattn.prior.bars import Bars
from tabattn.prior.estimator.distributions import BarTargets, Distribution, Mixture, StudentTargets
from tabattn.prior.estimator.ensemble import RANKS, STANDARD
from tabattn.prior.estimator.number_ensemble import draw_numbers, pooled
from tabattn.prior.estimator.target_scale import TargetScale

SKEWED = 10 + 3 * np.exp(np.random.default_rng(0).normal(size=100))
PLAIN, POWER = TargetScale.of(SKEWED), TargetScale.of(SKEWED, power=True)
LEVELS = np.array([0.01, 0.25, 0.5, 0.9, 0.99])


def student(targets: TargetScale, seed: int = 0) -> StudentTargets:
    source = np.random.default_rng(seed)
    return StudentTargets(source.normal(size=4), source.uniform(0.2, 0.5, 4), 6.0, targets)


def bars(targets: TargetScale, seed: int = 0) -> BarTargets:
    random = torch.Generator().manual_seed(seed)
    return BarTargets(torch.randn(4, 40, generator=random), targets)


def mixture() -> Mixture:
    parts = [student(PLAIN), student(POWER, 1), Mixture([bars(PLAIN), bars(POWER, 1)], [0.5, 0.5])]
    return Mixture([*parts, student(PLAIN, 5)], [0.2, 0.5, 0.3, 0.0])


MADE: dict[str, Distribution] = {
    "student": student(PLAIN),
    "student of a power": student(POWER),
    "bars": bars(PLAIN),
    "bars of a power": bars(POWER),
    "bars of residuals": bars(POWER)._replace(location=np.arange(4.0) - 2, scale=np.linspace(0.1, 0.3, 4)),
    "mixture": mixture(),
}


@pytest.fixture(params=list(MADE))
def made(request: pytest.FixtureRequest) -> Distribution:
    return MADE[request.param]


def test_quantiles_invert_the_distribution_function(made: Distribution) -> None:
    found = made.quantile(LEVELS)
    assert found.shape == (4, 5)
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(made.cdf(found), np.tile(LEVELS, (4, 1)), atol=2e-5)


def test_mean_and_density_belong_to_the_distribution_function(made: Distribution) -> None:
    low, high = made.quantile(np.array([1e-4, 1 - 1e-4])).T
    grid = np.linspace(low, high, 20_001, axis=1)
    steps = np.diff(grid)
    middles = (grid[:, 1:] + grid[:, :-1]) / 2
    masses = np.diff(made.cdf(grid))
    np.testing.assert_allclose((masses * middles).sum(1) / masses.sum(1), made.mean(), rtol=0.03)
    at = 9_000
    around = (made.cdf(grid)[:, at + 200] - made.cdf(grid)[:, at - 200]) / (400 * steps[:, at])
    densities = np.mean([np.exp(made.log_density(grid[:, at + k])) for k in range(-200, 201, 5)], axis=0)
    np.testing.assert_allclose(densities, around, rtol=0.05)


def test_mixtures_of_mixtures_are_mixtures_of_all_parts() -> None:
    inner, y = mixture(), np.array([9.0, 12.0, 15.0, 30.0])
    flat = Mixture.of([(inner, 0.4), (Mixture([student(PLAIN, 7)], [1.0]), 0.6)])
    nested = Mixture([inner, student(PLAIN, 7)], [0.4, 0.6])
    assert len(flat.parts) == 4
    np.testing.assert_allclose(flat.log_density(y), nested.log_density(y))
    np.testing.assert_allclose(flat.quantile(LEVELS), nested.quantile(LEVELS))


def test_student_is_that_of_scipy_in_the_units_of_the_targets() -> None:
    made = student(PLAIN)
    y = np.array([9.0, 12.0, 15.0, 30.0])
    scaled = stats.t(6.0, PLAIN.mean + PLAIN.size * made.location, PLAIN.size * made.scale)
    np.testing.assert_allclose(made.log_density(y), scaled.logpdf(y))
    np.testing.assert_allclose(made.cdf(y[:, None])[:, 0], scaled.cdf(y))
    np.testing.assert_allclose(made.mean(), scaled.mean())


def test_bars_are_those_of_the_network() -> None:
    made = bars(PLAIN)
    reference = Bars(40)
    y = np.array([9.0, 12.0, 15.0, 30.0])
    z = torch.from_numpy((y - PLAIN.mean) / PLAIN.size).float()
    np.testing.assert_allclose(
        made.log_density(y), reference.log_density(made.logits, z).numpy() - np.log(PLAIN.size), atol=1e-5
    )
    np.testing.assert_allclose(made.cdf(y[:, None])[:, 0], reference.cdf(made.logits, z).numpy(), atol=1e-6)


def test_members_are_averaged_by_scaling() -> None:
    ensemble = draw_numbers(SKEWED, 5, 6, 1000, seed=0)
    assert [member.scale for member in ensemble.members] == [STANDARD, RANKS] * 3
    assert [question.targets.power == 1 for question in ensemble.questions] == [True, True, False, False, True, True]
    assert all(sorted(member.columns) == list(range(5)) for member in ensemble.members)
    source = np.random.default_rng(0)
    logits = source.normal(size=(6, 3, 20)).astype(np.float32)
    found = pooled(logits, ensemble.questions)
    singles = [
        BarTargets(torch.from_numpy(each), q.targets) for each, q in zip(logits, ensemble.questions, strict=True)
    ]
    assert len(found.parts) == 2
    assert sum(found.weights) == pytest.approx(1)
    y = source.choice(SKEWED, (3, 4))
    np.testing.assert_allclose(found.cdf(y), np.mean([each.cdf(y) for each in singles], axis=0), atol=1e-6)


def test_members_of_a_large_table_read_their_own_samples() -> None:
    questions = draw_numbers(SKEWED, 2, 3, 20, seed=0).questions
    assert all(len(set(question.rows)) == 20 for question in questions)
    assert len({tuple(question.rows) for question in questions}) == 3
    for question in questions:
        labels = question.labels(SKEWED)
        assert labels.dtype == np.float32
        assert labels.mean() == pytest.approx(0, abs=1e-6)
        assert labels.std() == pytest.approx(1, abs=1e-6)
