"""Scores of networks beside networks: what they count, worked out by hand, and what must not change them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from torch import Tensor, nn

from tabattn.contract.graphs import NeuronDAG
from tabattn.zoo import NeuronTokens, canonical, execute, from_module, permuted, tokenize
from tabattn.zoo.metrics import FunctionScores, StructureScores, TaskScores, WeightR2
from tabattn.zoo.scores import (
    architectures,
    cosine_similarity,
    functional_r2,
    matches,
    mean_distance,
    padded,
    penultimate,
    repeated_exactness,
    sample_scores,
    taken,
    validity,
)
from tabattn.zoo.task_scores import answers, named_scores, task_accuracy, task_r2, task_scores
from tests.zoo.networks import graph


def tokens_of(*modules: nn.Module) -> NeuronTokens:
    """Tokens of modules."""
    found = tokenize([from_module(each) for each in modules])
    assert isinstance(found, NeuronTokens)
    return found


def drawn(count: int = 12, seed: int = 0) -> NeuronTokens:
    """Draw networks of any graphs."""
    source = np.random.default_rng(seed)
    found = tokenize([graph(source, plain=True) for _ in range(count)])
    assert isinstance(found, NeuronTokens)
    return found


def mlp(width: int = 3, seed: int = 0, inputs: int = 2) -> nn.Sequential:
    """Network with one hidden layer."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, 1))


def plain(scores: dict[str, Tensor]) -> dict[str, float]:
    """Scores as numbers."""
    return {name: float(value) for name, value in scores.items()}


def test_a_network_agrees_with_itself() -> None:
    true = drawn()
    structure, weight, function = StructureScores(), WeightR2(), FunctionScores()
    probe = torch.randn(len(true.mask), 20, 6, generator=torch.Generator().manual_seed(0))
    for metric in (structure, weight):
        metric.update(true, true)
    function.update(true, true, probe)
    assert set(plain(structure.compute()).values()) == {1.0}
    assert plain(weight.compute()) == {"weight_r2": 1.0}
    scores = plain(function.compute())
    assert (scores["functional_r2"], scores["functional_r2_mean"], scores["functional_r2_good"]) == (1, 1, 1)
    assert scores["cosine_similarity"] == pytest.approx(1, abs=1e-6)


def test_structure_by_hand() -> None:
    """A hidden neuron is missing, one has another activation, and an edge is missing."""
    torch.manual_seed(0)
    true = tokens_of(mlp(3))
    other = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    found = tokens_of(other)
    found.type[0, 2] = 1
    found.edge[0, 3, 1] = False
    counts = [int(each) for each in matches(found, true)]
    # Vertices: i i h h h o beside i i h h o; token 4 is hidden in one, output in the other, and token 5 in one only.
    assert counts[:3] == [6, 3, 4]
    # True edges: 2, 2, 2 of the hidden neurons, 3 of the output; found: 2, 1 of the hidden, 2 of the output.
    assert counts[5:] == [9, 5, 3, 0]
    # Of 15 pairs: true only 3-1, 4-0, 4-1, and the 3 of token 5; found only the 2 of token 4.
    assert counts[3:5] == [15, 7]
    metric = StructureScores()
    metric.update(found, true)
    scores = plain(metric.compute())
    assert scores["edge_precision"] == pytest.approx(3 / 5)
    assert scores["edge_recall"] == pytest.approx(3 / 9)
    assert scores["edge_f1"] == pytest.approx(2 * 3 / 14)
    assert scores["edge_accuracy"] == pytest.approx(7 / 15)
    assert scores["type_accuracy"] == pytest.approx(3 / 6)
    assert scores["level_accuracy"] == pytest.approx(4 / 6)


@pytest.mark.parametrize("field", ["type", "level", "flags", "edge", "mask"])
def test_an_architecture_is_exact_if_all_is_right(field: str) -> None:
    true = drawn(3)
    values = getattr(true, field).clone()
    values[1, 1] = ~values[1, 1] if values.dtype == torch.bool else values[1, 1] + 1
    assert matches(true._replace(**{field: values}), true).exact.tolist() == [1, 0, 1]
    assert matches(true._replace(weight=true.weight + 1), true).exact.tolist() == [1, 1, 1]


def test_weights_by_hand() -> None:
    true = tokens_of(nn.Sequential(nn.Linear(3, 1), nn.ReLU(), nn.Linear(1, 1)))
    with torch.no_grad():
        true.weight[0, 3, :3] = torch.tensor([1.0, 2.0, 6.0])
        true.weight[0, 4, 3] = 5.0
    found = true._replace(weight=true.weight.clone(), edge=true.edge.clone())
    found.weight[0, 3, 0] += 0.5
    found.edge[0, 3, 1] = False
    metric = WeightR2()
    metric.update(found, true)
    # About the mean 3 of the first level and 5 of the second: 4 + 1 + 9.
    assert float(metric.compute()["weight_r2"]) == pytest.approx(1 - (0.25 + 4) / 14)


