"""Alignment of networks by permutations of their hidden neurons."""

import pytest
import torch
from torch import nn

from tabattn.contract.networks import NeuronTokens
from tabattn.zoo import execute
from tabattn.zoo.alignment import aligned
from tabattn.zoo.canonical import permuted
from tabattn.zoo.sampling import as_tokens
from tabattn.zoo.scores import joined


def networks(count: int, *between: nn.Module) -> NeuronTokens:
    torch.manual_seed(0)
    return as_tokens([nn.Sequential(nn.Linear(4, 16), nn.ReLU(), *between, nn.Linear(16, 3)) for _ in range(count)])


def spread(tokens: NeuronTokens) -> float:
    """Squared distance from the mean of the networks."""
    parts = [(part - part.mean(0)).square().sum() for part in (tokens.weight, tokens.bias)]
    return float(sum(parts))


def test_permuted_copies_of_a_network_become_equal() -> None:
    mixed = one = networks(1)
    for seed in range(3):
        mixed = joined(mixed, permuted(one, torch.Generator().manual_seed(seed)))
    assert spread(mixed) > 1
    found = aligned(mixed)
    for part, own in zip(found, one, strict=True):
        assert torch.equal(part, own.expand_as(part))


@pytest.mark.parametrize("deep", [False, True])
def test_functions_stay_and_networks_come_nearer(deep: bool) -> None:
    many, x = networks(6, *([nn.Linear(16, 16), nn.Tanh()] if deep else [])), torch.randn(6, 9, 4)
    if deep:
        many = joined(many, permuted(many, torch.Generator().manual_seed(0)))
        x = torch.cat([x, x])
    found = aligned(many)
    torch.testing.assert_close(execute(found, x).outputs, execute(many, x).outputs)
    assert spread(found) <= spread(aligned(many, 0)) < 0.85 * spread(many)


def test_neurons_with_other_edges_do_not_change_places() -> None:
    many = networks(3)
    edge = many.edge.clone()
    edge[:, 4:10, 0] = False
    sparse = many._replace(edge=edge, weight=many.weight * edge)
    found = aligned(sparse)
    assert (found.weight[~edge] == 0).all()
    torch.testing.assert_close(*(each.weight[:, 4:10].sum((1, 2)) for each in (found, sparse)))


def test_other_architectures_are_refused() -> None:
    other = as_tokens([nn.Linear(2, 1), nn.Linear(3, 1)])
    with pytest.raises(
        ValueError, match="networks must have one architecture to be aligned, got several: type differs"
    ):
        aligned(other._replace(type=torch.arange(2)[:, None].expand_as(other.type)))
    with pytest.raises(ValueError, match="needs at least 1 network to align, got 0"):
        aligned(NeuronTokens(*(each[:0] for each in other)))
