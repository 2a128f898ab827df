"""Novelty gate: what copies, noise, averages and new networks get, and distances worked out by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tabattn.zoo import NeuronTokens, canonical, from_module, permuted, tokenize
from tabattn.zoo.novelty import (
    NoveltyGate,
    NoveltyPoint,
    average,
    mates,
    nearest,
    noisy,
    novelty_gate,
    weight_vectors,
)
from tabattn.zoo.probes import probe, weight_statistics
from tabattn.zoo.scores import joined, taken


def mlp(width: int, seed: int) -> nn.Sequential:
    """Network with one hidden layer."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))


def networks(count: int, seed: int = 0, width: int = 3) -> NeuronTokens:
    """Draw networks of one architecture."""
    one = tokenize(from_module(mlp(width, 0)))
    assert isinstance(one, NeuronTokens)
    source = torch.Generator().manual_seed(seed)
    many = taken(one, torch.zeros(count, dtype=torch.long))
    weight, bias = (torch.rand(each.shape, generator=source) - 0.5 for each in (many.weight, many.bias))
    return many._replace(weight=weight * many.edge, bias=bias * ((many.flags & 2) > 0))


def rows() -> Tensor:
    """Rows on which outputs are compared."""
    return torch.randn(50, 2, generator=torch.Generator().manual_seed(0))


def tasks(*counts: int) -> tuple[Tensor, Tensor]:
    """The same task for all."""
    first, second = (torch.zeros(count, dtype=torch.long) for count in counts)
    return first, second


def perfect(tokens: NeuronTokens, task: Tensor) -> Tensor:
    """Quality 1 for all."""
    return torch.ones(len(task))


def closeness(tokens: NeuronTokens, task: Tensor) -> Tensor:
    """Quality that falls with the norm of the weights."""
    return 1 - 0.01 * tokens.weight.square().sum((1, 2))


def test_copies_are_not_new() -> None:
    training = networks(40)
    copies = permuted(taken(training, torch.arange(20)), torch.Generator().manual_seed(1))
    gate = novelty_gate(copies, training, rows(), perfect, tasks(20, 40))
    assert gate.samples.weight == pytest.approx(0, abs=1e-6)
    assert gate.samples.function == pytest.approx(0, abs=1e-5)
    assert not gate.passed


def test_networks_of_the_same_kind_are_as_new_as_training_networks_are() -> None:
    training = networks(200)
    gate = novelty_gate(networks(100, seed=1000), training, rows(), closeness, tasks(100, 200))
    assert gate.samples.weight == pytest.approx(1, abs=0.1)
    assert gate.samples.function == pytest.approx(1, abs=0.3)
    assert gate.samples.quality == pytest.approx(gate.training.quality, abs=0.01)
    assert gate.training == NoveltyPoint("training", 0.0, 200, 1.0, 1.0, gate.training.quality)


def test_samples_may_have_more_outputs_than_training_networks() -> None:
    wide = tokenize(from_module(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 4))))
    assert isinstance(wide, NeuronTokens)
    gate = novelty_gate(wide, networks(20), rows(), perfect, tasks(1, 20))
    assert gate.samples.function > 0
    assert np.isfinite(gate.samples.function)


def test_noise_and_averages_are_the_baselines() -> None:
    gate = novelty_gate(networks(10, seed=500), networks(60), rows(), closeness, tasks(10, 60))
    novelty = [point.weight for point in gate.noise]
    assert novelty == sorted(novelty)
    assert novelty[0] < 0.2
    assert gate.average is not None
    assert 0.2 < gate.average.weight < 1
    assert [point.name for point in gate.points] == ["samples", "training", *["noise"] * 6, "average"]
    assert [point.level for point in gate.noise] == [0.05, 0.1, 0.2, 0.3, 0.5, 1.0]