def test_functions_by_hand() -> None:
    true = torch.randn(3, 50, 2, generator=torch.Generator().manual_seed(1))
    true[1] = 4.0
    found = true.clone()
    found[0] += 0.5
    found[2, 0, 0] = torch.inf
    r2 = functional_r2(found, true)
    assert float(r2[0]) == pytest.approx(1 - 0.5 / float(true[0].var(0, correction=0).sum()))
    assert r2[1].isnan()
    assert float(r2[2]) == -torch.inf
    assert float(functional_r2(true[:1, :, :1], true[:1])[0]) < 1
    assert float(functional_r2(torch.cat([true, true], -1), true)[0]) == 1


def test_a_network_is_constant_by_the_standard_deviation_of_its_outputs() -> None:
    true = torch.randn(2, 50, 1, generator=torch.Generator().manual_seed(1))
    true = (true - true.mean(1, keepdim=True)) / true.std(1, keepdim=True) * torch.tensor([5e-4, 5e-3])[:, None, None]
    assert functional_r2(true, true).isnan().tolist() == [True, False]


def test_the_mean_of_functional_r2_is_of_clipped_values() -> None:
    line = nn.Linear(2, 1)
    true = tokens_of(*[line] * 3)
    changed = true._replace(weight=true.weight * torch.tensor([1.0, 2.2, 9.0])[:, None, None])
    probe = torch.randn(3, 40, 2, generator=torch.Generator().manual_seed(0))
    metric = FunctionScores()
    metric.update(changed, true, probe)
    # 1, between 0 and -1, and far below.
    r2 = functional_r2(execute(changed, probe).outputs, execute(true, probe).outputs)
    assert r2[2] < -1 < r2[1] < 0
    assert float(metric.compute()["functional_r2_mean"]) == pytest.approx((1 + float(r2[1]) - 1) / 3, abs=1e-5)


def test_penultimate_activations() -> None:
    module = mlp(3)
    tokens = padded(tokens_of(module, nn.Sequential(nn.Linear(2, 1))), 9)
    x = torch.randn(2, 7, 2)
    found = penultimate(tokens, execute(tokens, x).values)
    torch.testing.assert_close(found[0, :, :3], module[:2](x[0]).detach())
    assert not found[0, :, 3:].any()
    assert not found[1].any()


def test_cosine_by_hand() -> None:
    true = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]]])
    found = torch.tensor([[[2.0, 2.0, 0.0], [-3.0, -4.0, 0.0], [1.0, 1.0, 0.0]]])
    cosine = cosine_similarity(found, true)
    assert cosine[0, :2].tolist() == pytest.approx([0.5**0.5, -1])
    assert cosine[0, 2].isnan()


def test_dead_and_shallow_networks_are_counted_and_left_out() -> None:
    dead = mlp()
    with torch.no_grad():
        dead[2].weight.zero_()
    true = tokens_of(mlp(), dead, nn.Sequential(nn.Linear(2, 1)))
    metric = FunctionScores()
    metric.update(true, true, torch.randn(3, 10, 2))
    scores = plain(metric.compute())
    assert scores["constant"] == pytest.approx(1 / 3)
    assert scores["cosine_undefined"] == pytest.approx(1 / 3)
    assert scores["functional_r2"] == scores["functional_r2_good"] == 1
    assert scores["cosine_distance"] == pytest.approx(0, abs=1e-6)


def test_task_r2() -> None:
    source = torch.Generator().manual_seed(2)
    modules = [mlp(seed=seed) for seed in range(3)]
    tokens = tokens_of(*modules)
    x, y = torch.randn(3, 12, 4, generator=source), torch.randn(3, 12, 1, generator=source)
    x[..., 2:] = torch.nan
    y[:, 9:], x[:, 9:] = torch.nan, torch.nan
    expected = [
        r2_score(target[:9, 0], module(rows[:9, :2]).detach()[:, 0])
        for module, rows, target in zip(modules, x, y, strict=True)
    ]
    torch.testing.assert_close(task_r2(tokens, x, y), torch.tensor(expected, dtype=torch.float))
    metric = TaskScores()
    shifted = tokens._replace(bias=tokens.bias + 0.1 * (tokens.flags > 4))
    metric.update(shifted, tokens, x, y)
    delta = (task_r2(shifted, x, y) - task_r2(tokens, x, y)).median()
    assert float(metric.compute()["delta_task"]) == float(delta) != 0


