"""Oracle of Gaussian processes, against scikit-learn, explicit block covariances and known values."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from datamodules import SyntheticPairs
from datamodules.pairs.batches import PairBatches
from datamodules.pairs.gaussian import JITTER, draw, marginal, oracle, predict
from datamodules.pairs.kernels import Process, Term
from datamodules.pairs.kinds import KINDS, make_process
from tabattn.contract.batches import PairBatch
from tests.helpers import build

Floats = NDArray[np.float64]

TASKS = 6


def batches(kind: str, **changes: object) -> PairBatches:
    """Return test batches of a kind, of a few tasks unless told otherwise."""
    loader = build(
        SyntheticPairs, kind=kind, **{"batch_size": TASKS, "evaluation__test_batches": 1, **changes}
    ).test_dataloader()
    items = loader.dataset.items
    assert isinstance(items, PairBatches)
    return items


def squared(x: Floats, length: float) -> Floats:
    return np.exp(-0.5 * ((x[:, None] - x[None]) / length) ** 2)


def blocks(kind: str, x: Floats, k: Floats, process: Process, task: int) -> Floats:
    """Put a covariance together from its definition."""
    if kind == "rbf":
        both = k[:, None] * k[None]
        matrix = squared(x, 1.0) + both * squared(x, 0.4)
    else:
        length = float(process.terms[0].length[task])
        correlation = float(process.terms[0].members[task, 0, 1])
        matrix = np.where(k[:, None] == k[None], 1.0, correlation) * squared(x, length)
    return matrix + 0.05**2 * np.eye(len(x))


def test_const_is_the_regression_of_scikit_learn() -> None:
    kernel = RBF([1, 1e5]) + ConstantKernel(4) * RBF([1e5, 1e-3])
    source = batches("const")
    batch = source[0]
    prediction = predict(source.draw(0, False).process, batch.x, batch.y, batch.member, batch.context)
    for task in range(TASKS):
        inputs = torch.stack([batch.x[task], batch.member[task]], 1).double().numpy()
        values, n = batch.y[task].double().numpy(), batch.context
        theirs = GaussianProcessRegressor(kernel, alpha=0.05**2, optimizer=None).fit(inputs[:n], values[:n])
        mean, spread = theirs.predict(inputs[n:], return_std=True)
        variance = spread**2 + 0.05**2
        np.testing.assert_allclose(prediction.mean[task], mean, rtol=0, atol=2e-6)
        np.testing.assert_allclose(prediction.variance[task], variance, rtol=0, atol=2e-7)
        density = norm(mean, variance**0.5).logpdf(values[n:])
        np.testing.assert_allclose(batch.oracle.log_density[task], density, rtol=0, atol=1e-4)
        assert float(prediction.evidence[task]) == pytest.approx(theirs.log_marginal_likelihood_value_, abs=1e-3)


@pytest.mark.parametrize("kind", ["rbf", "icm"])
def test_densities_are_those_of_blocks_put_together_by_hand(kind: str) -> None:
    source = batches(kind)
    batch, process = source[0], source.draw(0, False).process
    for task in range(TASKS):
        x, y, k = (part[task].double().numpy() for part in (batch.x, batch.y, batch.member))
        matrix, n = blocks(kind, x, k, process, task), batch.context
        mean = matrix[n:, :n] @ np.linalg.solve(matrix[:n, :n], y[:n])
        left = matrix[n:, n:] - matrix[n:, :n] @ np.linalg.solve(matrix[:n, :n], matrix[:n, n:])
        alone = norm(mean, np.diag(left) ** 0.5).logpdf(y[n:])
        together = multivariate_normal(mean, left).logpdf(y[n:])
        np.testing.assert_allclose(batch.oracle.mean[task], mean, rtol=0, atol=1e-5)
        np.testing.assert_allclose(batch.oracle.log_density[task], alone, rtol=0, atol=1e-4)
        assert float(batch.oracle.joint[task]) == pytest.approx(together, abs=1e-3)


def test_a_noisy_single_sequence_is_a_curve_with_white_noise() -> None:
    source = batches("single_noise", points=(40,), context=20)
    batch = source[0]
    assert batch.oracle is not None
    for task in range(TASKS):
        x, y = batch.x[task].double().numpy()[:, None], batch.y[task].double().numpy()
        theirs = GaussianProcessRegressor(RBF(1.0), alpha=0.05, optimizer=None).fit(x[:20], y[:20])
        mean, spread = theirs.predict(x[20:], return_std=True)
        np.testing.assert_allclose(batch.oracle.mean[task], mean, rtol=0, atol=1e-5)
        density = norm(mean, (spread**2 + 0.05) ** 0.5).logpdf(y[20:])
        np.testing.assert_allclose(batch.oracle.log_density[task], density, rtol=0, atol=1e-4)


def test_neighbours_on_a_noisy_single_sequence_are_correlated() -> None:
    batch = batches("single_noise", batch_size=64)[0]
    y = batch.y.gather(1, batch.x.argsort(1)).numpy()
    assert np.corrcoef(y[:, :-1].flatten(), y[:, 1:].flatten())[0, 1] == pytest.approx(1 / 1.05, abs=0.03)


def test_draws_have_the_covariance_they_are_drawn_from() -> None:
    tasks = 20_000
    x = torch.tensor([0.0, 0.4, 0.1, 1.5]).expand(tasks, -1)
    member = torch.tensor([0, 0, 1, 1]).expand(tasks, -1)
    process = make_process(KINDS["rbf"], torch.zeros(tasks, 3))
    values = draw(process, x, member, torch.randn(tasks, 4)).numpy()
    expected = blocks("rbf", x[0].double().numpy(), member[0].numpy(), process, 0)
    np.testing.assert_allclose(np.cov(values.T), expected, rtol=0, atol=0.08)
    assert abs(values.mean(0)).max() < 0.05


def test_a_task_is_drawn_alike_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = batches("const")[0]
    monkeypatch.setattr("datamodules.pairs.gaussian.CACHED", 1)
    portioned = batches("const")[0]
    torch.testing.assert_close(portioned.y, whole.y)
    torch.testing.assert_close(portioned.oracle.joint, whole.oracle.joint)


def test_values_that_contradict_each_other_are_refused() -> None:
    impossible = torch.tensor([[[1.0, 2.0], [2.0, 1.0]]], dtype=torch.float64)
    process = Process((Term("rbf", torch.ones(1), torch.ones(1), impossible),), torch.zeros(1).double())
    with pytest.raises(ValueError, match="eps must be larger for points as many and lengths as long as these, got 0"):
        draw(process, torch.zeros(1, 2), torch.tensor([[0, 1]]), torch.zeros(1, 2))


def test_without_noise_only_the_jitter_is_left() -> None:
    source = batches("rbf_const_2D", points=(20, 20), context=10, evaluation__test_regime="interp")
    batch = source[0]
    prediction = predict(source.draw(0, False).process, batch.x, batch.y, batch.member, batch.context)
    assert float(prediction.variance.min()) >= JITTER * 5
    assert float((prediction.mean - batch.y[:, batch.context :]).abs().median()) < 1e-2


def test_who_knows_one_process_knows_all_of_it() -> None:
    source = batches("icm")
    batch, process = source[0], source.draw(0, False).process
    parts = (batch.x, batch.y, batch.member, batch.context)
    for one, other in zip(marginal([process], *parts), oracle(process, *parts), strict=True):
        torch.testing.assert_close(one, other)


def test_a_mixture_weighs_processes_by_what_they_say_of_the_context() -> None:
    source = batches("icm")
    batch = source[0]
    parts = (batch.x, batch.y, batch.member, batch.context)
    rows = torch.tensor([[0.1, 0.5, 0.5, 0.2], [0.8, 0.5, 0.5, 0.9]])
    processes = [make_process(source.plan, row.expand(TASKS, -1)) for row in rows]
    first, second = (predict(process, *parts) for process in processes)
    share = torch.sigmoid(first.evidence - second.evidence)
    mixed = marginal(processes, *parts)
    expected = share * first.joint.exp() + (1 - share) * second.joint.exp()
    torch.testing.assert_close(mixed.joint.double(), expected.log(), rtol=1e-5, atol=1e-4)
    mean = share.unsqueeze(1) * first.mean + (1 - share.unsqueeze(1)) * second.mean
    torch.testing.assert_close(mixed.mean.double(), mean, rtol=0, atol=1e-5)
    targets = batch.y[:, batch.context :].double()
    densities = share[:, None] * first.log_density(targets).exp()
    densities = densities + (1 - share[:, None]) * second.log_density(targets).exp()
    torch.testing.assert_close(mixed.log_density.double(), densities.log(), rtol=1e-5, atol=1e-4)


def scores(source: PairBatches) -> tuple[float, float, float]:
    """Return mean log-density alone, together, and the mean squared error, each per target."""
    found = [source[number] for number in range(len(source))]
    alone = torch.cat([batch.oracle.log_density for batch in found])
    together = torch.cat([batch.oracle.joint for batch in found]) / alone.shape[1]
    errors = torch.cat([batch.oracle.mean - batch.y[:, batch.context :] for batch in found])
    return float(alone.mean()), float(together.mean()), float(errors.square().mean())


@pytest.mark.parametrize(
    ("kind", "regime", "alone", "together", "error", "margin"),
    [
        ("const", "forecast", 1.203, 1.361, 0.0080, 0.002),
        ("const", "interp", 1.287, 1.374, 0.0059, 0.002),
        ("rbf", "forecast", -1.342, -0.244, 0.944, 0.1),
        ("rbf", "interp", -0.756, -0.014, 0.547, 0.1),
        ("icm", "forecast", -0.863, 0.825, 0.552, 0.1),
        ("icm", "interp", 0.536, 1.110, 0.0757, 0.03),
    ],
)
def test_scores_of_the_kinds(
    kind: str, regime: str, alone: float, together: float, error: float, margin: float
) -> None:
    found = scores(batches(kind, evaluation__test_regime=regime, batch_size=64, evaluation__test_batches=8))
    assert found[0] == pytest.approx(alone, abs=0.06)
    assert found[1] == pytest.approx(together, abs=0.06)
    assert found[2] == pytest.approx(error, abs=margin)


def alone_of(source: PairBatches, batch: PairBatch) -> float:
    """Return the mean log-density of the targets for who sees only the sequence to infer."""
    process, given = source.draw(0, False).process, source.plan.points[0]
    x, y, member = (part[:, given:] for part in (batch.x, batch.y, batch.member))
    return float(oracle(process, x, y, member, batch.context - given).log_density.mean())


def test_the_other_sequence_is_worth_what_the_kind_says() -> None:
    worth = {}
    for kind in ("const", "indep", "copy"):
        source = batches(kind, batch_size=64)
        batch = source[0]
        worth[kind] = float(batch.oracle.log_density.mean()) - alone_of(source, batch)
    assert worth["indep"] == pytest.approx(0, abs=1e-5)
    assert worth["const"] > 1.5
    assert worth["copy"] > 1.5


def test_not_knowing_the_process_costs_something() -> None:
    known = scores(batches("icm", batch_size=40))
    unknown = scores(batches("icm", batch_size=40, evaluation__oracle="marginal"))
    assert 0.02 < known[0] - unknown[0] < 0.25
    assert unknown[1] < known[1]
