"""Parts of the networks that encode and decode networks: each number where it belongs."""

import numpy as np
import pytest
import torch
from torch import nn

from tabattn.contract.graphs import BIASED, WEIGHTED, NeuronDAG, Population
from tabattn.contract.networks import NeuronTokens
from tabattn.zoo import NETWORKS, NeuronTransformer, Sizes, from_module
from tabattn.zoo.coder import Architecture, NetworkCoder, Posterior, TaskRows
from tabattn.zoo.places import neighbours
from tests.zoo.networks import batch
from tests.zoo.test_network import SIZES, SMALL, coder


def skipping() -> NeuronDAG:
    """Two inputs, a hidden vertex that adds them without weights, and an output that reads all of them."""
    return NeuronDAG(
        np.uint8([0, 0, 2, 0]),
        np.uint8([0, 0, 1, 2]),
        np.uint8([0, 0, 0, 7]),
        np.float32([0, 0, 0, 0.5]),
        np.int64([0, 0, 0, 2, 5]),
        np.int64([0, 1, 0, 1, 2]),
        np.float32([1, 1, 3, -2, 4]),
    )


def tokens_of(*dags: NeuronDAG) -> NeuronTokens:
    return NeuronTokens.of(Population.of(dags))


def test_every_weight_is_read_also_of_edges_that_skip_levels() -> None:
    """By the weights alone, without probe features."""
    tokens = tokens_of(skipping())
    network = NeuronTransformer(SIZES, latent=8, probes=0, meta="none", **SMALL["NeuronTransformer"]).eval()
    mean = network.encode(tokens).mean
    for child, parent in tokens.edge[0].nonzero().tolist():
        if child == 3:
            weight = tokens.weight.clone()
            weight[0, child, parent] += 1
            assert not torch.allclose(network.encode(tokens._replace(weight=weight)).mean, mean, atol=1e-4), parent


@pytest.mark.parametrize("name", NETWORKS)
def test_vertices_without_edges_are_read(name: str) -> None:
    """An input that nothing reads, or none, are two networks."""
    without = from_module(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    unread = NeuronDAG(
        np.uint8([0, 0, 0, 1, 1]),
        np.uint8([0, 0, 0, 1, 1]),
        np.uint8([0, 0, 0, 7, 7]),
        np.concatenate([np.float32([0]), without.bias]),
        np.int64([0, 0, 0, 0, 2, 4]),
        without.source,
        without.weight,
    )
    network = coder(name, meta="none").eval()
    means = [network.encode(tokens_of(dag)).mean for dag in (without, unread)]
    assert not torch.allclose(*means, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_variances_of_latents_stay_within_bounds(name: str) -> None:
    network = coder(name, meta="none").eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(30)
    found = network.encode(batch(20).tokens).log_variance
    assert (found.min(), found.max()) == (-12, 4)


def test_latents_are_drawn_with_their_standard_deviations() -> None:
    torch.manual_seed(0)
    drawn = Posterior(torch.full((20_000, 2), 3.0), torch.tensor([[0.0, -2.0]]).expand(20_000, -1)).drawn()
    assert drawn.mean(0).tolist() == pytest.approx([3, 3], abs=0.03)
    assert drawn.std(0).tolist() == pytest.approx([1, np.exp(-1)], rel=0.03)


def test_edges_rise_from_the_level_of_the_parent_to_that_of_the_child() -> None:
    rise = torch.zeros(3, 3)
    rise[2, 1] = 5.0
    nothing = torch.zeros(1, 2, 2)
    logits = Architecture(torch.zeros(1, 2), nothing, nothing, nothing, nothing, rise)
    # Row = child, column = parent.
    assert logits.edges(torch.tensor([[1, 2]])).tolist() == [[[0, 0], [5, 0]]]


def test_statistics_are_of_weights_alone() -> None:
    """Edges without weights, whose number is 1, are no weights; equal weights have a scale all the same."""
    network = coder()
    network.begin(tokens_of(skipping()))
    assert network.statistics[:, 1].tolist() == [0, 1, 0, 1]
    weights = torch.tensor([3.0, -2.0, 4.0])
    assert network.statistics[:2, 2].tolist() == pytest.approx([weights.mean().item(), weights.std().item()])
    equal = nn.Linear(2, 2)
    with torch.no_grad():
        equal.weight.fill_(0.25)
        equal.bias.fill_(0.5)
    network = coder()
    network.begin(tokens_of(from_module(equal)))
    assert network.statistics[:, 1].tolist() == pytest.approx([0.25, 1e-3, 0.5, 1e-3])


def test_neighbours_are_a_level_apart() -> None:
    tokens = tokens_of(skipping(), from_module(nn.Linear(1, 1)))
    places, adjacent = neighbours(tokens, 3)
    assert places[0].tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert not places[1, 2:].any()
    # Row = child, column = parent: the hidden vertex reads the inputs, the output the hidden vertex.
    assert adjacent[0].nonzero().tolist() == [[2, 0], [2, 1], [3, 2]]


def test_places_of_levels_are_all_different() -> None:
    sizes = Sizes(14, 3, 5, 5, 6)
    network = NeuronTransformer(sizes, latent=8, **SMALL["NeuronTransformer"])
    tokens = tokens_of(from_module(nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 4))))
    assert network.places.cell(tokens).tolist() == [list(range(14))]