def classified() -> tuple[NeuronTokens, Tensor, Tensor, Tensor, list[float]]:
    """Networks of three classes, of a logit and of a number, their tasks, and their accuracies or R2."""
    source = torch.Generator().manual_seed(5)
    modules = [nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 1)), nn.Sequential(nn.Linear(2, 1))]
    x, y = torch.randn(3, 20, 2, generator=source), torch.full((3, 20, 3), torch.nan)
    labels = torch.randint(3, (20,), generator=source)
    y[0] = torch.nn.functional.one_hot(labels, 3).float()
    y[1, :, 0] = (labels > 0).float()
    y[2, :, 0] = x[2].sum(1)
    y[:, 15:] = torch.nan
    outputs = [module(rows).detach()[:15] for module, rows in zip(modules, x, strict=True)]
    right = outputs[0].argmax(1) == labels[:15], (outputs[1][:, 0] > 0) == (labels[:15] > 0)
    expected = [float(each.float().mean()) for each in right]
    expected.append(float(r2_score(y[2, :15, 0], outputs[2][:, 0])))
    return tokens_of(*modules), x, y, torch.tensor([3, 2, 0]), expected


def test_task_accuracy_where_targets_are_classes() -> None:
    tokens, x, y, classes, expected = classified()
    assert task_scores(tokens, x, y, classes).tolist() == pytest.approx(expected, abs=1e-5)
    assert task_scores(tokens, x, y, None)[2] == pytest.approx(expected[2], abs=1e-5)
    assert 0 < min(expected[:2]) < max(expected[:2]) < 1
    broken = tokens._replace(bias=tokens.bias / 0)
    assert task_accuracy(broken, x, y)[:2].tolist() == [0, 0]


def test_scores_of_classes_have_their_own_names() -> None:
    tokens, x, y, classes, expected = classified()
    metric = TaskScores()
    none = torch.zeros(3, dtype=torch.bool)
    metric.update(tokens, tokens, x, y, none, classes)
    assert set(metric.compute()) == {"task_r2", "task_r2_original", "delta_task"}
    metric.update(tokens, tokens, x, y, torch.tensor([True, False, True]), classes)
    found = metric.compute()
    assert float(found["task_accuracy"]) == float(found["task_accuracy_original"]) == pytest.approx(expected[0])
    assert float(found["task_r2"]) == pytest.approx(expected[2], abs=1e-5)
    assert float(found["delta_accuracy"]) == 0
    metric.reset()
    metric.update(tokens, tokens, x, y, classes > 0, classes)
    assert set(metric.compute()) == {"task_accuracy", "task_accuracy_original", "delta_accuracy"}
    scores = task_scores(tokens, x, y, classes)
    named = named_scores(scores, classes)
    assert named["r2"].isnan().tolist() == [True, True, False]
    assert named["accuracy"].isnan().tolist() == [False, False, True]
    assert set(named_scores(scores, None)) == {"r2"}


