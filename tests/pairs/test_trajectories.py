"""Trajectories, against a loop over targets."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from tabattn.contract.batches import PairBatch
from tabattn.nn.densities import mixture
from tabattn.pairs import LEVELS, TNPD, InferenceOptions, PairNetwork, lay_out, trajectories
from tabattn.pairs.mixtures import components, quantiles
from tabattn.pairs.sampler import Sampler
from tests.pairs.tasks import tasks


class Steps(Sampler):
    """Adds ``x`` to the last value of the task and is unsure by ``spread``."""

    def __init__(self, last: Tensor, spread: float) -> None:
        self.last, self.spread = last, spread

    def step(self, x: Tensor, member: Tensor) -> Distribution:
        mean = self.last + x
        return Normal(mean, torch.full_like(mean, self.spread), validate_args=False)

    def append(self, y: Tensor) -> None:
        self.last = y


class Walk(PairNetwork):
    def __init__(self, spread: float) -> None:
        super().__init__(4, 4, 2, 1, "none")
        self.spread = spread

    def forward(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        raise NotImplementedError

    def sampler(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Steps:
        known = y[:, :context].nan_to_num()
        return Steps(known.sum(1), self.spread)


def network(parts: int = 1) -> TNPD:
    torch.manual_seed(0)
    made = TNPD(dim=8, heads=2, hidden=8, layers=2, components=parts)
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return made


def laid_out(**changes: Any) -> tuple[PairBatch, InferenceOptions]:
    options = InferenceOptions(**{"context_p": 2, "samples": 5, "given_member": 0, **changes})
    return lay_out(tasks(), options), options


def test_without_variance_samples_and_quantiles_equal_the_mean() -> None:
    batch, options = laid_out()
    found = trajectories(Walk(1e-9), batch, options)
    start = batch.y[:, : batch.context].nan_to_num().sum(1, keepdim=True)
    assert batch.padding is not None
    there = ~batch.padding[:, batch.context :]
    expected = (start + batch.x[:, batch.context :].cumsum(1)).masked_fill(~there, torch.nan)
    assert found.mean is not None
    for value in (found.mean, *found.samples, *found.quantiles):
        torch.testing.assert_close(value, expected, equal_nan=True, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("path", ["given", "left_to_right", "random"])
def test_values_are_in_the_order_of_the_targets_for_any_path(path: Any) -> None:
    batch, options = laid_out(path=path, order=False, samples=4)
    found = trajectories(Walk(1e-9), batch, options)
    start = batch.y[:, : batch.context].nan_to_num().sum(1)
    for item in range(3):
        assert batch.padding is not None
        x = batch.x[item, batch.context :][~batch.padding[item, batch.context :]].tolist()
        for sample in found.samples:
            values = sample[item][: len(x)].tolist()
            steps = sorted(range(len(x)), key=lambda place: x[place]) if path == "left_to_right" else range(len(x))
            before = start[item].item()
            # On a random path the differences tell the order: each value is another plus its own x.
            known = [before, *values]
            for place in steps:
                if path == "random":
                    assert any(math.isclose(values[place] - x[place], one, abs_tol=1e-3) for one in known)
                else:
                    assert math.isclose(values[place], before + x[place], abs_tol=1e-3)
                    before = values[place]
    orders = {tuple(sample[0].argsort().tolist()) for sample in found.samples}
    assert (len(orders) > 1) == (path == "random")


@pytest.mark.parametrize("parts", [1, 3])
def test_the_mean_trajectory_feeds_the_mean_back(parts: int) -> None:
    batch, options = laid_out()
    made = network(parts)
    found = trajectories(made, batch, options)
    assert found.mean is not None
    y = torch.cat([batch.y[:, : batch.context], found.mean], dim=1)
    with torch.no_grad():
        expected = made.chain(batch.x, y, batch.member, batch.context).mean
    torch.testing.assert_close(found.mean.nan_to_num(), expected.masked_fill(found.mean.isnan(), 0.0))


@pytest.mark.parametrize("parts", [1, 3])
def test_samples_have_the_moments_of_the_densities(parts: int) -> None:
    batch, options = laid_out(samples=4000, num_steps=1)
    made = network(parts)
    found = trajectories(made, batch, options, torch.Generator().manual_seed(0))
    with torch.no_grad():
        density = made(batch.x, batch.y, batch.member, batch.context)
    torch.testing.assert_close(found.samples.mean(0), density.mean, rtol=0, atol=4 * density.stddev.max().item() / 60)
    torch.testing.assert_close(found.samples.std(0), density.stddev, rtol=0.06, atol=0)
    drawn = found.samples.quantile(torch.tensor(LEVELS), dim=0)
    torch.testing.assert_close(found.quantiles, drawn, rtol=0, atol=0.12 * density.stddev.max().item())


@pytest.mark.parametrize("path", ["given", "random"])
def test_chunks_change_no_number(path: Any) -> None:
    batch, options = laid_out(path=path)
    whole, parts = (
        trajectories(network(3), batch, options, torch.Generator().manual_seed(5), rows) for rows in (None, 4)
    )
    for one, other in zip(whole[1:], parts[1:], strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
    with pytest.raises(ValueError, match="rows must be at least 1, got 0"):
        trajectories(network(), batch, options, rows=0)


def test_a_seed_decides_and_samples_differ() -> None:
    batch, options = laid_out()
    first, again, other = (
        trajectories(network(), batch, options, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    torch.testing.assert_close(first.samples, again.samples, rtol=0, atol=0, equal_nan=True)
    assert not torch.allclose(first.samples, other.samples, equal_nan=True)
    assert len({sample[0, 0].item() for sample in first.samples}) == options.samples
    assert torch.allclose(first.mean, other.mean, equal_nan=True)  # type: ignore[arg-type]


def test_a_task_is_predicted_alike_alone_and_among_longer_ones() -> None:
    whole = tasks()
    batch, options = laid_out(samples=0)
    together = trajectories(network(), batch, options).mean
    assert together is not None
    for item in range(3):
        task = whole._replace(x=whole.x[item, None], y=whole.y[item, None], member=whole.member[item, None])
        alone = trajectories(network(), lay_out(task, options), options).mean
        assert alone is not None
        kept = together[item, : alone.shape[1]]
        torch.testing.assert_close(kept, alone[0])
        assert together[item, alone.shape[1] :].isnan().all()


@pytest.mark.parametrize(("samples", "mean"), [(0, True), (3, False)])
def test_only_requested_trajectories_are_drawn(samples: int, mean: bool) -> None:
    batch, options = laid_out(samples=samples, mean=mean)
    found = trajectories(network(), batch, options)
    targets = batch.x.shape[1] - batch.context
    assert found.samples.shape == (samples, 3, targets)
    assert (found.mean is not None) == mean
    assert found.quantiles.shape == (len(LEVELS), 3, targets)


@pytest.mark.parametrize("samples", [600, 0])
def test_quantiles_are_those_of_all_samples_and_of_the_mean_without_any(samples: int) -> None:
    """A random walk: the variance of its samples grows with each step, that of each density stays."""
    batch, options = laid_out(samples=samples)
    found = trajectories(Walk(0.5), batch, options, torch.Generator().manual_seed(0))
    width = found.quantiles[LEVELS.index(0.95)] - found.quantiles[LEVELS.index(0.05)]
    steps = torch.arange(1, width.shape[1] + 1) if samples else torch.ones(width.shape[1])
    expected = (2 * 1.6449 * 0.5 * steps.sqrt()).expand_as(width)
    there = width.isfinite()
    assert there.sum() > 10
    torch.testing.assert_close(width[there], expected[there], rtol=0.15 if samples else 1e-3, atol=0)


def test_quantiles_invert_the_distribution_function() -> None:
    density = mixture(torch.randn(2, 3, 4), 5 * torch.randn(2, 3, 4), torch.rand(2, 3, 4) + 0.01)
    weights, means, stds = components(density)
    found = density.cdf(quantiles(weights, means, stds))
    torch.testing.assert_close(found, torch.tensor(LEVELS)[:, None, None].expand_as(found), rtol=0, atol=1e-4)