def test_weights_of_rows_and_columns_are_of_adjacent_levels() -> None:
    """Without products of children and parents, an edge that skips a level has none."""
    tokens = tokens_of(skipping())
    network = NeuronTransformer(SIZES, latent=8, meta="none", **SMALL["NeuronTransformer"]).eval()
    with torch.no_grad():
        network.decoder.products.weight.zero_()
        network.decoder.products.bias.zero_()
    weight, _ = network.weights(torch.randn(1, 8), torch.zeros(1, 0), tokens)
    assert weight[0].nonzero().tolist() == [[2, 0], [2, 1], [3, 2]]


def told_in(name: str) -> list[str]:
    return ["concat", "rows"] if name != "NeuronTransformer" else ["token", "concat", "rows"]


@pytest.mark.parametrize(("name", "meta"), [(name, meta) for name in NETWORKS for meta in told_in(name)])
def test_what_is_told_changes_architecture_and_weights(name: str, meta: str) -> None:
    given = batch(2)
    network: NetworkCoder = coder(name, meta=meta).eval()
    latent = torch.randn(1, 8).expand(2, -1)
    told = network.tell(TaskRows(given.meta, given.x, given.y))
    logits = network.architecture(latent, told, 5)
    tokens = NeuronTokens(*(part[:1].expand(2, *part.shape[1:]) for part in given.tokens))
    for found in (logits.presence, network.weights(latent, told, tokens)[1]):
        assert not torch.allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_that_are_not_there_tell_nothing(name: str) -> None:
    given = batch(3)
    network = coder(name, meta="rows").eval()
    absent = torch.full_like(given.y[:, :4], torch.nan)
    longer = TaskRows(given.meta, torch.cat([given.x, given.x[:, :4]], 1), torch.cat([given.y, absent], 1))
    assert torch.allclose(network.tell(longer), network.tell(TaskRows(given.meta, given.x, given.y)), atol=1e-5)


def test_flags_are_read_as_the_bits_that_they_are() -> None:
    """Beside the embedding of the flags: whether a vertex has a bias, which of 0 would look like none."""
    network = NeuronTransformer(SIZES, latent=8, meta="none", **SMALL["NeuronTransformer"])
    with torch.no_grad():
        for table in network.places.tables:
            nn.init.zeros_(table.weight)  # type: ignore[arg-type]
    tokens = tokens_of(skipping())._replace(bias=torch.zeros(1, 4))
    for bit, read in ((BIASED, True), (WEIGHTED, False)):
        flags = tokens.flags.clone()
        flags[0, 2] ^= bit
        changed = network.tokens(tokens._replace(flags=flags, weight=torch.zeros_like(tokens.weight)))
        before = network.tokens(tokens._replace(weight=torch.zeros_like(tokens.weight)))
        assert (not torch.equal(changed, before)) == read


@pytest.mark.parametrize("name", NETWORKS)
def test_edges_have_logits_of_their_own(name: str) -> None:
    """Not the weights; and what levels add is as it is learned, row = child."""
    network = coder(name, meta="none").eval()
    learned = dict(network.named_parameters())["decoder.rise" if name == "NeuronTransformer" else "rise"]
    with torch.no_grad():
        learned.copy_(torch.arange(16.0).view(4, 4))
    tokens, latent = batch(2).tokens, torch.randn(2, 8)
    logits = network.architecture(latent, torch.zeros(2, 0), 14)
    assert torch.equal(logits.rise, torch.arange(16.0).view(4, 4))
    assert not torch.allclose(logits.pair, network.weights(latent, torch.zeros(2, 0), tokens)[0], atol=1e-4)