def test_networks_of_one_run_are_no_neighbours() -> None:
    """Checkpoints of a run are near one another, and would make anything else look new."""
    base = networks(30)
    near = base._replace(weight=base.weight * 1.001)
    training, runs = joined(base, near), torch.arange(30).repeat(2)
    samples = networks(20, seed=300)
    apart = novelty_gate(samples, training, rows(), perfect, tasks(20, 60), runs)
    alone = novelty_gate(samples, base, rows(), perfect, tasks(20, 30))
    assert apart.samples.weight == pytest.approx(alone.samples.weight, rel=0.05)
    assert novelty_gate(samples, training, rows(), perfect, tasks(20, 60)).samples.weight > 100


def point(name: str, weight: float, quality: float) -> NoveltyPoint:
    """Point of the picture."""
    return NoveltyPoint(name, 0.0, 1, weight, weight, quality)


@pytest.mark.parametrize(
    ("samples", "above_noise", "above_average", "passed"),
    [
        ((1.1, 0.9), True, True, True),
        ((0.9, 0.9), True, True, False),
        ((1.1, 0.7), True, True, False),
        ((0.4, 0.8), False, True, False),
        ((0.55, 0.79), True, False, False),
        ((1.6, 0.5), True, True, False),
        ((1.2, 0.5), False, True, False),
    ],
)
def test_the_picture(samples: tuple[float, float], above_noise: bool, above_average: bool, passed: bool) -> None:
    noise = point("noise", 0.5, 0.8), point("noise", 1.5, 0.4)
    gate = NoveltyGate(point("samples", *samples), point("training", 1, 1.0), noise, point("average", 0.7, 0.79))
    assert (gate.above_noise, gate.above_average, gate.passed) == (above_noise, above_average, passed)


def test_novelty_of_noise_at_a_quality() -> None:
    noise = point("noise", 0.5, 0.8), point("noise", 1.5, 0.4)
    gate = NoveltyGate(point("samples", 1, 0.9), point("training", 1, 1.0), noise, None)
    found = [gate.noise_at(quality) for quality in (1.1, 1.0, 0.9, 0.8, 0.6, 0.4, 0.1)]
    assert found == pytest.approx([0, 0, 0.25, 0.5, 1.0, 1.5, 1.5])
    assert gate.above_average


def test_distances_by_hand() -> None:
    one, two = mlp(2, 0), mlp(3, 1)
    tokens = tokenize([from_module(one), from_module(two)])
    assert isinstance(tokens, NeuronTokens)
    numbers, present = weight_vectors(tokens)
    assert present.sum(1).tolist() == [9, 13]
    with torch.no_grad():
        squares = (one[0].weight - two[0].weight[:2]).square().sum() + (one[0].bias - two[0].bias[:2]).square().sum()
        squares += two[0].weight[2].square().sum() + two[0].bias[2].square()
        squares += (one[2].weight[0] - two[2].weight[0, :2]).square().sum() + two[2].weight[0, 2].square()
        squares += (one[2].bias - two[2].bias).square().sum()
    found = nearest(numbers[:1], numbers[1:], (present[:1], present[1:]))
    assert float(found) == pytest.approx(float((squares / 13).sqrt()), rel=1e-6)


def test_nearest_neighbours() -> None:
    source = torch.Generator().manual_seed(0)
    vectors, others = torch.randn(300, 7, generator=source), torch.randn(500, 7, generator=source)
    expected = torch.cdist(vectors.double(), others.double()).amin(1) / 7**0.5
    torch.testing.assert_close(nearest(vectors, others), expected.float())
    groups = torch.zeros(300, dtype=torch.long), torch.zeros(500, dtype=torch.long)
    assert nearest(vectors, others, groups=groups).isinf().all()
    assert float(nearest(others[3:4] + 1e-6, others)) == pytest.approx(1e-6, rel=0.1)


