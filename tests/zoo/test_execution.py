"""Execution, sensitivities and symmetries of many networks at once."""

import numpy as np
import pytest
import torch
from torch import nn

from tabattn.contract.activations import CODES
from tabattn.contract.graphs import BIASED, WEIGHTED, NeuronDAG
from tabattn.zoo import (
    NeuronTokens,
    canonical,
    detokenize,
    edge_weighting,
    execute,
    from_module,
    neuron_sensitivity,
    permuted,
    to_module,
    tokenize,
)
from tests.zoo.networks import graph


def drawn(count: int = 40) -> tuple[list[NeuronDAG], NeuronTokens]:
    """Draw networks with ordinary weights."""
    source = np.random.default_rng(5)
    graphs = [graph(source, plain=True) for _ in range(count)]
    tokens = tokenize(graphs)
    assert isinstance(tokens, NeuronTokens)
    return graphs, tokens


def rows(tokens: NeuronTokens, count: int = 6, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Draw inputs of each network."""
    source = torch.Generator().manual_seed(0)
    return torch.randn(len(tokens.mask), count, 6, generator=source, dtype=dtype)


def double(tokens: NeuronTokens) -> NeuronTokens:
    """Networks in double precision."""
    return tokens._replace(weight=tokens.weight.double(), bias=tokens.bias.double())


def test_all_networks_compute_as_their_modules() -> None:
    graphs, tokens = drawn()
    x = rows(tokens)
    found = execute(tokens, x).outputs
    for place, dag in enumerate(graphs):
        expected = to_module(dag)(x[place, :, : dag.inputs])
        torch.testing.assert_close(found[place, :, : expected.shape[1]], expected, rtol=1e-4, atol=1e-4)
        assert not found[place, :, expected.shape[1] :].any()


def test_no_network_depends_on_another() -> None:
    _, tokens = drawn()
    x = rows(tokens)
    alone = NeuronTokens(*(part[3:4] for part in tokens))
    one, all_of_them = execute(alone, x[3:4]), execute(tokens, x)
    torch.testing.assert_close(one.values[0], all_of_them.values[3])


def test_columns_beyond_the_inputs_of_a_network_are_not_read() -> None:
    module = nn.Linear(2, 1)
    tokens = tokenize([from_module(module), from_module(nn.Linear(4, 1))])
    x = torch.randn(2, 3, 5)
    x[0, :, 2:], x[1, :, 4:] = torch.nan, torch.nan
    found = execute(tokens, x).outputs
    torch.testing.assert_close(found[0], module(x[0, :, :2]))
    assert found.isfinite().all()


def test_weights_get_the_gradients_of_the_module() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    tokens = tokenize(from_module(module))
    assert isinstance(tokens, NeuronTokens)
    weight = tokens.weight.clone().requires_grad_()
    x = torch.randn(1, 5, 4)
    execute(tokens._replace(weight=weight), x).outputs.square().sum().backward()
    module(x[0]).square().sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad[0, 4:7, :4], module[0].weight.grad)
    torch.testing.assert_close(weight.grad[0, 7:9, 4:7], module[2].weight.grad)


def test_too_few_columns_are_refused() -> None:
    tokens = tokenize(from_module(nn.Linear(4, 1)))
    assert isinstance(tokens, NeuronTokens)
    with pytest.raises(ValueError, match="x must have at least 4 columns, the inputs of the largest network, got 3"):
        execute(tokens, torch.zeros(1, 2, 3))


def test_sensitivities_are_finite_differences() -> None:
    _, tokens = drawn(12)
    tokens, x = double(tokens), rows(tokens, 4, torch.double)
    found = neuron_sensitivity(tokens, x)
    expected = torch.zeros_like(found)
    outputs = (((tokens.flags & 4) > 0) & tokens.mask).sum(1)
    for vertex in range(tokens.mask.shape[1]):
        probe = torch.zeros(*x.shape[:2], tokens.mask.shape[1]).double()
        probe[..., vertex] = 1e-5
        change = (execute(tokens, x, probe).outputs - execute(tokens, x, -probe).outputs) / 2e-5
        expected[:, vertex] = change.abs().mean(1).sum(1) / outputs
    far = (expected - found).abs() > 1e-4 * (1 + expected)
    assert far.float().mean() < 0.02
    assert (found * (tokens.level == 0)).abs().max() == 0


def test_the_sensitivity_in_a_linear_network_is_the_product_of_the_weights_behind() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    tokens = tokenize(from_module(module))
    assert isinstance(tokens, NeuronTokens)
    found = neuron_sensitivity(tokens, torch.randn(1, 7, 3))[0]
    torch.testing.assert_close(found[3:5], module[1].weight[0].detach().abs())
    assert found[5] == pytest.approx(1.0)


def test_gauss_newton_weights_are_mean_squared_gradients() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 2)).double()
    single = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 2))
    single.load_state_dict(module.state_dict())
    module.load_state_dict(single.state_dict())
    tokens = tokenize(from_module(single))
    assert isinstance(tokens, NeuronTokens)
    x = torch.randn(1, 6, 3).double()
    edges, biases = edge_weighting(double(tokens), x, "gauss_newton")
    squares = [torch.zeros_like(parameter) for parameter in module.parameters()]
    for row in x[0]:
        for output in range(2):
            each = torch.autograd.grad(module(row)[output], list(module.parameters()))
            squares = [total + part.square() for total, part in zip(squares, each, strict=True)]
    mean = torch.cat([part.flatten() for part in squares]).mean()
    torch.testing.assert_close(edges[0, 3:7, :3], squares[0] / mean)
    torch.testing.assert_close(biases[0, 3:7], squares[1] / mean)
    torch.testing.assert_close(edges[0, 7:9, 3:7], squares[2] / mean)


@pytest.mark.parametrize("weighting", ["none", "neuron", "neuron_x_act", "gauss_newton"])
def test_weightings_have_mean_one_over_real_edges_and_biases(weighting: str) -> None:
    _, tokens = drawn()
    edges, biases = edge_weighting(tokens, rows(tokens), weighting)
    real = tokens.edge & ((tokens.flags & WEIGHTED) > 0)[..., None]
    biased = (tokens.flags & BIASED) > 0
    assert not edges[~real].any()
    assert not biases[~biased].any()
    total, count = edges.sum((1, 2)) + biases.sum(1), real.sum((1, 2)) + biased.sum(1)
    some = total > 0
    torch.testing.assert_close((total / count)[some], torch.ones(int(some.sum())), rtol=1e-4, atol=1e-4)


def test_neurons_are_weighted_by_sensitivity_and_by_the_size_of_their_parents() -> None:
    tokens = tokenize(from_module(nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))))
    x = torch.tensor([[[1.0, -4.0], [-3.0, 4.0]]])
    sensitivity = neuron_sensitivity(tokens, x)[0]
    edges, _ = edge_weighting(tokens, x, "neuron")
    torch.testing.assert_close(edges[0, 2, 0] / edges[0, 4, 3], sensitivity[2] / sensitivity[4])
    edges, _ = edge_weighting(tokens, x, "neuron_x_act")
    torch.testing.assert_close(edges[0, 3, 1] / edges[0, 3, 0], torch.tensor(2.0))


def test_an_unknown_weighting_is_refused() -> None:
    _, tokens = drawn(1)
    with pytest.raises(ValueError, match="weighting must be none, neuron, neuron_x_act, gauss_newton, got 'all'"):
        edge_weighting(tokens, rows(tokens), "all")


def test_permuted_networks_compute_the_same() -> None:
    _, tokens = drawn()
    x = rows(tokens)
    other = permuted(tokens, torch.Generator().manual_seed(1))
    assert not torch.equal(other.weight, tokens.weight)
    detokenize(other)
    torch.testing.assert_close(execute(other, x).outputs, execute(tokens, x).outputs, rtol=1e-4, atol=1e-4)


def test_canonical_networks_compute_the_same_and_are_canonical() -> None:
    _, tokens = drawn(120)
    x = rows(tokens)
    once = canonical(tokens)
    detokenize(once)
    torch.testing.assert_close(execute(once, x).outputs, execute(tokens, x).outputs, rtol=1e-3, atol=1e-3)
    weighted = once.edge & ((once.flags & WEIGHTED) > 0)[:, :, None]
    bare = (once.edge & ~weighted).any(1)
    hidden = once.mask & (once.level > 0) & ((once.flags & 4) == 0) & ((once.flags & WEIGHTED) > 0) & ~bare
    sums = once.weight.double().sum(2) + once.bias.double()
    odd = hidden & torch.isin(once.type, torch.tensor([CODES[name] for name in ("identity", "tanh", "sine")]))
    assert odd.sum() > 10
    assert (sums[odd] >= 0).all()
    norms = (once.weight.double().square().sum(2) + once.bias.double().square()).sqrt()
    scaled = hidden & torch.isin(once.type, torch.tensor([CODES[name] for name in ("identity", "relu", "leaky_relu")]))
    assert scaled.sum() > 10
    assert ((norms[scaled] > 0.7) & (norms[scaled] < 1.42)).all()
    twice = canonical(once)
    assert all(torch.equal(one, other) for one, other in zip(once, twice, strict=True))


def test_permutations_signs_and_scales_have_one_canonical_form() -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
    tokens = tokenize(from_module(module))
    assert isinstance(tokens, NeuronTokens)
    other = permuted(tokens, torch.Generator().manual_seed(2))
    factor = torch.ones_like(other.bias)
    factor[0, 3:8] = torch.tensor([4.0, 0.5, 1.0, 2.0, 8.0])
    factor[0, 8:12] = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    other = other._replace(weight=other.weight * factor[:, :, None] / factor[:, None, :], bias=other.bias * factor)
    assert all(torch.equal(one, two) for one, two in zip(canonical(tokens), canonical(other), strict=True))
