"""Recorded attention of trajectories is that of the network."""

from typing import Any

import pytest
import torch

from tabattn.attention import as_factory
from tabattn.attention.capture import capture
from tabattn.pairs import (
    TNPA,
    TNPD,
    InferenceOptions,
    PairNetwork,
    SeedNetwork,
    Trajectories,
    attended,
    lay_out,
    target_layers,
    trajectories,
)
from tests.pairs.tasks import tasks

NETWORKS = [TNPD, TNPA, SeedNetwork]


def drawn(kind: Any, **options: Any) -> tuple[PairNetwork, Trajectories]:
    torch.manual_seed(0)
    network = kind(dim=8, heads=2, hidden=8, layers=2)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    asked = InferenceOptions(**{"samples": 2, "context_p": 2, **options})
    return network, trajectories(network, lay_out(tasks(), asked), asked)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("mean", [True, False])
def test_each_step_shares_its_attention_among_the_points_known_then(kind: Any, mean: bool) -> None:
    network, found = drawn(kind, mean=mean)
    targets = int(found.quantiles[0, 1].isfinite().sum())
    context = found.batch.context
    assert len(attended(network, found, 1, 999)) == targets
    seen = attended(network, found, 1, 3)
    assert [look.weights.shape for look in seen] == [(2, context + step) for step in range(3)]
    there = torch.cat([found.batch.y[1, :context].isfinite(), torch.ones(3, dtype=torch.bool)])
    for look in seen:
        torch.testing.assert_close(look.weights.sum(1), torch.ones(2))
        assert not look.weights[:, ~there[: look.weights.shape[1]]].any()
        assert look.layer in dict(network.named_modules())


@pytest.mark.parametrize("kind", NETWORKS)
def test_any_step_and_layer_can_be_recorded(kind: Any) -> None:
    network, found = drawn(kind)
    layers = target_layers(network, ".")
    assert len(layers) == (1 if kind is SeedNetwork else 2)
    seen = attended(network, found, 0, [3, 1], ".")
    assert [(look.step, look.layer) for look in seen] == [(step, layer) for step in (1, 3) for layer in layers]
    last = attended(network, found, 0, 3)
    assert [look.step for look in last] == [1, 2, 3]
    torch.testing.assert_close(seen[-1].weights, last[-1].weights)
    if len(layers) > 1:
        assert not seen[-1].weights.allclose(seen[-2].weights)
    assert attended(network, found, 0, [999]) == []
    with pytest.raises(
        ValueError, match=r"layers='none' matches no layer in which targets attend; there are: .*mechanism"
    ):
        target_layers(network, "none")


def test_attention_is_that_of_a_pass_with_the_values_predicted_before() -> None:
    network, found = drawn(TNPD, samples=0)
    batch, context = found.batch, found.batch.context
    seen = attended(network, found, 0, [3])
    assert found.mean is not None
    y = torch.cat([batch.y[:1, :context], found.mean[:1, :2]], 1)
    with capture(network) as maps:
        network(batch.x[:1, : context + 3], y, batch.member[:1, : context + 3], context + 2)
    weights = maps[seen[0].layer][-1].weights
    assert weights is not None
    torch.testing.assert_close(seen[0].weights, weights[0, :, -1])


def test_without_context_there_is_nothing_to_attend_to_at_first() -> None:
    torch.manual_seed(0)
    network, asked = TNPD(dim=8, heads=2, hidden=8, layers=2), InferenceOptions(samples=1, context_p=0, num_steps=3)
    batch = tasks()
    found = trajectories(network, lay_out(batch._replace(member=torch.zeros_like(batch.member)), asked), asked)
    assert [look.weights.shape[1] for look in attended(network, found, 0, 3)] == [0, 1, 2]


@pytest.mark.parametrize("mechanism", ["Local", "Linear", "Inducing", "Pooling"])
def test_layers_are_those_in_which_targets_attend(mechanism: str) -> None:
    """Not those between context points, where a mechanism answers these alone."""
    torch.manual_seed(0)
    network = TNPD(as_factory(mechanism), dim=8, heads=2, hidden=8, layers=3)
    asked = InferenceOptions(samples=1, context_p=2, num_steps=3)
    found = trajectories(network, lay_out(tasks(), asked), asked)
    context = found.batch.context
    for look in attended(network, found, 0, 3, "."):
        torch.testing.assert_close(look.weights.sum(1), torch.ones(2))
        assert look.weights.shape[1] == context + look.step - 1


@pytest.mark.parametrize("kind", NETWORKS)
def test_trajectories_of_some_tasks(kind: Any) -> None:
    network, found = drawn(kind, samples=3)
    some = found.select([2, 0])
    assert torch.equal(some.batch.x, found.batch.x[[2, 0]])
    assert torch.equal(some.samples.nan_to_num(), found.samples[:, [2, 0]].nan_to_num())
    assert torch.equal(some.quantiles.nan_to_num(), found.quantiles[:, [2, 0]].nan_to_num())
    torch.testing.assert_close(attended(network, some, 0, 2)[1].weights, attended(network, found, 2, 2)[1].weights)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_point_that_moves_gets_other_attention_in_its_own_column(kind: Any) -> None:
    network, found = drawn(kind)
    batch = found.batch
    before = attended(network, found, 0, 1)[0].weights
    x = batch.x.clone()
    x[0, 2] += 0.5
    after = attended(network, found._replace(batch=batch._replace(x=x)), 0, 1)[0].weights
    assert (after - before)[:, 2].abs().sum() > 1e-4


def test_steps_are_those_of_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    network, found = drawn(TNPD, path="left_to_right", order=False, samples=0)
    context = found.batch.context
    walked: list[float] = []
    sampler = network.sampler

    def watched(*parts: Any) -> Any:
        made = sampler(*parts)
        step = made.step
        made.step = lambda x, member: (walked.append(x.item()), step(x, member))[1]
        return made

    monkeypatch.setattr(network, "sampler", watched)
    attended(network, found, 0, 3)
    assert found.batch.padding is not None
    places = found.batch.x[0, context:][~found.batch.padding[0, context:]]
    assert walked == places.sort().values[:3].tolist() != places[:3].tolist()