def test_noise_and_averages_keep_what_is_no_weight() -> None:
    tokens = networks(4)
    for changed in (noisy(tokens, 0.1), average(tokens, torch.tensor([0, 1]), torch.tensor([2, 3]))):
        assert not (changed.weight[:2] == tokens.weight[:2])[tokens.edge[:2]].any()
        assert not changed.weight[~changed.edge].any()
        assert not changed.bias[(changed.flags & 2) == 0].any()
    many = networks(400)
    noise = (noisy(many, 0.1).weight - many.weight)[many.edge]
    assert float(noise.std()) == pytest.approx(0.1 * float(many.weight[many.edge].std()), rel=0.05)


def test_pairs_share_architecture_and_task() -> None:
    tokens = canonical(joined(networks(6), networks(6, width=4)))
    task, run = torch.tensor([0, 0, 0, 1, 1, 2] * 2), torch.tensor([0, 0, 1, 2, 3, 4] * 2)
    first, second = mates(tokens, task, run, torch.Generator().manual_seed(0))
    assert len(first) >= 4
    assert (task[first] == task[second]).all()
    assert ((first < 6) == (second < 6)).all()
    assert (run[first] != run[second]).all()


def test_too_few_networks() -> None:
    with pytest.raises(ValueError, match="needs 2 training networks and a sample at least, got 1 and 3"):
        novelty_gate(networks(3), networks(1), rows(), perfect, tasks(3, 1))


def test_probes() -> None:
    source = np.random.default_rng(0)
    tokens = networks(120)
    task = source.integers(0, 4, 120)
    hidden = source.normal(size=120)
    embeddings = np.column_stack([hidden, source.normal(size=(120, 3))])
    mean = tokens.weight.sum((1, 2)).numpy() / 9
    properties: dict[str, np.ndarray] = {
        "hidden": hidden + 0.01 * source.normal(size=120),
        "mean": mean.astype(float),
        "of the task": task + 0.01 * source.normal(size=120),
        "sign": np.where(hidden > 0, "plus", "minus"),
        "one": np.zeros(120, int),
    }
    found = {each.name: each for each in probe(embeddings, tokens, task, properties, folds=3)}
    assert found["hidden"].embedding > 0.99
    assert max(found["hidden"][3:6]) < 0.2
    assert found["mean"].statistics > 0.99
    assert found["mean"].embedding < 0.2
    assert found["of the task"].task > 0.99
    assert found["of the task"].statistics_and_task > 0.99
    assert found["of the task"].statistics < 0.3
    assert found["sign"].score == "accuracy"
    assert found["sign"].embedding > 0.9 > found["sign"].statistics
    assert found["one"].embedding == found["one"].chance == 1
    assert found["sign"].chance == pytest.approx(0.5, abs=0.1)


def test_probes_keep_groups_in_one_fold() -> None:
    """What only names the group cannot be learned across folds."""
    source = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 4)
    embeddings, value = np.eye(30)[groups], source.normal(size=30)[groups]
    tokens, task = networks(120), np.zeros(120, int)
    (apart,) = probe(embeddings, tokens, task, {"value": value}, groups, folds=3)
    (mixed,) = probe(embeddings, tokens, task, {"value": value}, folds=3)
    assert apart.embedding < 0.1
    assert mixed.embedding > 0.9


def test_statistics_of_weights() -> None:
    tokens = tokenize([from_module(mlp(2, 0)), from_module(mlp(3, 1))])
    assert isinstance(tokens, NeuronTokens)
    found = weight_statistics(tokens)
    weights = tokens.weight[1][tokens.edge[1]]
    assert found[1, :2].tolist() == pytest.approx([float(weights.mean()), float(weights.std(correction=0))])
    assert found[1, [2, 6]].tolist() == [float(weights.min()), float(weights.max())]
    assert found[0, -3:].tolist() == [2, 2, 1]
    assert found[1, -3:].tolist() == [2, 3, 1]


def test_probes_of_unequal_lengths() -> None:
    with pytest.raises(ValueError, match=r"must be as many, got \[9, 10, 10, 10\]"):
        probe(np.zeros((9, 2)), networks(10), np.zeros(10, int), {"a": np.zeros(10)})
