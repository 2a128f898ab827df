"""Conversion and tokenisation lose nothing."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from tabattn.contract.graphs import NeuronDAG, Population
from tabattn.zoo import TOKENIZERS, DAGNet, UnsupportedModule, detokenize, from_module, to_module, tokenize
from tests.zoo.networks import graph, inputs_of, layered


@pytest.fixture(scope="module")
def graphs() -> list[NeuronDAG]:
    """Random graphs: of layers and of any kind."""
    source = np.random.default_rng(0)
    made = [from_module(module, inputs_of(module)) for module in (layered(source) for _ in range(300))]
    return made + [graph(source) for _ in range(300)]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_tokens_are_the_graphs_again(graphs: list[NeuronDAG], tokenizer: str) -> None:
    assert detokenize(tokenize(graphs, tokenizer)) == graphs


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_ten_thousand_networks_are_the_same_again(tokenizer: str) -> None:
    source = np.random.default_rng(1)
    for _ in range(20):
        some = [graph(source) if source.integers(2) else _converted(layered(source)) for _ in range(500)]
        assert detokenize(tokenize(some, tokenizer)) == some
        assert [from_module(to_module(dag)) for dag in some] == some


def _converted(module: nn.Sequential) -> NeuronDAG:
    return from_module(module, inputs_of(module))


def test_modules_are_the_graphs_again(graphs: list[NeuronDAG]) -> None:
    arrays = {"type": np.uint8([0, 0, 9]), "level": np.uint8([0, 1, 2]), "flags": np.uint8([0, 1, 4])}
    arrays |= {"pointer": np.int64([0, 0, 1, 2]), "source": np.int64([0, 1])}
    apart = NeuronDAG(bias=np.zeros(3, np.float32), weight=np.float32([2, 1]), **arrays)
    for dag in [*graphs, apart]:
        assert from_module(to_module(dag)) == dag


def test_layers_become_the_same_layers() -> None:
    source = np.random.default_rng(2)
    for _ in range(100):
        module = layered(source).eval()
        made = to_module(from_module(module, inputs_of(module)))
        if not any(isinstance(part, nn.Linear) for part in module):
            # Activations alone do not say how many inputs there are.
            assert isinstance(made, DAGNet)
            continue
        assert isinstance(made, nn.Sequential)
        kept = [part for part in module if not isinstance(part, nn.Dropout)]
        assert [type(part) for part in made] == [type(part) for part in kept]
        pairs = zip(module.parameters(), made.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
        x = torch.randn(4, inputs_of(module))
        torch.testing.assert_close(module(x), made(x), rtol=0.0, atol=0.0, equal_nan=True)


def test_a_dag_net_computes_as_the_layers() -> None:
    source = np.random.default_rng(3)
    for _ in range(50):
        module = layered(source, plain=True).eval()
        x = torch.randn(4, inputs_of(module))
        torch.testing.assert_close(DAGNet(_converted(module))(x), module(x), rtol=1e-3, atol=1e-4)


def test_the_other_networks_and_the_room_do_not_matter(graphs: list[NeuronDAG]) -> None:
    for tokenizer in TOKENIZERS:
        together = tokenize(graphs[-5:], tokenizer, most=400)
        for place, dag in enumerate(graphs[-5:]):
            alone = tokenize(dag, tokenizer, most=400)
            assert all(torch.equal(one[0], other[place]) for one, other in zip(alone, together, strict=True))
            assert detokenize(alone) == [dag]


def test_places_are_counted_within_levels() -> None:
    small, large = from_module(nn.Linear(2, 1)), from_module(nn.Sequential(nn.Linear(1, 3), nn.Linear(3, 2)))
    tokens = tokenize([small, large])
    assert tokens.place.tolist() == [[0, 1, 0, 0, 0, 0], [0, 0, 1, 2, 0, 1]]


def test_biases_without_weights_are_no_layer() -> None:
    arrays = from_module(nn.Sequential(nn.Tanh()), 2)
    biased = replace(arrays, flags=np.uint8([0, 0, 6, 6]), bias=np.float32([0, 0, 1, 2]))
    made = to_module(biased)
    assert from_module(made) == biased
    torch.testing.assert_close(made(torch.zeros(1, 2)), torch.tensor([[1.0, 2.0]]).tanh())


def test_what_training_changes_is_in_the_graph() -> None:
    dag = graph(np.random.default_rng(4))
    net = DAGNet(dag)
    with torch.no_grad():
        net.weight.add_(1.0)
    changed = from_module(copy.deepcopy(net))
    weighted = dag.flags[dag.child] & 1 > 0
    np.testing.assert_array_equal(changed.weight[weighted], dag.weight[weighted] + np.float32(1))
    np.testing.assert_array_equal(changed.weight[~weighted], dag.weight[~weighted])
    assert from_module(DAGNet(changed)) == changed


def test_a_population_gives_its_networks_back(graphs: list[NeuronDAG]) -> None:
    population = Population.of(graphs)
    assert [population[place] for place in (0, 7, -1)] == [graphs[0], graphs[7], graphs[-1]]
    chosen = population.take(np.asarray([9, 3, 3]))
    assert [chosen[place] for place in range(3)] == [graphs[9], graphs[3], graphs[3]]
    assert len(Population.of([])) == 0
    with pytest.raises(IndexError, match="network 600 of 600"):
        population[600]


class Linear(nn.Linear):
    """Layer of the same name that may compute anything."""


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Conv1d(1, 1, 1))),
            r"module '1\.0' is a Conv1d; a network may",
        ),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "module '1' is a BatchNorm1d"),
        (nn.LeakyReLU(0.3), "module is a LeakyReLU with negative_slope=0.3, not 0.01"),
        (nn.GELU("tanh"), "module is a GELU with approximate=tanh, not none"),
        (nn.MultiheadAttention(2, 1), "module is a MultiheadAttention"),
        (nn.Sequential(Linear(2, 2)), r"module '0' is a tests\.zoo\.test_round_trips\.Linear"),
    ],
)
def test_other_modules_are_refused_by_name(module: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedModule, match=message):
        from_module(module)


def test_hooks_are_refused() -> None:
    """They may change what a module computes: a forward hook its outputs, pruning its weights before each call."""
    doubled = nn.Linear(2, 2)
    doubled.register_forward_hook(lambda module, inputs, outputs: 2 * outputs)
    pruned = prune.l1_unstructured(nn.Linear(2, 2), "weight", 0.5)
    whole = nn.Sequential(nn.Linear(2, 2))
    whole.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
    for module, message in ((nn.Sequential(doubled), "module '0' is a Linear"), (pruned, "module is a Linear")):
        with pytest.raises(UnsupportedModule, match=f"{message} with hooks, which may change what it computes"):
            from_module(module)
    with pytest.raises(UnsupportedModule, match="module is a Sequential with hooks"):
        from_module(whole)
    prune.remove(pruned, "weight")
    assert (from_module(pruned).weight == 0).sum() == 2


def test_widths_and_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="linear layer '1' has 4 inputs, but 3 come before it"):
        from_module(nn.Sequential(nn.Linear(2, 3), nn.Linear(4, 1)))
    with pytest.raises(ValueError, match=r"layer '0' has numbers of type torch\.float64"):
        from_module(nn.Sequential(nn.Linear(2, 3)).double())
    with pytest.raises(ValueError, match=r"^layer has numbers of type torch\.float16"):
        from_module(nn.Linear(2, 3).half())
    sparse = nn.Linear(2, 3)
    sparse.weight = nn.Parameter(sparse.weight.detach().to_sparse())
    for absent in (nn.Linear(2, 3, device="meta"), sparse):
        with pytest.raises(ValueError, match="layer has numbers that are not there, or not all"):
            from_module(absent)
    empty = nn.Linear(2, 3)
    empty.weight, empty.bias, empty.out_features = nn.Parameter(torch.zeros(0, 2)), nn.Parameter(torch.zeros(0)), 0
    with pytest.raises(ValueError, match="linear layer must have at least 1 output, got 0"):
        from_module(empty)
    with pytest.raises(ValueError, match="inputs must be at least 1 for a module without a linear layer, got None"):
        from_module(nn.ReLU())
    with pytest.raises(ValueError, match=r"tokenizer must be neuron, edge, matrix, got 'pair'"):
        tokenize(from_module(nn.Linear(1, 1)), "pair")
    with pytest.raises(ValueError, match="most must be at least 5, the size of the largest network, got 4"):
        tokenize(from_module(nn.Linear(4, 1)), most=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": np.uint8([0, 0, 99])}, "activation codes below"),
        ({"level": np.uint8([0, 1, 1])}, "inputs|lower to higher"),
        ({"level": np.uint8([0, 0, 2])}, "levels that begin at 0 and rise by 1"),
        ({"flags": np.uint8([0, 0, 8])}, "flags up to 7, got 8"),
        ({"flags": np.uint8([2, 0, 7])}, "inputs without weights, bias or activation"),
        ({"bias": np.float32([1, 0, 0])}, "a bias of 0 where there is none"),
        ({"bias": np.float64([0, 0, 0])}, r"needs bias of type float32 and shape \(3,\), got float64"),
        ({"source": np.int64([1, 0])}, "sorted by parent"),
        ({"source": np.int64([0, 0])}, "sorted by parent, each once"),
        ({"bias": np.float32([-0.0, 0, 1])}, "a bias of 0 where there is none"),
        ({"source": np.int64([0, 2])}, "from lower to higher levels"),
        ({"source": np.int64([-1, 0])}, "from lower to higher levels"),
        ({"pointer": np.int64([0, 0, 0, 1])}, "pointers that rise from 0 to the number of edges"),
        ({"flags": np.uint8([0, 0, 6])}, "edges of weight 1 where they have none"),
    ],
)
def test_arrays_that_are_no_network_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    arrays = {
        "type": np.uint8([0, 0, 1]),
        "level": np.uint8([0, 0, 1]),
        "flags": np.uint8([0, 0, 7]),
        "bias": np.float32([0, 0, 1]),
        "pointer": np.int64([0, 0, 0, 2]),
        "source": np.int64([0, 1]),
        "weight": np.float32([2, 3]),
    }
    NeuronDAG(**arrays)
    with pytest.raises(ValueError, match=message):
        NeuronDAG(**{**arrays, **change})
