"""Scheduled sampling shows predictions as context, and changes nothing else."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from tabattn.contract.batches import PairBatch
from tabattn.pairs import TNPD, PairNetwork
from tabattn.pairs.scheduled import LONG, scheduled
from tabattn.tasks import PairInference
from tests.pairs.tasks import tasks as short_tasks


def tasks() -> PairBatch:
    """Draw tasks with enough targets to be changed."""
    return short_tasks(points=12 + LONG + 3)


class Certain(PairNetwork):
    """Predicts 100 plus the location, without doubt."""

    def __init__(self) -> None:
        super().__init__(4, 4, 2, 1, "none")
        self.width = torch.nn.Parameter(torch.tensor(1e-9))

    def forward(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        return Normal(100 + x[:, context:], self.width.expand(x[:, context:].shape), validate_args=False)


def drawn(batch: PairBatch, probability: float = 1.0, seed: int = 0) -> PairBatch:
    torch.manual_seed(seed)
    return scheduled(Certain(), batch, probability)


def test_context_goes_on_with_predictions_and_targets_keep_their_values() -> None:
    batch = tasks()
    counts = set()
    for seed in range(400):
        after = drawn(batch, seed=seed)
        start, stop = batch.context, after.context
        counts.add(stop - start)
        torch.testing.assert_close(after.y[:, start:stop], 100 + batch.x[:, start:stop])
        torch.testing.assert_close(after.y[:, :start], batch.y[:, :start], equal_nan=True)
        torch.testing.assert_close(after.y[:, stop:], batch.y[:, stop:], equal_nan=True)
        assert not after.y.requires_grad
        assert after.x is batch.x
        assert after.member is batch.member
    # From one to all but one of the targets.
    assert counts == set(range(1, batch.x.shape[1] - batch.context))


def test_predictions_do_not_read_the_values_they_replace() -> None:
    torch.manual_seed(0)
    batch, network = tasks(), TNPD(dim=8, heads=2, hidden=8, layers=2)
    hidden = batch.y.clone()
    hidden[:, batch.context :] = -7.0
    torch.manual_seed(1)
    after = scheduled(network, batch, 1.0)
    torch.manual_seed(1)
    again = scheduled(network, batch._replace(y=hidden), 1.0)
    torch.testing.assert_close(again.y[:, : again.context], after.y[:, : after.context], rtol=0, atol=0)


def test_missing_values_stay_missing() -> None:
    batch = tasks()
    y = batch.y.clone()
    y[0, batch.context] = torch.nan
    after = drawn(batch._replace(y=y))
    assert after.y.isnan().equal(y.isnan())


def test_probability_is_that_of_a_batch() -> None:
    batch, network = tasks(), Certain()
    torch.manual_seed(0)
    assert 70 <= sum(scheduled(network, batch, 0.25) is not batch for _ in range(400)) <= 130


def test_true_values_alone() -> None:
    batch = tasks()
    assert drawn(batch, 0.0) is batch


@pytest.mark.parametrize(("targets", "changed"), [(31, False), (32, True)])
def test_short_remainders_are_left_alone(targets: int, changed: bool) -> None:
    batch = short_tasks(points=12 + targets)
    assert (drawn(batch) is not batch) == changed


def test_training_learns_from_the_targets_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    task = PairInference(partial(TNPD, dim=8, heads=2, hidden=8, layers=2), scheduled_sampling=1.0)
    monkeypatch.setattr(task, "log", lambda *args, **kwargs: None)
    batch = tasks()
    torch.manual_seed(0)
    loss = task.training_step(batch, 0)
    torch.manual_seed(0)
    after = scheduled(task.network, batch, 1.0)
    task.scheduled_sampling = 0.0
    torch.testing.assert_close(loss, task.training_step(after, 0))
    assert loss != task.training_step(batch, 0)
    loss.backward()
    assert all(weight.grad is not None for weight in task.network.parameters())


@pytest.mark.parametrize("bad", [-0.1, 1.5, float("nan")])
def test_probabilities_out_of_bounds(bad: float) -> None:
    with pytest.raises(ValueError, match=rf"scheduled_sampling must be between 0 and 1, got {bad}"):
        PairInference(scheduled_sampling=bad)