def test_answers_of_classes_are_probabilities() -> None:
    """Over the outputs that a task has: of one the logit, of several the softmax; numbers stay as they are."""
    outputs = torch.tensor([[[1.0, -2.0, 30.0]], [[1.5, 9.0, 9.0]], [[1.5, 9.0, 9.0]]])
    y = torch.tensor([[[1.0, 0.0, torch.nan]], [[1.0, torch.nan, torch.nan]], [[1.0, torch.nan, torch.nan]]])
    found = answers(outputs, y, torch.tensor([2, 2, 0]))
    assert found[0, 0].tolist() == pytest.approx([0.952574, 0.047426, 0], abs=1e-5)
    assert float(found[1, 0, 0]) == pytest.approx(float(torch.tensor(1.5).sigmoid()))
    assert torch.equal(found[2], outputs[2])
    assert answers(outputs[..., :1], y, None)[0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("metric", [StructureScores, WeightR2, FunctionScores, TaskScores])
def test_batches_padding_and_what_is_not_scored(metric: Callable[[], StructureScores]) -> None:
    true, found = drawn(9, seed=1), drawn(9, seed=2)
    source = torch.Generator().manual_seed(3)
    further: tuple[Tensor, ...] = ()
    if metric is FunctionScores:
        further = (torch.randn(9, 8, 6, generator=source),)
    elif metric is TaskScores:
        further = (torch.randn(9, 8, 6, generator=source), torch.randn(9, 8, 5, generator=source))
    scored = torch.arange(9) != 4
    whole, parts = metric(), metric()
    whole.update(*(taken(each, scored) for each in (found, true)), *(each[scored] for each in further))
    for own in (slice(0, 3), slice(3, 9), slice(0, 0)):
        arguments = (
            padded(NeuronTokens(*(part[own] for part in found)), 40),
            NeuronTokens(*(part[own] for part in true)),
        )
        parts.update(*arguments, *(each[own] for each in further), scored=scored[own])
    assert plain(whole.compute()) == pytest.approx(plain(parts.compute()), rel=1e-5, abs=1e-6, nan_ok=True)


def test_valid_networks() -> None:
    assert validity(drawn(40)).all()
    assert validity(padded(drawn(4), 50)).all()
    assert validity(tokens_of(mlp())).tolist() == [True]


def breakages() -> dict[str, Callable[[NeuronTokens], None]]:
    """What makes a network invalid, done to the first network: 2 inputs, 3 hidden neurons, an output."""

    def put(field: str, *place: int | slice, value: float) -> Callable[[NeuronTokens], None]:
        def breaks(tokens: NeuronTokens) -> None:
            getattr(tokens, field)[0][place] = value

        return breaks

    return {
        "weight": put("weight", 3, 1, value=torch.nan),
        "bias": put("bias", 3, value=torch.inf),
        "no bias": put("flags", 3, value=1),
        "unit weights": put("flags", 3, value=2),
        "backward edge": put("edge", 2, 3, value=True),
        "edge on one level": put("edge", 3, 2, value=True),
        "edge from nothing": put("edge", 3, 6, value=True),
        "self edge": put("edge", 3, 3, value=True),
        "level skipped": put("level", 5, value=3),
        "levels fall": put("level", 4, value=0),
        "no input": put("level", slice(0, 2), value=1),
        "activation": put("type", 3, value=10),
        "negative activation": put("type", 3, value=-1),
        "activation of an input": put("type", 0, value=1),
        "flags": put("flags", 3, value=8),
        "flags of an input": put("flags", 0, value=2),
        "no output": put("flags", 5, value=3),
        "gap": put("mask", 3, value=False),
        "no parents": put("edge", 5, value=False),
        "hidden without parents": put("edge", 4, value=False),
    }


@pytest.mark.parametrize("name", breakages())
def test_invalid_networks(name: str) -> None:
    tokens = padded(tokens_of(mlp(), mlp(seed=1)), 8)
    tokens = NeuronTokens(*(each.clone() for each in tokens))
    breakages()[name](tokens)
    assert validity(tokens).tolist() == [False, True]


def test_what_no_graph_holds_is_not_valid() -> None:
    """Random damage: a network that ``NeuronDAG`` refuses is not valid."""
    source = np.random.default_rng(0)
    refused = 0
    for seed in range(60):
        tokens = NeuronTokens(*(each.clone() for each in padded(drawn(1, seed), 30)))
        field = source.choice(["type", "level", "flags", "edge"])
        part = getattr(tokens, field)
        place = tuple(source.integers(0, tokens.mask.sum(), part.ndim - 1))
        part[(0, *place)] = ~part[(0, *place)] if field == "edge" else int(source.integers(0, 8))
        try:
            held = tokens.population()[0]
        except ValueError:
            refused += 1
            assert not validity(tokens).item()
            continue
        assert isinstance(held, NeuronDAG)
    assert refused > 10


def test_scores_of_samples() -> None:
    training = canonical(tokens_of(mlp(3), mlp(4), mlp(4, seed=1)))
    known, new = mlp(3, seed=2), mlp(5, seed=3)
    samples = canonical(tokens_of(known, known, new, mlp(seed=4)))
    samples.weight[3, 3, 1] = torch.nan
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    scores = sample_scores(samples, training, x)
    assert scores["validity"] == 0.75
    assert scores["uniqueness"] == pytest.approx(2 / 3)
    assert scores["novelty"] == pytest.approx(1 / 3)
    with torch.no_grad():
        outputs = [module(x)[:, 0] for module in (known, new, mlp(3), mlp(4), mlp(4, seed=1))]
    rms = [[float((one - two).square().mean().sqrt()) for two in outputs] for one in outputs]
    expected = (2 * rms[0][1] / 3) / ((rms[2][3] + rms[2][4] + rms[3][4]) / 3)
    assert scores["diversity"] == pytest.approx(expected, rel=1e-5)


def test_distances_of_many_networks_are_of_some() -> None:
    vectors = torch.randn(2500, 3, generator=torch.Generator().manual_seed(0))
    vectors[7] = torch.nan
    assert mean_distance(vectors) == pytest.approx(mean_distance(vectors[8:1800]), rel=0.02)
    assert np.isnan(mean_distance(vectors[:1]))


def test_architectures_do_not_depend_on_padding_or_order() -> None:
    tokens = canonical(tokens_of(mlp(3), mlp(3, seed=1), mlp(4)))
    first, second, third = architectures(tokens)
    assert first == second != third
    shuffled = canonical(permuted(padded(tokens, 20), torch.Generator().manual_seed(0)))
    assert architectures(shuffled) == [first, second, third]


def test_exactness_of_repeated_decodings() -> None:
    true = drawn(2)
    wrong = true._replace(flags=true.flags + 1)
    answers = iter([true, wrong, true, true])
    assert repeated_exactness(lambda: next(answers), true, times=4) == 0.75
